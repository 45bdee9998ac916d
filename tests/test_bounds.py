"""Logs that would keep a reader busy for minutes, or fill its memory: each is answered at once."""

import gzip
import json

import pytest

from lines import frame, log, named, read, reasons, times
from test_summary import lines as summarized
from worldmodel.linting.summary import SHOWN_COLUMNS
from worldmodel.logs import blocks, parsing
from worldmodel.logs.rows import HOPELESS, MANY_BAD

GOOD = b"".join(json.dumps(frame(t)).encode() + b"\n" for t in range(3))
WIDE = b'{"agent_id": "a", "timestamp": 5, "%b": [' + b"1," * 3_000_000 + b"1]%b}\n"
META = b'{"agent_id": "a", "timestamp": 5, "features": [1, 2], "meta": {"a": %b}}\n'

pytestmark = pytest.mark.timeout(60)  # what is not bounded takes far longer


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (WIDE % (b"features", b""), "features: found a list of 3000001, expected at most 1048576 numbers; make images"),
        (
            WIDE % (b"action", b', "features": [1, 2]'),
            "action: found a list of 3000001, expected at most 1048576 numbers; make images",
        ),
        (META % (b"[" * 10**5 + b"]" * 10**5), "not readable: nested too deeply"),
        (META % (b'{"a":' * 10**5 + b"1" + b"}" * 10**5), "not readable: nested too deeply"),
        (META % (b"9" * 10**5), "not readable: an integer of 100000 characters, expected at most 4300"),
        (
            META % (b'{"":1' + b',"":1' * 7_000_000 + b"}"),
            "longer than 32 MiB, expected a frame or an episode a line; split",
        ),
    ],
    ids=["features", "actions", "lists", "objects", "digits", "keys"],
)
def test_a_line_that_is_too_much_is_one_reject_and_the_rest_is_read(tmp_path, line, reason):
    (tmp_path / "log.jsonl").write_bytes(GOOD + line + GOOD.replace(b'"a"', b'"b"'))
    logs = read(tmp_path)
    assert len(logs.rejects) == 1
    assert reasons(logs)[0].startswith(f"log.jsonl:4: {reason}")
    assert [each.length for each in logs.episodes] == [3, 3]


def test_a_big_line_within_the_limits_is_good_and_its_summary_is_short(tmp_path):
    features = b"1," * 999_999 + b"1"
    (tmp_path / "log.jsonl").write_bytes(b'{"agent_id": "a", "timestamp": 0, "features": [%b]}\n' % features)
    logs = read(tmp_path)
    assert not logs.rejects
    shown = summarized(logs.episodes)
    assert len(shown) < SHOWN_COLUMNS + 20
    assert shown[-1].strip() == f"... and {1_000_000 - SHOWN_COLUMNS} more"


@pytest.mark.parametrize(("packed", "parallel"), [(True, False), (False, False), (False, True)])
def test_a_file_that_is_no_log_is_given_up_and_the_others_are_read(tmp_path, monkeypatch, packed, parallel):
    monkeypatch.setattr(parsing, "PARALLEL_BYTES", 1 if parallel else 1 << 40)
    monkeypatch.setattr(blocks, "BLOCK_BYTES", 1 << 18)
    monkeypatch.setenv("WORLDMODEL_JOBS", "2")
    junk = GOOD + b"?\n" * 400_000
    path = tmp_path / ("a.jsonl.gz" if packed else "a.jsonl")
    path.write_bytes(gzip.compress(junk) + bytes(10_000) if packed else junk)
    log(tmp_path, *map(frame, range(4)), name="b.jsonl")
    logs = read(tmp_path)
    assert [each.length for each in logs.episodes] == [3, 4]
    assert reasons(logs)[-1].endswith(f": {HOPELESS}")
    assert MANY_BAD < len(logs.rejects) < 3 * MANY_BAD


def test_an_episode_line_of_nothing_but_bad_frames_is_given_up(tmp_path):
    log(tmp_path, *map(frame, range(3)), '{"agent_id": "a", "episode": [' + "{}," * 400_000 + "{}]}", frame(3, "b"))
    logs = read(tmp_path)
    assert reasons(logs)[-2] == f"log.jsonl:4: episode[{MANY_BAD + 1}]: {HOPELESS}"
    assert reasons(logs)[-1].endswith(f": {HOPELESS}")


def test_a_line_without_an_end_leaves_the_rest_of_its_file_unread(tmp_path, monkeypatch):
    monkeypatch.setattr(blocks, "MAX_SKIPPED", 40 << 20)
    (tmp_path / "log.jsonl").write_bytes(GOOD + b"x" * (60 << 20) + b"\n" + GOOD)
    assert reasons(read(tmp_path)) == [f"log.jsonl:4: {blocks.ENDLESS}"]


def test_names_that_return_thousands_of_times_get_one_segment_each(tmp_path):
    turns = 20_000
    log(tmp_path, *(named(t, "xy"[t % 2], terminal=True) for t in range(2 * turns)))
    assert [(name, segment) for _, name, segment, _ in times(read(tmp_path))] == [
        ("xy"[t % 2], t // 2) for t in range(2 * turns)
    ]


def test_bad_rows_between_many_agents_cut_each_of_them_once(tmp_path):
    count = 30_000
    agents = [frame(0, f"agent-{number}") for number in range(count)]
    log(tmp_path, *agents, *["?"] * count, frame(1, "agent-7"))
    logs = read(tmp_path)
    assert len(logs.episodes) == count + 1
    assert times(logs)[-1][:3] == ("agent-7", "@0.0", 1)
