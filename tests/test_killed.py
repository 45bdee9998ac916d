"""What dies goes on, to the bits of what never died."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def seen(tmp_path_factory):
    """What tests/killing.py saw."""
    command = [sys.executable, str(Path(__file__).parent / "killing.py"), str(tmp_path_factory.mktemp("killing"))]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("how", ["SIGKILL", "SIGTERM", "SIGINT", "writing"])
def test_a_killed_training_reaches_the_same_bits(seen, how):
    assert seen["equal"][how]


def test_it_was_killed_often_and_at_last_left_alone(seen):
    assert all(codes[-1] == 0 for codes in seen["codes"].values())
    assert sum(code != 0 for codes in seen["codes"].values() for code in codes) >= 20
    assert set(seen["codes"]["SIGKILL"]) == set(seen["codes"]["writing"]) == {-signal.SIGKILL, 0}


@pytest.mark.parametrize(("how", "code"), [("SIGTERM", 143), ("SIGINT", 130)])
def test_a_signal_that_can_be_heard_is_answered(seen, how, code):
    assert code in seen["codes"][how]
    assert set(seen["codes"][how]) <= {code, 0, -signal.Signals[how]}  # dead at once while there is nothing to save


def test_checkpoints_of_finished_trainings_are_gone(seen):
    assert seen["left"] == []
