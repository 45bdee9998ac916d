"""Trainings by several processes: the bits of one, whoever dies meanwhile."""

import os
import shutil
import signal
import subprocess
import sys

import psutil
import pytest
import torch
import yaml

from copies import ENVIRONMENT, ROOT
from killing import training
from projects import Project, make_project, make_train
from test_episodes import contents
from test_killed import wait_until
from worldmodel.checkpoints import checkpoint
from worldmodel.model import processes
from worldmodel.model.processes import VARIABLE, Place, joined
from worldmodel.model.sharding import Team

FIVE_SHARDS = {"batch_size": 1300, "hidden_dim": 8}
TWO_SHARDS = {"batch_size": 512, "hidden_dim": 8, "steps": 70}
AT_WORK = """
import sys
from pathlib import Path
from killing import checkpoint, training
from projects import Project, make_train
from worldmodel.core.errors import outer_edge

checkpoint.SHARE = float("inf")
folder = Path(sys.argv[1])
with outer_edge():
    training(Project(folder, make_train(**eval(sys.argv[2]))), folder / "out", folder / "kept")
"""


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Normalized, and trained by one process."""
    project = make_project(tmp_path_factory.mktemp("data"), steps=5, **FIVE_SHARDS)
    project.train()
    return project


def again(data, folder, **fields):
    """The same data, nothing trained."""
    shutil.copytree(data.normalized, folder / "normalized")
    shutil.copy(data.normalizer, folder)
    return Project(folder, make_train(**(FIVE_SHARDS | {"steps": 5} | fields)))


def results(project):
    return contents(project.trained) | contents(project.plots)


@pytest.mark.parametrize("count", [2, 4])
def test_several_processes_compute_the_bits_of_one(tmp_path, data, monkeypatch, count):
    project = again(data, tmp_path)
    monkeypatch.setenv(VARIABLE, str(count))
    project.train()
    assert results(project) == results(data)
    assert not torch.distributed.is_initialized()


@pytest.mark.slow
def test_torchrun_computes_them_too_and_one_process_leaves_all_that_is_left(tmp_path, data):
    project = again(data, tmp_path)
    whole = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    whole["train"], whole["validate"]["horizon"] = vars(project.settings), 4
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(whole), encoding="utf-8")
    shutil.copy(ROOT / "versions.yaml", tmp_path)
    paths = {"normalized": "normalized", "normalizer": "normalizer.json", "out": "train", "plots": "plots"}
    paths["timing"] = "timing.json"
    given = [part for name, path in paths.items() for part in (f"--{name}", path)]
    command = ["torchrun", "--standalone", "--nproc-per-node", "2", str(ROOT / "src/train.py"), *given]
    environment = ENVIRONMENT | {"DVC_ROOT": str(tmp_path)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert results(project) == results(data)
    assert len(list(tmp_path.glob("runs/*/metadata.json"))) == 1
    assert done.stdout.count("weights of step") == 1
    assert "Traceback" not in done.stderr


class AtWork:
    """A training in a process, with a checkpoint at every step, by two processes."""

    def __init__(self, project):
        self.project = project

    def begin(self):
        code = [sys.executable, "-c", AT_WORK, str(self.project.folder), repr(TWO_SHARDS)]
        environment = ENVIRONMENT | {VARIABLE: "2", "PYTHONPATH": os.pathsep.join([str(ROOT / "tests"), *sys.path])}
        pipes = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True, "start_new_session": True}
        return subprocess.Popen(code, env=environment, **pipes)

    def stopped(self, stop):
        """Exit code and what it said, once stop(first, other) was called between two steps, and both have ended."""
        before = self.checkpoints()
        with self.begin() as first:
            wait_until(lambda: self.checkpoints() - before, seconds=120)
            (other,) = [each for each in psutil.Process(first.pid).children() if "--process-name" in each.cmdline()]
            stop(first, other)
            said = first.communicate(timeout=60)[1]
            wait_until(lambda: not other.is_running(), seconds=20)
        return first.returncode, said

    def checkpoints(self):
        return set(self.project.folder.glob("kept/*.safetensors"))


@pytest.mark.slow
def test_whichever_process_dies_all_end_and_another_number_goes_on_to_the_same_bits(tmp_path, data, monkeypatch):
    project = again(data, tmp_path, **TWO_SHARDS)
    work = AtWork(project)

    # One process, then two, with a checkpoint at every step
    step = Team.step
    with monkeypatch.context() as cut:
        cut.setattr(checkpoint, "SHARE", float("inf"))
        cut.setattr(Team, "step", lambda team, t, *given: step(team, t, *given) if t < 3 else 1 / 0)
        with pytest.raises(ZeroDivisionError):
            training(project, tmp_path / "out", tmp_path / "kept")
    code, said = work.stopped(lambda _, other: other.kill())
    assert code == 1
    assert "going on from step 3" in said
    assert "error: process 1 of the 2 of this training has ended (SIGKILL); run the same command again" in said

    code, said = work.stopped(lambda first, _: os.killpg(first.pid, signal.SIGINT))
    assert code == 130
    assert "SIGINT: stopped after step" in said
    assert said.count("error:") == said.count("Traceback") == 0

    assert work.stopped(lambda first, _: first.kill())[0] == -signal.SIGKILL

    # And one again
    training(project, tmp_path / "out", tmp_path / "kept")
    training(project, tmp_path / "whole", None)
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


def test_processes_without_work_are_told_and_not_started(tmp_path, data, monkeypatch, capsys):
    monkeypatch.setattr(processes, "get_context", None)
    monkeypatch.setenv(VARIABLE, "3")
    again(data, tmp_path, batch_size=511, steps=1).train()
    assert "windows is work for 1: there is nothing to do for 2 of 3 processes" in capsys.readouterr().err


def test_what_is_no_number_of_processes_is_refused_before_anything_is_done(tmp_path, data, monkeypatch):
    project = again(data, tmp_path)
    for text in ("two", "0", "-1", "2.0"):
        monkeypatch.setenv(VARIABLE, text)
        with pytest.raises(ValueError, match=rf"^{VARIABLE}: found '{text}', expected a whole number of at least 1"):
            project.train()
    for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.setenv(name, "1")
    with pytest.raises(ValueError, match=r"^this is process 1 of torchrun's, and only src/train\.py trains"):
        project.train()
    assert not project.trained.exists()


def test_on_gpus_each_process_has_one_of_its_own(monkeypatch):
    begun, settings = [], make_train(**FIVE_SHARDS, device="cuda")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", begun.append)
    monkeypatch.setattr(torch.distributed, "init_process_group", lambda backend, **_: begun.append(backend))
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert joined(Place(3, 4), settings, torch.device("cuda"), "this") == Team(5, 3, 4, "this")
    assert begun == [1, "nccl"]
    monkeypatch.delenv("LOCAL_RANK")
    with pytest.raises(ValueError, match=r"^process 3 of this training has no GPU of its own: 2 are here; start"):
        joined(Place(3, 4), settings, torch.device("cuda"), "this")
