"""What dies goes on, to the bits of what never died."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from copies import ENVIRONMENT


@pytest.fixture(scope="module")
def seen(tmp_path_factory):
    """What tests/killing.py saw."""
    command = [sys.executable, str(Path(__file__).parent / "killing.py"), str(tmp_path_factory.mktemp("killing"))]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=500)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout) | {"said": done.stderr}


pytestmark = pytest.mark.slow


def test_a_killed_training_reaches_the_same_bits(seen):
    ways = ("SIGKILL", "SIGTERM", "SIGINT", "no room", "writing", "teacher", "teacher, no room")
    assert seen["equal"] == dict.fromkeys(ways, True)


def test_it_was_killed_often_and_at_last_left_alone(seen):
    assert all(codes[-1] == 0 for codes in seen["codes"].values())
    assert sum(code != 0 for codes in seen["codes"].values() for code in codes) >= 20
    assert (
        set(seen["codes"]["SIGKILL"])
        == set(seen["codes"]["writing"])
        == set(seen["codes"]["teacher"])
        == {-signal.SIGKILL, 0}
    )


@pytest.mark.parametrize(("how", "code"), [("SIGTERM", 143), ("SIGINT", 130)])
def test_a_signal_that_can_be_heard_is_answered(seen, how, code):
    assert code in seen["codes"][how]
    assert set(seen["codes"][how]) <= {code, 0, -signal.Signals[how]}  # dead at once while there is nothing to save


def test_where_there_is_no_room_a_training_says_from_where_it_will_go_on(seen):
    assert seen["codes"]["no room"] == seen["codes"]["teacher, no room"] == [-signal.SIGKILL, 1, 0]
    said = r"no checkpoint of 0\.\d MB could be written \(File too large\); make room and run again, it goes on from"
    assert len(re.findall(said, seen["said"])) == 2


def test_checkpoints_of_finished_trainings_are_gone(seen):
    assert seen["left"] == []


class Trainings:
    """`dvc repro train` in a project, watched from outside."""

    def __init__(self, project):
        self.project, self.folder = project, project.folder

    def begin(self):
        command = ["dvc", "repro", "train"]
        pipes = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
        return subprocess.Popen(command, cwd=self.folder, env=ENVIRONMENT, text=True, **pipes)

    def failing(self):
        """What it said."""
        with self.begin() as dvc:
            said = dvc.communicate(timeout=500)[1]
        assert dvc.returncode != 0
        return said

    def checkpoints(self):
        return list(self.folder.glob(".checkpoints/train/*/*.safetensors"))

    def pid(self):
        """Of the trainer."""
        (lock,) = self.folder.glob(".checkpoints/train/*/lock")
        return int(lock.read_text())

    def attempts(self):
        """The earliest first."""
        records = [json.loads(path.read_text()) for path in self.folder.glob("runs/*/metadata.json")]
        found = [each for record in records if record["stage"] == "train" for each in record["attempts"]]
        return sorted(found, key=lambda attempt: attempt["start"])


def wait_until(there, seconds=500):
    end = time.monotonic() + seconds
    while not there():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_dvc_is_killed_its_orphan_too_and_the_code_is_edited_and_yet_the_bits_are_the_same(copy):
    project = copy
    project.set_train(steps=900)
    trainings = Trainings(project)
    before = len(trainings.attempts())
    lock = project.read("dvc.lock")

    # DVC dies, the trainer lives on: a second one is refused
    dvc = trainings.begin()
    wait_until(trainings.checkpoints)
    orphan = trainings.pid()
    os.kill(orphan, signal.SIGSTOP)
    dvc.kill()
    dvc.wait(timeout=60)
    dvc.stderr.close()  # which the orphan still holds
    assert f"process {orphan} is here to compute the same; wait until it ends, or end it" in trainings.failing()
    os.kill(orphan, signal.SIGKILL)

    # The next one goes on, and its code is edited meanwhile: no result, until the edit is taken back
    path = "src/worldmodel/model/losses.py"
    with trainings.begin() as dvc:
        wait_until(lambda: len(trainings.attempts()) == before + 2)
        text = project.read(path)
        project.write(path, text + "# edited\n")
        said = dvc.communicate(timeout=500)[1]
    assert "going on from step " in said
    assert "train: what it depends on changed while it ran: code worldmodel/model/losses.py" in said
    assert project.read("dvc.lock") == lock
    assert trainings.checkpoints()
    project.write(path, text)
    assert project.repro("train") == ({"train"}, set())
    assert not trainings.checkpoints()
    outcomes = [each["outcome"] for each in trainings.attempts()[before:]]
    assert [outcomes[0], outcomes[1][:6], outcomes[2]] == [None, "failed", "finished"]

    # What never died
    lock = project.read("dvc.lock")
    assert project.repro("--force", "--single-item", "train") == ({"train"}, set())
    assert project.read("dvc.lock") == lock
