"""Logs with random damage, against an oracle that has another parser and knows nothing of blocks or episodes."""

import gzip
import json
from collections import Counter

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from lines import frame, named, read

LINES = [
    frame(0, action=[0.5, 1], reward=1),
    named(1, "x") | {"action": [1, 2.5e-3], "reward": -0.0},
    named(2, "x") | {"action": [0, -1], "reward": 3},
    frame(3, "b\u00e9", action=[1e5, 0], reward=0.25, meta={"terminal": True, "env": {"a": [1, None]}}),
    {"agent_id": "a", "episode": [{"timestamp": t, "features": [t, 1], "action": [t, 0], "reward": t} for t in (5, 6)]},
    named(7, "d", source="dream", confidence=0.5, teacher="t") | {"action": [0, 0], "reward": 0},
]
WHOLE = b"".join(json.dumps(line).encode() + b"\n" for line in LINES * 2)
TOKENS = rb'NaN - 1e999 null " { } [ , : \ud800 0 -0 true "agent_id": {"episode": \u0000'.split()
TOKENS += [b"\n", b"\r", b"\0", b"\xff", b" ", b"\t", b"\xef\xbb\xbf", b"1" * 400, b"[" * 40]

places = st.integers(0, len(WHOLE) - 1)
changes = st.one_of(
    st.tuples(st.just("flip"), places, st.integers(0, 7)),
    st.tuples(st.just("put"), places, st.sampled_from(TOKENS)),
    st.tuples(st.just("replace"), places, st.sampled_from(TOKENS)),
    st.tuples(st.just("cut"), places, st.integers(1, 200)),
    st.tuples(st.just("double"), places, st.integers(1, 200)),
    st.tuples(st.just("end"), places, st.none()),
)


def damaged(text, change):
    kind, place, value = change
    if kind == "flip":
        return text[:place] + bytes(byte ^ 1 << value for byte in text[place : place + 1]) + text[place + 1 :]
    if kind in ("put", "replace"):
        return text[:place] + value + text[place + len(value) * (kind == "replace") :]
    if kind == "cut":
        return text[:place] + text[place + value :]
    return text[: place + value] + text[place:] if kind == "double" else text[:place]


def frames_of(line):
    """(agent, time, features, actions, reward) of what a line holds, if json and numpy make sense of it."""
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return
    for inner in found.get("episode", [found]) if isinstance(found, dict) else ():
        try:
            whole = {"agent_id": found.get("agent_id"), **inner}
            yield (
                whole["agent_id"],
                float(whole["timestamp"]),
                np.array(whole["features"], np.float64).tobytes(),
                *(np.array(whole[key], np.float32).tobytes() for key in ("action", "reward")),
            )
        except (ValueError, TypeError, KeyError, OverflowError):
            continue


def accepted(logs):
    for episode in logs.episodes:
        for t in range(episode.length):
            yield (
                episode.agent_id,
                float(episode.timestamps[t]),
                *(array[t].tobytes() for array in (episode.features, episode.actions, episode.rewards)),
            )


@settings(max_examples=300)
@given(st.lists(changes, min_size=1, max_size=4))
def test_damage_never_ends_in_a_traceback_and_nothing_is_accepted_that_no_line_says(tmp_path_factory, damages):
    text = WHOLE
    for change in damages:
        text = damaged(text, change)
    folder = tmp_path_factory.mktemp("logs")
    (folder / "log.jsonl").write_bytes(text + b"\n" + WHOLE)  # so that most rows are good, and decide what is common
    with np.errstate(over="ignore"):
        said = Counter(each for line in (folder / "log.jsonl").read_bytes().split(b"\n") for each in frames_of(line))
    assert not Counter(accepted(read(folder))) - said


@settings(max_examples=60)
@given(st.lists(changes, min_size=1, max_size=3), st.binary(max_size=8))
def test_a_damaged_gzip_never_ends_in_a_traceback(tmp_path_factory, damages, tail):
    text = gzip.compress(WHOLE, mtime=0)
    for change in damages:
        text = damaged(text, change)
    folder = tmp_path_factory.mktemp("logs")
    (folder / "a.jsonl.gz").write_bytes(text + tail)
    (folder / "b.jsonl").write_bytes(b"\n" + WHOLE)
    said = Counter(each for line in WHOLE.split(b"\n") for each in frames_of(line))
    assert set(accepted(read(folder))) <= set(said)
