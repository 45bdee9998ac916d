"""Stages whose DVC was killed: they end by themselves, and nothing of what they computed reaches an out."""

import random
import subprocess
import time

import psutil
import pytest
import yaml

from copies import ENVIRONMENT
from test_episodes import contents
from test_killed import SEES_PROCESSES, wait_until

OUTS = ("data/worldmodel/dreams", "data/worldmodel/prepared", "data/worldmodel/normalized", "artifacts")
OTHER = {  # a param of each stage's own
    "dreams": ("dreams.seed", 7),
    "train": ("train.seed", 7),
    "export": ("export.opset", 19),
}
pytestmark = [pytest.mark.slow, SEES_PROCESSES]


def outs_of(project):
    found = {f"{name}/{path}": content for name in OUTS for path, content in contents(project.folder / name).items()}
    return {name: content for name, content in found.items() if not name.endswith("timing.json")}


def set_param(project, name, value):
    section, leaf = name.split(".")
    values = yaml.safe_load(project.read("params.yaml"))
    values[section][leaf] = value
    project.write("params.yaml", yaml.safe_dump(values))


def left_by(dvc):
    """The processes below it, once it was killed."""
    with dvc:
        below = psutil.Process(dvc.pid).children(recursive=True)
        dvc.kill()
    return below


@pytest.mark.parametrize(("stage", "shell"), [*((stage, "/bin/bash") for stage in OTHER), ("train", "/bin/sh")])
def test_an_orphan_with_other_params_leaves_nothing(copy, stage, shell):
    """Killed at random moments; then the earlier params come from the cache, or are computed anew."""
    rng = random.Random(f"{stage} {shell}")
    outs, params, lock = outs_of(copy), copy.read("params.yaml"), copy.read("dvc.lock")
    for again in ([], ["--force"]):
        set_param(copy, *OTHER[stage])
        command = ["dvc", "repro", "--single-item", "--force", stage]
        pipes = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        dvc = subprocess.Popen(command, cwd=copy.folder, env=ENVIRONMENT | {"SHELL": shell}, **pipes)
        time.sleep(1 + 4 * rng.random())
        orphans = left_by(dvc)
        copy.write("params.yaml", params)
        copy.write("dvc.lock", lock)  # DVC may have been done before, or have been killed while it wrote it
        copy.repro("--single-item", *again, stage)
        copy.repro("--single-item", "validate")  # whose metrics a stage before it takes away
        published = {name: content for name, content in outs_of(copy).items() if "/." not in name or name in outs}
        assert published == outs  # the orphan may need a moment to clear up
        wait_until(lambda orphans=orphans: not any(each.is_running() for each in orphans), seconds=60)
        assert outs_of(copy) == outs
        assert copy.read("dvc.lock") == lock
