"""Lines of a log -> batches of frames, decoded by msgspec: fast, and only where nothing is in doubt.

A line that is not certain to be good is left to rows.py, which is exact and words each refusal.
"""

import gc
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from itertools import chain, groupby
from typing import Annotated, Any, NamedTuple

import msgspec
import numpy as np
from msgspec import UNSET, Meta, Struct, UnsetType
from numpy.typing import NDArray

from worldmodel.core.typing import Ints
from worldmodel.episodes.frame import FLOAT32_MAX, MAX_ACTIONS, MAX_NUMBERS, META_KEYS, parse_agent, parse_meta
from worldmodel.episodes.table import Table
from worldmodel.logs.blocks import Block
from worldmodel.logs.frame_batch import FrameBatch, batches_of
from worldmodel.logs.rows import Row, parse_line

FEATURES = re.compile(rb'"features"\s*:\s*\[[^\[\]{}"]*\]')
NAN = re.compile(rb"\bNaN\b")
NO_META: Mapping[str, Any] = {}

Number = Annotated[float, Meta(ge=-FLOAT32_MAX, le=FLOAT32_MAX)]
Vector = Annotated[list[Number], Meta(min_length=1, max_length=MAX_NUMBERS)]


class _Line(Struct, forbid_unknown_fields=True, gc=False):
    agent_id: str
    timestamp: float
    features: Annotated[list[Number | None], Meta(min_length=1, max_length=MAX_NUMBERS)]
    action: Vector | Annotated[int, Meta(ge=0, lt=MAX_ACTIONS)] | UnsetType = UNSET
    reward: Number | UnsetType = UNSET
    context: Vector | UnsetType = UNSET
    meta: dict[str, Any] | UnsetType = UNSET


class Parsed(NamedTuple):
    """What the lines of a block hold."""

    rows: list[FrameBatch | Row]  # in order
    meta_keys: dict[str, tuple[int, int]]  # one that is not understood: its first line, and how many have it


class _DoubtError(ValueError):
    """Whether the lines are what they seem to be."""


_decode = msgspec.json.Decoder(_Line).decode
_decode_lines = msgspec.json.Decoder(_Line).decode_lines
_checked_agent = lru_cache(4096)(parse_agent)


def parse_block(block: Block) -> Parsed:
    """The rows of a block in order, together where they are good and of one signature."""
    if block.read_error:
        return Parsed([Row(block.first, block.read_error)], {})
    if block.data.isspace():  # however many blank lines a small .gz unpacks to
        return Parsed([], {})
    with _no_collection():
        try:
            return _whole(block.first, block.data)
        except (ValueError, RecursionError):
            return _line_by_line(block.first, block.data)


@contextmanager
def _no_collection() -> Iterator[None]:
    """Nothing that is made meanwhile is a cycle; looking for some takes a third more time."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _whole(first: int, data: bytes) -> Parsed:
    """Raises ValueError where one of the lines is not certain to be good, or they are not all alike."""
    data = data.replace(b"\r\n", b"\n") if b"\r" in data else data
    try:
        lines = _decode_lines(data)
    except ValueError:
        data = _nulled(data)
        lines = _decode_lines(data)
    _require_one_a_line(data, len(lines))
    metas = _metas(lines)
    shapes = Counter(map(tuple, metas))
    _require_flat(data, lines, sum(len(keys) * count for keys, count in shapes.items()))
    keys = set(chain.from_iterable(shapes))
    numbers = np.arange(first, first + len(lines))
    return Parsed([_batch(numbers, lines, metas, keys)], _unused(numbers, metas, keys))


def _nulled(data: bytes) -> bytes:
    """The lines with null for each NaN, which stands for a missing reading."""
    if b"NaN" not in data:
        return data
    nulled = FEATURES.sub(lambda found: NAN.sub(b"null", found[0]), data)
    if b"NaN" in nulled or b"\\" in data or data.count(b'"features"') != data.count(b"\n") + 1:
        raise _DoubtError
    return nulled


def _require_one_a_line(data: bytes, count: int) -> None:
    """An object ends before each line break and another begins behind it: within one, that is no JSON."""
    text = np.frombuffer(data, np.uint8)
    ends = np.flatnonzero(text == ord("\n"))
    if not data.endswith(b"\n"):
        ends = np.append(ends, len(text))
    begins = np.concatenate([[0], ends[:-1] + 1])
    if len(ends) != count or (text[begins] != ord("{")).any() or (text[ends - 1] != ord("}")).any():
        raise _DoubtError


def _require_flat(data: bytes, lines: Sequence[_Line], meta_keys: int) -> None:
    """As many keys as colons, lists and objects as brackets: no key stands twice, and no meta nests anything."""
    text = np.frombuffer(data, np.uint8)
    keys, lists, objects = 3 * len(lines) + meta_keys, len(lines), len(lines)
    for column in ([line.action for line in lines], [line.reward for line in lines], [line.context for line in lines]):
        kinds = Counter(map(type, column))
        keys += len(lines) - kinds[UnsetType]
        lists += kinds[list]
    metas = sum(line.meta is not UNSET for line in lines)
    brackets = [int(np.count_nonzero(text == ord(each))) for each in "[{"]
    if brackets != [lists, objects + metas] or _colons(data, text) != keys + metas:
        raise _DoubtError


def _colons(data: bytes, text: NDArray[np.uint8]) -> int:
    """That may follow a key; those within a text mostly do not."""
    colons = np.flatnonzero(text == ord(":"))
    before = text[colons - 1]
    quoted = int(np.count_nonzero(before == ord('"')))
    return len(colons) if np.isin(before, (9, 13, 32)).any() else quoted


def _metas(lines: Sequence[_Line]) -> list[Mapping[str, Any]]:
    return [NO_META if line.meta is UNSET else line.meta for line in lines]


def _batch(numbers: Ints, lines: Sequence[_Line], metas: Sequence[Mapping[str, Any]], keys: set[str]) -> FrameBatch:
    agents = [line.agent_id for line in lines]
    for agent in set(agents):
        _checked_agent(agent)
    return FrameBatch.of(numbers, None, agents, metas, keys, _table(lines))


def _table(lines: Sequence[_Line]) -> Table:
    actions = [line.action for line in lines]
    kinds = set(map(type, actions))
    if len(kinds) > 1:
        raise _DoubtError
    return Table(
        timestamps=np.array([line.timestamp for line in lines], np.float64),
        features=_matrix([line.features for line in lines], np.float64),
        actions=np.array(actions, np.int64) if kinds == {int} else _matrix(actions, np.float32),
        rewards=_rewards([line.reward for line in lines]),
        confidence=None,
        context=_matrix([line.context for line in lines], np.float32),
    )


def _matrix(rows: Sequence[Any], scalar: type[np.floating[Any]]) -> Any:
    """Rows of one length as float64, rounded to `scalar`; None where there are none."""
    if rows[0] is UNSET:
        return None if all(row is UNSET for row in rows) else _doubt()
    if UNSET in rows or len(widths := set(map(len, rows))) > 1:
        raise _DoubtError
    shape = len(rows), widths.pop()
    try:
        flat = np.fromiter(chain.from_iterable(rows), np.float64, shape[0] * shape[1])
    except TypeError:  # a null
        flat = np.array(list(chain.from_iterable(rows)), np.float64)
    return flat.reshape(shape).astype(scalar, copy=False)


def _doubt() -> None:
    raise _DoubtError


def _rewards(values: Sequence[Any]) -> Any:
    if values[0] is UNSET:
        return None if all(value is UNSET for value in values) else _doubt()
    if UNSET in values:
        raise _DoubtError
    return np.array(values, np.float64).astype(np.float32)


def _unused(numbers: Ints, metas: Sequence[Mapping[str, Any]], keys: set[str]) -> dict[str, tuple[int, int]]:
    found = dict[str, tuple[int, int]]()
    for key in keys - META_KEYS:
        having = [key in meta for meta in metas]
        found[key] = int(numbers[having.index(True)]), sum(having)
    return found


def _line_by_line(first: int, data: bytes) -> Parsed:
    texts = data.removesuffix(b"\n").split(b"\n")
    rows, unused = list[FrameBatch | Row](), dict[str, tuple[int, int]]()
    numbered = enumerate(zip(map(_certain, texts), texts, strict=True), first)
    for shape, group in groupby(numbered, key=lambda each: _shape(each[1][0])):
        entries = list(group)
        found = None if shape is None else _alike(entries)
        if found is None:
            exact = [row for number, (_, text) in entries for row in parse_line(number, text)]
            found = Parsed(batches_of(exact), _unused_of(exact))
        rows += found.rows
        for key, (line, count) in found.meta_keys.items():
            earlier = unused.get(key, (line, 0))
            unused[key] = earlier[0], earlier[1] + count
    return Parsed(rows, unused)


def _unused_of(rows: Sequence[Row]) -> dict[str, tuple[int, int]]:
    metas = [row.meta for row in rows]
    return _unused(np.array([row.line for row in rows]), metas, {*()}.union(*metas))


def _alike(entries: Sequence[tuple[int, tuple[_Line | None, bytes]]]) -> Parsed | None:
    """Certain lines of one shape."""
    lines = [line for _, (line, _) in entries if line is not None]
    metas = _metas(lines)
    numbers, keys = np.array([number for number, _ in entries], np.int64), {*()}.union(*metas)
    try:
        return Parsed([_batch(numbers, lines, metas, keys)], _unused(numbers, metas, keys))
    except ValueError:
        return None


def _certain(text: bytes) -> _Line | None:
    """None where only rows.py can tell what the line holds."""
    try:
        line = _decode(_nulled(text))
        _checked_agent(line.agent_id)
        meta = {} if line.meta is UNSET else parse_meta(line.meta)
    except (ValueError, RecursionError):
        return None
    optional = line.action, line.reward, line.context, line.meta
    within, keys = _keys_in(meta)
    colons = text.count(b":") - 3 - sum(each is not UNSET for each in optional) - keys  # one more for a key twice
    if colons and (b"\\" in text or colons != within + line.agent_id.count(":")):
        return None
    return line


def _keys_in(value: Any) -> tuple[int, int]:
    """Colons within its texts, and keys, at any depth."""
    if type(value) is str:
        return value.count(":"), 0
    if type(value) is not dict and type(value) is not list:
        return 0, 0
    inner = chain(value, value.values()) if type(value) is dict else value
    found = list(map(_keys_in, inner))
    own = len(value) if type(value) is dict else 0
    return sum(colons for colons, _ in found), own + sum(keys for _, keys in found)


def _shape(line: _Line | None) -> tuple[Any, ...] | None:
    """Lines of one shape are columns of one batch."""
    if line is None:
        return None
    action, context = line.action, line.context
    width = len(action) if isinstance(action, list) else type(action)
    return len(line.features), width, type(line.reward), None if context is UNSET else len(context)
