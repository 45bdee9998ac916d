"""What dies goes on, to the bits of what never died."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from copies import ENVIRONMENT, ROOT, tiny_params
from factories import make_episodes, write_logs
from test_episodes import contents
from worldmodel.core import params
from worldmodel.stages.dreams import dreams

SEES_PROCESSES = pytest.mark.skipif(not Path("/proc").is_dir(), reason="no /proc that lists processes")


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
    assert sum(code != 0 for codes in seen["codes"].values() for code in codes) >= 15
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


class Dreaming:
    """src/dreams.py in an empty folder, with a teacher that takes a while."""

    def __init__(self, folder):
        self.folder = folder
        settings = tiny_params()
        settings["dreams"]["teacher"] |= {"steps": 300, "dropout": 0.2, "hidden_dim": 64}
        (folder / "params.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
        shutil.copy(ROOT / "versions.yaml", folder)
        write_logs(folder / "logs", make_episodes(30, 20, agents=3))

    def begin(self, jobs):
        command = [sys.executable, str(ROOT / "src/dreams.py"), "--logs", "logs", "--out", "dreams"]
        environment = ENVIRONMENT | {"WORLDMODEL_JOBS": jobs, "DVC_ROOT": str(self.folder)}
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True, "start_new_session": True}
        return subprocess.Popen(command, cwd=self.folder, env=environment, **pipes)

    def checkpoints(self):
        return list(self.folder.glob(".checkpoints/dreams/*/member-*/*.safetensors"))

    def stopped(self, number, everyone):
        """What it said and its exit code, once it was at work in two processes and these have ended, too."""
        stage = self.begin("2")
        wait_until(self.checkpoints)
        workers = children_of(stage.pid)
        assert len(workers) >= 2
        (os.killpg if everyone else os.kill)(stage.pid, number)
        said = stage.communicate(timeout=300)[0]
        wait_until(lambda: not any(Path(f"/proc/{worker}").exists() for worker in workers), seconds=120)
        assert "Traceback" not in said
        assert self.checkpoints()
        return stage.returncode


@SEES_PROCESSES
def test_a_teacher_fitted_by_two_processes_is_killed_and_goes_on_in_one_to_the_same_bits(tmp_path):
    dreaming = Dreaming(tmp_path)
    assert dreaming.stopped(signal.SIGKILL, everyone=False) == -signal.SIGKILL
    stage = dreaming.begin("1")
    said = stage.communicate(timeout=300)[0]
    assert stage.returncode == 0, said
    assert "going on from step" in said
    assert not list(tmp_path.glob(".checkpoints/dreams/*"))
    dreams(tmp_path / "logs", tmp_path / "whole", params.load(tmp_path / "params.yaml", params.DreamsStage))
    assert contents(tmp_path / "dreams") == contents(tmp_path / "whole")


@SEES_PROCESSES
@pytest.mark.parametrize(("number", "everyone", "code"), [(signal.SIGTERM, False, 143), (signal.SIGINT, True, 130)])
def test_a_teacher_fitted_by_two_processes_saves_where_it_is_and_leaves_none_behind(tmp_path, number, everyone, code):
    """A terminal sends SIGINT to everyone."""
    assert Dreaming(tmp_path).stopped(number, everyone) == code


def children_of(pid):
    """Processes whose parent it is, by what the system says of each."""
    stats = (path.read_text().rpartition(")") for path in Path("/proc").glob("[0-9]*/stat"))
    return [int(name.split()[0]) for name, _, rest in stats if int(rest.split()[1]) == pid]
