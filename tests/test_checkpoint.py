import errno
import math
import os
import signal
from contextlib import suppress

import pytest
import torch

from worldmodel.checkpoints import checkpoint
from worldmodel.checkpoints.checkpoint import EVERY, Checkpoints, Interval, State, graceful_shutdown, held

ALWAYS = Interval(steps=1, seconds=0)


def state(step):
    numbers = {"step": step, "error": math.inf, "loss": 0.1 + 0.2, "none": None, "rows": [[1, "train", 1e-300]]}
    return State(
        numbers, {"weights": torch.full((3,), float(step)), "count": torch.tensor(step), "none": torch.empty(0)}
    )


def equal(one, other):
    return one.numbers == other.numbers and all(
        torch.equal(one.tensors[name], other.tensors[name]) for name in one.tensors | other.tensors
    )


def saved(folder, *steps):
    """Checkpoints of these steps, in a folder that was left by a process that died."""
    folder.mkdir(parents=True, exist_ok=True)
    kept = Checkpoints(folder, ALWAYS)
    for step in steps:
        kept.save(step, state(step))
    return sorted(folder.glob("*.safetensors"))


def test_a_state_comes_back_as_it_was(tmp_path):
    saved(tmp_path, 7)
    found = Checkpoints(tmp_path, ALWAYS).latest()
    assert equal(found, state(7))
    assert found.tensors["count"].dtype == torch.int64
    assert Checkpoints(tmp_path / "none", ALWAYS).latest() is None


def test_the_last_two_are_kept(tmp_path):
    assert [path.name.split("-")[0] for path in saved(tmp_path, 5, 10, 15)] == ["000000000010", "000000000015"]


@pytest.mark.parametrize(
    "damage", [lambda b: b[:-1], lambda b: b[: len(b) // 2], lambda b: b"", lambda b: b[:-1] + b"~"]
)
def test_a_torn_one_is_named_and_the_one_before_is_taken(tmp_path, damage, capsys):
    newest = saved(tmp_path, 5, 10)[-1]
    newest.write_bytes(damage(newest.read_bytes()))
    kept = Checkpoints(tmp_path, ALWAYS)
    assert equal(kept.latest(), state(5))
    told = capsys.readouterr().err
    assert f"{newest}: torn" in told
    assert "going on from step 5" in told
    kept.save(7, state(7))
    assert equal(Checkpoints(tmp_path, ALWAYS).latest(), state(7))


def test_where_all_are_torn_it_begins_anew(tmp_path):
    for path in saved(tmp_path, 5, 10):
        path.write_bytes(b"")
    assert Checkpoints(tmp_path, ALWAYS).latest() is None


def test_one_is_due_after_so_many_steps_or_seconds(tmp_path):
    with held(tmp_path / "a", Interval(steps=10, seconds=1e6)) as kept:
        assert [step for step in range(1, 25) if kept.due(step)] == list(range(10, 25))
        kept.save(12, state(12))
        kept.cost = 0
        assert [step for step in range(13, 25) if kept.due(step)] == [22, 23, 24]
    with held(tmp_path / "b", Interval(steps=10**6, seconds=0)) as kept:
        assert kept.due(1)


def test_what_costs_much_is_due_less_often(tmp_path):
    with held(tmp_path / "run", ALWAYS) as kept:
        kept.cost = 1.0
        assert not kept.due(10**6)
        kept.at -= 1.01 / checkpoint.SHARE
        assert kept.due(10**6)


def test_work_that_is_done_leaves_nothing(tmp_path):
    with held(tmp_path / "run", ALWAYS) as kept:
        kept.save(1, state(1))
        assert (tmp_path / "run").exists()
    assert not (tmp_path / "run").exists()


def test_work_that_broke_off_leaves_its_checkpoints(tmp_path):
    with suppress(RuntimeError), held(tmp_path, ALWAYS) as kept:
        kept.save(1, state(1))
        raise RuntimeError
    with held(tmp_path, ALWAYS) as kept:
        assert equal(kept.latest(), state(1))


def test_an_orphans_checkpoints_stay_for_the_next_one(tmp_path, monkeypatch):
    with held(tmp_path, ALWAYS) as kept:
        kept.save(1, state(1))
        monkeypatch.setattr(os, "getppid", lambda: 1)
    assert equal(Checkpoints(tmp_path, ALWAYS).latest(), state(1))


def test_what_a_killed_one_had_begun_to_write_is_removed(tmp_path):
    saved(tmp_path, 1)
    (tmp_path / ".000000000002-ab.safetensors.12.tmp").write_bytes(b"half")
    with held(tmp_path, ALWAYS) as kept:
        assert not list(tmp_path.glob(".*"))
        assert equal(kept.latest(), state(1))


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_saves_and_ends_the_process(tmp_path, number, code, capsys):
    before = signal.getsignal(number)

    def work():
        with held(tmp_path, EVERY) as kept, graceful_shutdown(kept):
            assert not kept.due(3)
            signal.raise_signal(number)
            assert kept.due(3)
            kept.save(3, state(3))

    with pytest.raises(SystemExit) as end:
        work()
    assert end.value.code == code
    assert f"{number.name}: stopped after step 3; run again to go on" in capsys.readouterr().err
    assert equal(Checkpoints(tmp_path, EVERY).latest(), state(3))
    assert signal.getsignal(number) is before


def test_a_second_ctrl_c_acts_at_once(tmp_path):
    def twice():
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt), held(tmp_path, EVERY) as kept, graceful_shutdown(kept):
        twice()


def test_a_signal_that_no_step_was_left_to_hear_is_not_lost(tmp_path):
    with pytest.raises(KeyboardInterrupt), held(tmp_path, EVERY) as kept, graceful_shutdown(kept):
        signal.raise_signal(signal.SIGINT)


def test_outside_of_the_loop_signals_act_at_once(tmp_path):
    with pytest.raises(KeyboardInterrupt), held(tmp_path, EVERY), graceful_shutdown(None):
        signal.raise_signal(signal.SIGINT)


def test_a_full_disk_is_one_message_and_leaves_the_earlier_one(tmp_path, monkeypatch):
    saved(tmp_path, 5)

    def full(_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with held(tmp_path, ALWAYS) as kept:
        kept.latest()
        expected = r"no checkpoint of 0\.0 MB could be written \(No space left on device\); .* it goes on from step 5$"
        with pytest.raises(ValueError, match=expected):
            kept.save(6, state(6))
        assert equal(Checkpoints(tmp_path, ALWAYS).latest(), state(5))
        assert not list(tmp_path.glob(".*"))
