"""What is read as of one form with the first line, and what is not."""

import json

import numpy as np
import pytest

from lines import exact, fast
from worldmodel.logs.blocks import Block
from worldmodel.logs.columnreader import MOST_FORMS, ColumnReader
from worldmodel.logs.form import Form

META = {"episode": "e-1", "env": "x:1", "note": {"reward": 4, "text": '}\\"{', "features": [1, {"a": []}]}}
CONTINUOUS = {"agent_id": "a-7", "timestamp": 1.5, "features": [0.1, -2.0], "action": [1, 0.25], "reward": -0.5}
DISCRETE = {"agent_id": 'é"\\', "timestamp": 17, "features": [3], "action": 2, "meta": META}
FRAMES = {
    "continuous": CONTINUOUS | {"meta": META},
    "without meta": CONTINUOUS,
    "discrete": DISCRETE,
    "discrete with reward": DISCRETE | {"reward": 1.0},
    "bare": {"agent_id": "a", "timestamp": 0, "features": [1, 2, 3]},
    "other order": {key: (CONTINUOUS | {"meta": META})[key] for key in sorted([*CONTINUOUS, "meta"])},
    "action last": {key: DISCRETE[key] for key in ("meta", "features", "agent_id", "timestamp", "action")},
}
STYLES = {
    "spaces": {},
    "compact": {"separators": (",", ":")},
    "wide": {"separators": ("  ,\t", " : ")},
    "as they are": {"ensure_ascii": False},
}


def text_of(*frames, **style):
    return b"".join(json.dumps(frame, **style).encode() + b"\n" for frame in frames)


def moved(frame, t):
    """Other numbers, some with exponents."""
    found = frame | {"timestamp": frame["timestamp"] + t, "features": [x * 10.0**-t for x in frame["features"]]}
    return found | ({"action": (frame["action"] + t) % 9} if type(frame.get("action")) is int else {})


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("name", FRAMES)
def test_lines_that_differ_in_values_are_read_as_the_exact_way_reads_them(name, style):
    frames = [moved(FRAMES[name], t) | {"agent_id": "xyz"[t // 4] * (1 + t // 4)} for t in range(9)]
    data = text_of(*frames, **STYLES[style])
    assert fast(data) == (exact(data), [1])


def test_agents_and_episodes_that_take_turns_are_one_table():
    names = [("c", "1"), ("a", "1"), ("b", "1"), ("a", "2"), ("a", "1")] * 4
    frames = [moved(CONTINUOUS | {"agent_id": agent, "meta": {"episode": name}}, 0) for agent, name in names]
    data = text_of(*frames).removesuffix(b"\n")
    _, found = ColumnReader().read(Block(1, data))
    assert found.lines.tolist() == list(range(2, 21))
    assert found.agents == ["a", "b", "c"]
    assert [meta["episode"] for meta in found.metas] == ["1", "2"]
    assert fast(data) == (exact(data), [1])


def test_each_form_is_learned_from_its_first_line():
    one, other = CONTINUOUS | {"meta": {"episode": "1"}}, CONTINUOUS | {"agent_id": "b"}
    data = text_of(one, one, other, other, one, dict(reversed(one.items())), {**one, "meta": {"episode": "2"}}, other)
    assert fast(data) == (exact(data), [1, 3, 6])


def test_a_form_that_has_not_come_for_long_is_forgotten():
    frames = [{"agent_id": "a", "timestamp": 0, "features": [1.0] * width} for width in range(1, MOST_FORMS + 2)]
    data = text_of(*frames, frames[-1], frames[0], frames[0])
    assert fast(data) == (exact(data), [*range(1, MOST_FORMS + 2), MOST_FORMS + 3])


LINE = b'{"agent_id":"a","timestamp":1,"features":[1,2],"action":3,"reward":4}\n'


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"features", b"featurse"),
        (b"features", b"Features"),
        (b"[1,2]", b"[1,2,3]"),
        (b"[1,2],", b"[1],2,"),
        (b"[1,2]", b"[1,[2]]"),
        (b"[1,2]", b"[1,true]"),
        (b"[1,2]", b"[1,null]"),
        (b"[1,2]", b"[1,NaN]"),
        (b"[1,2]", b'[1,"2"]'),
        (b"[1,2]", b"[1,1e39]"),
        (b"[1,2]", b"[1,1e999]"),
        (b"[1,2]", b"[1,]"),
        (b"[1,2]", b"[1 2,3]"),
        (b"[1,2]", b"[01,2]"),
        (b"[1,2]", b"[1,2"),
        (b'"action":3', b'"action":3.0'),
        (b'"action":3', b'"action":-3'),
        (b'"action":3', b'"action":1e2'),
        (b'"action":3', b'"action":4096'),
        (b'"action":3', b'"action":12345'),
        (b'"reward":4', b'"reward":4,"reward":4'),
        (b'"reward":4', b'"rward":4e'),
        (b"}", b"},"),
        (b"}", b"}}"),
        (b'"a"', b'"a\x01"'),
        (b'"a"', b'"a\\q"'),
        (b'"a"', b'"a\\"'),
        (b'"a"', b'"\xff"'),
        (b'"a"', b'""'),
        (b'"a"', b'"a'),
        (b"}\n", b"}\n\n"),
        (b"}\n", b",\n"),
        (b"}\n", b"}"),
        (b'{"agent_id":"a","timestamp":1', b'{"agent_id":"a","timestamp":1,"timestamp":1'),
        (b'{"agent_id":"a","timestamp":1', b"1"),
    ],
)
def test_a_line_of_another_form_goes_the_exact_way_alone(old, new):
    assert old in LINE
    data = LINE * 3 + LINE.replace(old, new, 1) + LINE * 3
    rows, left = fast(data)
    assert rows == exact(data)
    assert left in ([1], [1, 4])  # two broken lines may be one row, a blank one is none


@pytest.mark.parametrize(
    "meta", [b"{}}", b"{", b"[]", b'{"a":1]', b'{"a":1,"a":2}', b'{"a":"}', b'{"a":NaN}', b"{},{}", b'"{}"', b"1", b""]
)
def test_a_meta_that_is_none_goes_the_exact_way_alone(meta):
    line = LINE.replace(b"}", b',"meta":{}}')
    data = line * 3 + line.replace(b"{}", meta) + line * 3
    assert fast(data) == (exact(data), [1, 4])


def test_a_value_that_begins_like_the_one_before_is_another_one():
    metas = text_of(*(CONTINUOUS | {"meta": {"episode": name}} for name in (1, 12, 1, 1, 123)))
    names = text_of(*(CONTINUOUS | {"agent_id": name} for name in ("a", "ab", "a", "abc")))
    assert fast(metas) == (exact(metas), [1])
    assert fast(names) == (exact(names), [1])


def test_numbers_stand_in_the_order_of_the_line():
    form = Form.of(LINE, exact(LINE)[0].frame)
    np.testing.assert_array_equal(form.scan(LINE * 3, len(LINE), 2).numbers, [[1, 1, 2, 3, 4]] * 2)
    assert form.columns["features"] == slice(1, 3)
    assert form.texts == ("agent_id",)
