import errno
import json
import math
import os
import signal
from contextlib import suppress
from pathlib import Path

import pytest
import safetensors.torch
import torch

from worldmodel.checkpoints import checkpoint
from worldmodel.checkpoints.checkpoint import EVERY, Checkpoints, Interval, graceful_shutdown, held
from worldmodel.checkpoints.content import State, content_of, name_of

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


def saved(folder, *steps, work=""):
    """Checkpoints of these steps, in a folder that was left by a process that died."""
    folder.mkdir(parents=True, exist_ok=True)
    kept = Checkpoints(folder, ALWAYS, work=work)
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


WORK, STEP = 64 * "a", 99


def altered(**changes):
    """A checkpoint of this work, with other things in its header than it was made with."""
    content = content_of(state(STEP), WORK)
    length = int.from_bytes(content[:8], "little")
    about = json.loads(json.loads(content[8 : 8 + length])["__metadata__"]["worldmodel"]) | changes
    kept = {key: value for key, value in about.items() if value is not None}
    return safetensors.torch.save(state(STEP).tensors, {"worldmodel": json.dumps(kept)})


def of_another_width():
    """All that a checkpoint of this work says, with other tensors."""
    content = content_of(state(STEP), WORK)
    length = int.from_bytes(content[:8], "little")
    about = json.loads(content[8 : 8 + length])["__metadata__"]
    return safetensors.torch.save({"weights": torch.zeros(4)}, about)


FOREIGN = {
    "of another width": of_another_width(),
    "of another seed": content_of(state(STEP), 64 * "b"),
    "of a part": content_of(state(STEP), f"{WORK}/member-0"),
    "of an earlier format": safetensors.torch.save(state(STEP).tensors, {"numbers": json.dumps(state(STEP).numbers)}),
    "of a later format": altered(format="3", seal="0" * 64),
    "that says it is of this work": altered(work=WORK, numbers="{}"),
    "with deep numbers": altered(numbers="[" * 10**5),
    "with numbers that are none": altered(numbers="garbage"),
    "without numbers": altered(numbers=None),
    "without a seal": altered(seal=None),
    "with a list for a header": safetensors.torch.save(state(STEP).tensors, {"worldmodel": "[]"}),
    "with a deep header": safetensors.torch.save(state(STEP).tensors, {"worldmodel": "[" * 10**5}),
    "without metadata": safetensors.torch.save(state(STEP).tensors),
    "of garbage": b"garbage" * 100,
    "of zeros": bytes(1000),
    "with a header of 2^62 bytes": (2**62).to_bytes(8, "little") + b"{}",
    "with deep JSON": (10**5).to_bytes(8, "little") + b"[" * 10**5,
}
SPECIAL = {"a folder": Path.mkdir, "a pipe": os.mkfifo, "a dangling link": lambda path: path.symlink_to("gone")}


@pytest.mark.parametrize("kind", [*FOREIGN, *SPECIAL])
def test_what_is_no_checkpoint_of_this_work_is_set_aside_and_never_in_the_way(tmp_path, capsys, kind):
    folder, content = tmp_path / "run", FOREIGN.get(kind, b"")
    foreign = folder / name_of(STEP, content)
    with suppress(RuntimeError), held(folder, ALWAYS, work=WORK) as kept:
        kept.save(5, state(5))
        raise RuntimeError
    SPECIAL.get(kind, lambda path: path.write_bytes(content))(foreign)
    with held(folder, ALWAYS, work=WORK) as kept:
        assert equal(kept.latest(), state(5))
        told = capsys.readouterr().err.splitlines()
        assert len(told) == 2
        assert told[0].startswith(f"{foreign}: ")
        for step in (STEP, STEP + 1):
            kept.save(step, state(step))
        assert [path.name[:12] for path in sorted(folder.glob("*.safetensors"))] == [f"{STEP:012}", f"{STEP + 1:012}"]
        assert equal(Checkpoints(folder, ALWAYS, work=WORK).latest(), state(STEP + 1))
    assert not folder.exists()
    (aside,) = (tmp_path / "run.set-aside").iterdir()
    assert aside.name == foreign.name
    assert aside.is_file() == (kind in FOREIGN)
    assert kind in SPECIAL or aside.read_bytes() == content


def test_older_ones_of_other_work_are_not_pruned_and_two_of_one_name_both_kept(tmp_path):
    folder, content = tmp_path / "run", FOREIGN["of another seed"]
    for _ in range(2):
        saved(folder, 200)
        (folder / name_of(3, content)).write_bytes(content)
        (folder / "mine.safetensors").write_bytes(content)
        kept = Checkpoints(folder, ALWAYS)
        assert kept.latest() is not None
        kept.save(201, state(201))
    assert [path.read_bytes() for path in (tmp_path / "run.set-aside").iterdir()] == [content] * 4


def test_a_part_sets_aside_what_is_of_another_part(tmp_path):
    one, other = (Checkpoints(tmp_path / "run", ALWAYS, work=WORK).part(name) for name in ("member-0", "member-1"))
    one.folder.mkdir(parents=True)
    one.save(3, state(3))
    other.folder.mkdir()
    (path,) = one.folder.iterdir()
    path.rename(other.folder / path.name)
    assert other.latest() is None
    assert (tmp_path / "run.set-aside" / "member-1" / path.name).is_file()


def test_the_same_state_of_the_same_work_has_the_same_bytes():
    assert len({content_of(state(1), WORK) for _ in range(20)}) == 1


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
