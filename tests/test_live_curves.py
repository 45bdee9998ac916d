import os
import re
import signal
import subprocess
import time

import pytest

from copies import ENVIRONMENT
from projects import make_project
from test_train import rows
from worldmodel.arrays.mixing import Mixture
from worldmodel.checkpoints import checkpoint
from worldmodel.checkpoints.checkpoint import Interval, held
from worldmodel.stages import train

CURVES = ("loss.csv", "rho.csv")


class PowerCutError(Exception):
    pass


@pytest.fixture
def cut(monkeypatch):
    """Makes the power fail when the batch of a step is drawn; None: never."""
    whole = Mixture.batch

    def at(step):
        def batch(mixture, t, part):
            if t == step:
                raise PowerCutError
            return whole(mixture, t, part)

        monkeypatch.setattr(Mixture, "batch", batch)

    return at


def curves(project):
    return {name: (project.plots / name).read_bytes() for name in CURVES}


def run(project, kept_in):
    given = (project.normalized, project.normalizer, project.trained, project.plots, project.clock, project.settings)
    with held(kept_in, Interval(steps=1, seconds=0)) as kept:
        return train.train(*given, kept)


@pytest.mark.parametrize("taken", [1, 7, 11])
def test_after_a_look_the_curves_are_those_of_the_steps_taken(tmp_path, cut, taken):
    project = make_project(tmp_path)
    cut(taken)
    with pytest.raises(PowerCutError):
        project.train()
    early = curves(project)
    assert [int(rows(project.plots / name)[-1]["step"]) for name in CURVES] == [taken, taken]
    cut(None)
    project.train()
    assert all(whole.startswith(early[name]) and whole != early[name] for name, whole in curves(project).items())


def test_a_training_that_goes_on_shows_at_once_where_it_was_and_ends_in_the_same_bytes(tmp_path, cut, monkeypatch):
    monkeypatch.setattr(checkpoint, "SHARE", float("inf"))
    whole, project = make_project(tmp_path / "whole"), make_project(tmp_path / "cut")
    whole.train()
    cut(6)
    with pytest.raises(PowerCutError):
        run(project, tmp_path / "kept")
    early = curves(project)
    for name in CURVES:
        (project.plots / name).unlink()  # as DVC does before a stage runs
    (project.plots / ".loss.csv.4711.tmp").write_text("step,ser")  # of one that died while it wrote
    with pytest.raises(PowerCutError):
        run(project, tmp_path / "kept")
    assert curves(project) == early
    assert sorted(path.name for path in project.plots.iterdir()) == list(CURVES)
    cut(None)
    run(project, tmp_path / "kept")
    assert curves(project) == curves(whole)


@pytest.mark.usefixtures("home")
def test_dvc_draws_a_training_at_work_and_the_terminal_says_how_long_it_will_take(copy, tmp_path):
    project = copy
    project.set_train(steps=600)
    drawn = project.folder / "artifacts/plots/loss.csv"
    before = drawn.stat().st_ino
    with subprocess.Popen(
        ["dvc", "repro", "train"], cwd=project.folder, env=ENVIRONMENT, stderr=subprocess.PIPE, text=True
    ) as dvc:
        while not drawn.exists() or drawn.stat().st_ino == before:
            assert dvc.poll() is None
            time.sleep(0.01)
        (lock,) = project.folder.glob(".checkpoints/train/*/lock")
        os.kill(int(lock.read_text()), signal.SIGSTOP)
        seen = rows(drawn)
        project.run("dvc", "plots", "show", "artifacts/plots/loss.csv", "--out", str(tmp_path / "page"))
        os.kill(int(lock.read_text()), signal.SIGCONT)
        said = dvc.communicate(timeout=500)[1]
    assert dvc.returncode == 0, said
    assert len(seen) < len(rows(drawn))
    page = (tmp_path / "page/index.html").read_text()
    assert f'"step": "{seen[-1]["step"]}"' in page
    assert '"step": "600"' not in page
    assert re.search(r"train: .*%.*\[\d\d:\d\d<\d\d:\d\d, .*step/s", said)
