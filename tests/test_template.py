"""What is read as like the first line, and what is not."""

import json

import numpy as np
import pytest
import simdjson

from worldmodel.data.columnreader import ColumnReader
from worldmodel.data.rows import parse_line
from worldmodel.data.template import Template

META = {"episode": "e-1", "env": "x:1"}
CONTINUOUS = {"agent_id": "a-7", "timestamp": 1.5, "features": [0.1, -2.0], "action": [1, 0.25], "reward": -0.5}
DISCRETE = {"agent_id": "a-7", "timestamp": 17, "features": [3], "action": 2, "meta": META}
FRAMES = {
    "continuous": CONTINUOUS | {"meta": META},
    "without meta": CONTINUOUS,
    "discrete": DISCRETE,
    "discrete with reward": DISCRETE | {"reward": 1.0},
    "bare": {"agent_id": "a", "timestamp": 0, "features": [1, 2, 3]},
    "other order": {key: (CONTINUOUS | {"meta": META})[key] for key in sorted([*CONTINUOUS, "meta"])},
    "action last": {key: DISCRETE[key] for key in ("meta", "features", "agent_id", "timestamp", "action")},
}


def text_of(*frames, **style):
    return b"".join(json.dumps(frame, **style).encode() + b"\n" for frame in frames)


def alike(data):
    """What is found without looking at each line."""
    return ColumnReader()._alike(1, data)


def moved(frame, t):
    """Other numbers, some with exponents."""
    found = frame | {"timestamp": frame["timestamp"] + t, "features": [x * 10.0**-t for x in frame["features"]]}
    return found | ({"action": (frame["action"] + t) % 9} if type(frame.get("action")) is int else {})


@pytest.mark.parametrize("style", [{}, {"separators": (",", ":")}], ids=["spaces", "compact"])
@pytest.mark.parametrize("name", FRAMES)
def test_lines_that_differ_in_numbers_are_read_as_the_exact_way_reads_them(name, style):
    lines = text_of(*(moved(FRAMES[name], t) for t in range(9)), **style)
    found = alike(lines)
    assert [found.row(t) for t in range(9)] == [
        row for number, line in enumerate(lines.splitlines(), 1) for row in parse_line(number, line)
    ]


def test_a_few_runs_of_agents_and_episodes_are_one_table():
    frames = [
        moved(CONTINUOUS | {"agent_id": agent, "meta": {"episode": name}}, t)
        for agent, name in (("a", "1"), ("b", "1"), ("a", "2"))
        for t in range(5)
    ]
    lines = text_of(*frames)
    found = alike(lines.removesuffix(b"\n"))
    assert found.lines.tolist() == list(range(1, 16))
    assert found.agents == ["a", "b"]
    assert [found.row(t) for t in range(15)] == [
        row for number, line in enumerate(lines.splitlines(), 1) for row in parse_line(number, line)
    ]


LINE = b'{"agent_id":"a","timestamp":1,"features":[1,2],"action":3,"reward":4}\n'


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'"action":3,"reward":4', b'"reward":4,"action":3'),
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
        (b"[1,2]", b"[1,2\t]"),
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
        (b"}\n", b"}\n\n"),
        (b"}\n", b",\n"),
        (b'{"agent_id":"a","timestamp":1', b'{"agent_id":"a","timestamp":1,"timestamp":1'),
        (b'{"agent_id":"a","timestamp":1', b"1"),
    ],
)
def test_a_line_of_another_form_among_others_is_left_to_the_exact_way(old, new):
    assert len(alike(LINE * 7)) == 7
    assert old in LINE
    found = None
    try:
        found = alike(LINE * 3 + LINE.replace(old, new, 1) + LINE * 3)
    except ValueError:
        return
    assert found is None


def test_names_that_moved_into_a_neighbour_line_are_found_out():
    two = b'{"agent_id":"a","timestamp":1,"features":[1,2],"features":[1,2],"reward":4}\n' + LINE.replace(
        b'"features":[1,2],', b""
    )
    assert alike(LINE * 3 + two + LINE * 3) is None


@pytest.mark.parametrize("meta", [b'{"features":[1,2]}', b'{"reward":4}', b'{"b":"\\\\"}'])
def test_a_name_that_stands_twice_or_may_be_escaped_gives_no_template(meta):
    assert Template.of(LINE.replace(b"}", b',"meta":' + meta + b"}", 1)) is None


@pytest.mark.parametrize("count", [1, 2, 3, 50])
@pytest.mark.parametrize("others", [0, 1, 17])
def test_a_run_is_followed_to_its_end(count, others):
    template = Template.of(LINE)
    data = LINE * count + LINE.replace(b'"a"', b'"other"') * others
    assert template.reach(data, 0) == len(LINE) * count


def test_numbers_stand_in_the_order_of_the_line():
    template = Template.of(LINE)
    _, numbers = template.numbers((LINE * 2)[len(template.begin) : -len(template.end)], simdjson.Parser())
    np.testing.assert_array_equal(numbers, [[1, 1, 2, 3, 4]] * 2)
    assert template.columns["features"] == slice(1, 3)
