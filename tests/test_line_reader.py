"""The fast way against the exact one: the same episodes to the last bit, the same rejects."""

import json
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from factories import make_episodes, write_logs
from lines import GAP, exact, fast, frame, log, named
from test_fuzzed_logs import changes, damaged
from worldmodel.logs import blocks, line_reader, parsing
from worldmodel.logs.frame_batch import batches_of
from worldmodel.logs.line_reader import Parsed
from worldmodel.logs.reader import read_logs
from worldmodel.logs.rows import parse_line

GOOD = {"agent_id": "a", "timestamp": 1.5, "features": [0.1, -2]}
FULL = GOOD | {"action": [1, 0.25], "reward": -0.5, "meta": {"episode": "x", "note": {"a": [1, None, "b:c"]}}}


def text_of(*lines):
    texts = [line if isinstance(line, bytes) else json.dumps(line).encode() for line in lines]
    return b"".join(text + b"\n" for text in texts)


def bits(logs):
    """All that is known of logs, arrays as bytes."""
    episodes = [
        {
            name: (value.dtype.str, value.shape, value.tobytes()) if hasattr(value, "tobytes") else value
            for name, value in vars(episode).items()
        }
        for episode in logs.episodes
    ]
    return episodes, logs.rejects, logs.rows, logs.action_space, logs.feature_count


def exactly_parsed(block):
    lines = enumerate(block.data.split(b"\n"), block.first)
    return batches_of(row for number, line in lines for row in parse_line(number, line))


def exactly(folder):
    """What the exact way alone reads."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parsing, "parse_block", lambda block: Parsed(exactly_parsed(block), {}))
        return read_logs([folder], GAP)


def test_good_lines_are_read_as_the_exact_way_reads_them():
    for line in (GOOD, FULL, GOOD | {"action": 3}, GOOD | {"reward": 0, "meta": {}}):
        data = text_of(line, line, line)
        assert fast(data) == (exact(data), [])


BAD = {
    "timestamp": [True, "1", None],
    "features": [[], [1, True], [1, "2"], [[1, 2]], [1, 3.5e38], {"a": 1, "b": 2}],
    "action": [None, -1, 4096, 1.0],
    "reward": [None, [1], 1e39],
    "meta": [None, {"episode": 1.5}, {"terminal": 1}],
    "agent_id": ["", "a\n", "a" * 257, None],
    "other": [1],
}
UNLIKE = {
    "features": [[1], [1, 2, 3], [1, None], [None, float("nan")]],
    "action": [4095, [2**70]],
    "reward": [-0.0],
    "context": [[1.0], [2, 0.1]],
    "meta": [{"step": 7, "terminal": False}, {"big": 2**80, "deep": {"x": [1, {"y": None}]}, "text": "a:b"}],
    "agent_id": ["a:b", "\u00e9\U0001f600", '"\\'],
}


def test_a_bad_line_goes_the_exact_way_alone_and_a_good_one_unlike_its_neighbours_the_fast_way():
    for fields, left in ((BAD, [3]), (UNLIKE, [])):
        for name, value in ((name, value) for name, values in fields.items() for value in values):
            data = text_of(GOOD, GOOD, GOOD | {name: value}, GOOD, GOOD)
            assert fast(data) == (exact(data), left), (name, value)


@pytest.mark.parametrize(
    "text",
    [
        b'{"agent_id": "a", "timestamp": 1, "features": [1, 2], "features": [3, 4]}',
        b'{"agent_id": "a", "timestamp": 1, "features": [1, 2], "meta": {"x": 1, "x": 2}}',
        b'{"agent_id": "a", "timestamp": 1, "features": [1, 2], "meta": {"x": NaN}}',
        b'{"agent_id": "a", "timestamp": 1, "features": [1, 2], "meta": {"x": 1e999}}',
        b'{"agent_id": "a", "timestamp": 1, "features": [1, 2], "meta": {"x": "\xff"}}',
        b'{"agent_id": "a", "timestamp": 1, "features": [1, -NaN]}',
        b'{"agent_id": "a", "timestamp": 1, "features": [1, 2], "meta": {"features": [NaN]}}',
        b'{"agent_id": "a", "timestamp": 1, "features": [1, NaN], "meta": {"x": "features", "f\\u0065atures": [NaN]}}',
        b'{"agent_id": "a", "timestamp": NaN, "features": [1, 2]}',
        b'{"agent_id": "a", "timestamp": 1, "features": [1, 2,]}',
        b'{"agent_id": "a", "timestamp": 1, "features": [01, 2]}',
        b'{"agent_id": "a", "timestamp": 1, "features": [1, 2]}{}',
        b'{"agent_id": "a", "timestamp": 1, "features": [1, 2]',
        b'{"agent_id": "a", "timestamp": 1, "features": [[], [1, 2]]}',
        b'{"agent_id": "a", "timestamp": 1, "features": ' + b"[" * 10**5,
        b'\xef\xbb\xbf{"agent_id": "a", "timestamp": 1, "features": [1, 2]}',
        b"",
        b"\0",
    ],
)
def test_text_that_parsers_may_read_in_other_ways_goes_the_exact_way(text):
    data = text_of(GOOD, GOOD, text, text, GOOD)
    rows, left = fast(data)
    assert (rows, [line for line in left if line in (1, 2, 5)]) == (exact(data), [])


def test_blank_lines_are_no_rows_but_count_and_line_ends_may_be_of_another_system():
    data = text_of(GOOD, b"", GOOD, b" \t\r", GOOD)
    for each in (data, data.replace(b"\n", b"\r\n")):
        assert fast(each) == (exact(each), [])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(line_reader, "_line_by_line", None)
        assert fast(b"\n \r\n" * 3) == ([], [])  # at once


HARD = ["-0", "-0.0", "0", "1e-400", "1E5", "5e-324", "1" * 40, "1" * 500 + "e-470"]
HARD += ["3.4028235e38", "3.4028234663852886e38", "9007199254740993", "9007199254740995"]
JSON_NUMBER = re.compile(r"-?(0|[1-9][0-9]{0,30})(\.[0-9]{1,30})?([eE][+-]?[0-9]{1,2})?", re.ASCII)


numbers = st.one_of(
    st.floats(width=32, allow_nan=False, allow_infinity=False).map(repr),
    st.floats(-1e38, 1e38).map(repr),
    st.integers(-(2**70), 2**70).map(str),
    st.builds("{}e{}".format, st.integers(-(10**25), 10**25), st.integers(-340, 20)),
    st.integers(2**52, 2**53 - 1).map(lambda whole: f"{(2 * whole + 1) * 5**41}e-41"),  # halfway between two floats
    st.from_regex(JSON_NUMBER, fullmatch=True),
    st.sampled_from(HARD),
)


@settings(max_examples=300)
@given(st.lists(st.tuples(numbers, numbers, numbers, numbers), min_size=1, max_size=4))
def test_numbers_are_the_same_to_the_last_bit(tmp_path_factory, rows):
    folder = tmp_path_factory.mktemp("logs")
    lines = [
        f'{{"agent_id": "a", "timestamp": {time}, "features": [{x}, {y}], "reward": {reward}}}'
        for time, x, y, reward in rows
    ]
    assert bits(read_logs([log(folder, *lines)], GAP)) == bits(exactly(folder))


metas = [{}, {"episode": 7}, {"episode": True}, {"terminal": True}, {"source": "dream"}, {"episode": "y", "env": 1}]
metas += [{"episode": "d", "source": "dream"} | more for more in ({"teacher": "t"}, {"step": 3})]
metas += [{"episode": "x"} | more for more in ({}, {"terminal": True}, {"split": "test"}, {"episode_segment": 2})]
metas += [{"episode": "x"} | more for more in ({"step": 1}, {"step": 2.5, "note": [1, {"a": None}]})]
metas += [{"episode": "x", "source": "dream", "confidence": confidence} for confidence in (0.5, 1, 7)]
rows = st.tuples(
    st.sampled_from("ab"), st.sampled_from([0, 1, 1, 1, 2, 30, 61, -5]), st.sampled_from(metas), st.integers(0, 19)
)


@settings(max_examples=120)
@given(st.lists(rows, min_size=1, max_size=25), st.sampled_from([1, 100, 400, 10**6]))
def test_episodes_are_the_same_to_the_last_bit(tmp_path_factory, given_rows, block):
    """Each row: agent, seconds since the row before, meta, and a number that spoils the row where it is small."""
    time, lines, folder = 100.0, [], tmp_path_factory.mktemp("logs")
    for agent, step, meta, spoils in given_rows:
        time += step
        odd = {
            0: {"features": [None, 1]},
            4: {"features": [float("nan"), 2]},
            5: {"context": [1]},
            1: {"features": [1]},
            2: {"reward": 3},
        }.get(spoils, {})
        lines.append("?" if spoils == 3 else frame(time, agent, meta=meta) | odd.get(spoils, {}))
    log(folder, *lines)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(blocks, "BLOCK_BYTES", block)
        found = read_logs([folder], GAP)
    assert bits(found) == bits(exactly(folder))


@settings(max_examples=70)
@given(st.lists(changes, max_size=3), st.booleans())
def test_damaged_logs_give_the_same_episodes_and_rejects(tmp_path_factory, damages, episodes):
    lines = [named(t, f"e{t // 4}", "ab"[t % 2]) | {"action": t % 3, "reward": t / 7} for t in range(24)]
    if episodes:
        lines += [{"agent_id": "c", "episode": [named(t, "f", "c") | {"action": 1, "reward": 0} for t in (1, 2)]}]
    text = b"".join(json.dumps(line).encode() + b"\n" for line in lines)
    for change in damages:
        text = damaged(text, change)
    folder = tmp_path_factory.mktemp("logs")
    (folder / "log.jsonl").write_bytes(text + b"\n?\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(blocks, "BLOCK_BYTES", 300)
        found = read_logs([folder], GAP)
    assert bits(found) == bits(exactly(folder))


@pytest.mark.parametrize("kind", ["none", "discrete", "continuous"])
def test_what_the_pipeline_writes_is_read_without_the_exact_way(tmp_path, monkeypatch, kind):
    episodes = make_episodes(5, 40, kind=kind)
    write_logs(tmp_path, episodes)
    looked_at = []
    monkeypatch.setattr(line_reader, "parse_line", lambda *line: looked_at.append(line) or parse_line(*line))
    assert [episode.narrowed() for episode in read_logs([tmp_path], GAP).episodes] == episodes
    assert not looked_at


def test_several_processes_read_the_same(tmp_path, monkeypatch):
    for name in ("a.jsonl", "b.jsonl.gz", "c.jsonl"):
        write_logs(tmp_path, make_episodes(8, 30, seed=ord(name[0]), agent_id=name), name)
    with (tmp_path / "c.jsonl").open("a") as stream:
        stream.write("?\n")
    alone = read_logs([tmp_path], GAP)
    assert [str(reject).split(": ")[0] for reject in alone.rejects] == ["c.jsonl:241"]
    monkeypatch.setattr(parsing, "PARALLEL_BYTES", 0)
    monkeypatch.setattr(blocks, "BLOCK_BYTES", 5000)
    monkeypatch.setenv("WORLDMODEL_JOBS", "2")
    assert bits(read_logs([tmp_path], GAP)) == bits(alone)


def test_episode_lines_are_read_the_fast_way_as_the_exact_one_reads_them():
    inner = [
        {key: value for key, value in FULL.items() if key not in ("agent_id", "meta")} | {"timestamp": t}
        for t in (1, 2, 3)
    ]
    inner[1] |= {"features": [None, float("nan")], "meta": {"episode": 3, "x": "a:b"}}
    last = {"timestamp": 4, "features": [1, 2], "agent_id": "a"}
    good = {"agent_id": "a", "episode": [*inner, last]}
    data = text_of(good, GOOD, good | {"episode": inner})
    assert fast(data) == (exact(data), [])
    for bad in ({"agent_id": ""}, {"x": 1}, {"episode": []}, {"episode": [*inner, last | {"agent_id": "b"}]}):
        data = text_of(GOOD, good | bad)
        assert fast(data) == (exact(data), [2]), bad
    for text in (b'{"agent_id": "a", "agent_id": "a", "episode": [%b]}', b'{"agent_id": "a", "episode": [%b, %b]}'):
        line = b'{"timestamp": 1, "features": [1], "features": [2]}' if text.count(b"%b") > 1 else text_of(last)[:-1]
        data = text_of(GOOD, text % ((line,) * text.count(b"%b")))
        assert fast(data) == (exact(data), [2]), text
