import os
import time

import pytest

from commands import stage
from test_checkpoint import saved
from worldmodel.checkpoints import remote as mirror
from worldmodel.checkpoints.clearing import DAYS, clear_abandoned
from worldmodel.core import locking

NAMES = [digit * 64 for digit in "abcd"]


def left(folder, days):
    """Checkpoints that were last written so many days ago."""
    saved(folder, 5, 10)
    (folder / locking.LOCK).write_text("1")
    for path in folder.iterdir():
        os.utime(path, (time.time(), time.time() - days * 24 * 3600))


def test_what_nobody_came_back_for_is_removed_and_told(tmp_path, capsys):
    left(tmp_path / NAMES[0], DAYS + 0.1)
    left(tmp_path / NAMES[1], DAYS - 0.1)
    clear_abandoned(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [NAMES[1]]
    assert capsys.readouterr().err == f"{tmp_path / NAMES[0]}: removed, nobody has gone on from here for 14 days\n"


def test_one_newer_checkpoint_keeps_the_older_one(tmp_path):
    left(tmp_path / NAMES[0], DAYS + 1)
    max((tmp_path / NAMES[0]).glob("*.safetensors")).touch()
    clear_abandoned(tmp_path)
    assert len(list((tmp_path / NAMES[0]).glob("*.safetensors"))) == 2


def test_what_a_process_holds_stays_however_old_it_is(tmp_path, capsys):
    folder = tmp_path / NAMES[0]
    with locking.holding(folder, "train"):
        left(folder, DAYS + 100)
        clear_abandoned(tmp_path)
        assert len(list(folder.glob("*.safetensors"))) == 2
    assert capsys.readouterr().err == ""
    left(folder, DAYS + 100)
    clear_abandoned(tmp_path)
    assert not folder.exists()


def test_a_training_that_was_killed_before_its_first_checkpoint_leaves_nothing_for_long(tmp_path):
    folder = tmp_path / NAMES[0]
    folder.mkdir()
    (folder / locking.LOCK).write_text("1")
    clear_abandoned(tmp_path)
    assert folder.exists()
    os.utime(folder / locking.LOCK, (0, 0))
    clear_abandoned(tmp_path)
    assert not folder.exists()


@pytest.mark.parametrize("name", ["a" * 63, "notes", "A" * 64])
def test_other_folders_are_left_alone(tmp_path, name):
    left(tmp_path / name, DAYS + 100)
    clear_abandoned(tmp_path)
    assert len(list((tmp_path / name).iterdir())) == 3


def test_where_there_never_was_a_checkpoint_there_is_nothing_to_do(tmp_path):
    clear_abandoned(tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_a_stage_that_begins_clears_up_after_those_of_its_name(home, tmp_path, monkeypatch, capsys):
    """It stops right after, at an address that is none."""
    monkeypatch.setenv(mirror.VARIABLE, "team/runs")
    for name in ("train", "dreams"):
        left(home / ".checkpoints" / name / NAMES[0], DAYS + 1)
    assert stage("dreams", tmp_path, {}, logs=tmp_path, out=tmp_path / "out") == 1
    assert "error: WORLDMODEL_CHECKPOINTS: found 'team/runs', expected an address" in capsys.readouterr().err
    (untouched,) = home.glob(f".checkpoints/*/{NAMES[0]}")
    assert untouched.parent.name == "train"
