"""Lines of a log -> batches of frames, decoded by msgspec: fast, and only where nothing is in doubt.

A line that is not certain to be good is left to rows.py, which is exact and words each refusal.
"""

import gc
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from itertools import chain, groupby, pairwise
from typing import Annotated, Any, NamedTuple, cast

import msgspec
import numpy as np
from msgspec import UNSET, Meta, Struct, UnsetType
from msgspec.structs import astuple
from numpy.typing import NDArray

from worldmodel.core.typing import Ints
from worldmodel.episodes.frame import FLOAT32_MAX, MAX_ACTIONS, MAX_NUMBERS, META_KEYS, parse_agent, parse_meta
from worldmodel.episodes.table import Table
from worldmodel.logs.blocks import Block
from worldmodel.logs.frame_batch import FrameBatch, batches_of
from worldmodel.logs.rows import Row, parse_line

FEATURES = re.compile(rb'"features"\s*:\s*\[[^\[\]{}"]*\]')
NAN = re.compile(rb"\bNaN\b")
PIECE_BYTES = 1 << 17
SPACES = (9, 13, 32)
NO_META: Mapping[str, Any] = {}

Number = Annotated[float, Meta(ge=-FLOAT32_MAX, le=FLOAT32_MAX)]
Vector = Annotated[list[Number], Meta(min_length=1, max_length=MAX_NUMBERS)]


class _Line(Struct, forbid_unknown_fields=True, gc=False, kw_only=True):
    agent_id: str | UnsetType
    timestamp: float
    features: Annotated[list[Number | None], Meta(min_length=1, max_length=MAX_NUMBERS)]
    action: Vector | Annotated[int, Meta(ge=0, lt=MAX_ACTIONS)] | UnsetType = UNSET
    reward: Number | UnsetType = UNSET
    context: Vector | UnsetType = UNSET
    meta: dict[str, Any] | UnsetType = UNSET


class _Inner(_Line, forbid_unknown_fields=True, gc=False, kw_only=True):
    agent_id: str | UnsetType = UNSET


class _Episode(Struct, forbid_unknown_fields=True, gc=False):
    agent_id: str
    episode: Annotated[list[_Inner], Meta(min_length=1)]


class _Columns(NamedTuple):
    """The fields of lines, one by one; UNSET where a line lacks it."""

    agent_id: Sequence[Any]
    timestamp: Sequence[float]
    features: Sequence[Sequence[float | None]]
    action: Sequence[Any]
    reward: Sequence[Any]
    context: Sequence[Any]
    meta: Sequence[Any]

    @classmethod
    def of(cls, lines: Iterable[_Line]) -> "_Columns":
        return cls(*zip(*map(astuple, lines), strict=True))

    def shapes(self) -> list[tuple[int, int]]:
        """First and last + 1 of lines that stand together and lack the same fields, as long as each other."""
        some = self[2:6]
        if all(len(set(map(type, column))) == 1 for column in some) and all(
            len(set(map(len, column))) == 1 for column in some if type(column[0]) is list
        ):
            return [(0, len(self.meta))]
        kinds = [[len(each) if type(each) is list else type(each) for each in column] for column in some]
        rows = list(zip(*kinds, strict=True))
        changes = [number for number in range(1, len(rows)) if rows[number] != rows[number - 1]]
        return list(pairwise([0, *changes, len(rows)]))


class Parsed(NamedTuple):
    """What the lines of a block hold."""

    rows: list[FrameBatch | Row]  # in order
    meta_keys: dict[str, tuple[int, int]]  # one that is not understood: its first line, and how many have it


class _DoubtError(ValueError):
    """Whether the lines are what they seem to be."""


_decode = msgspec.json.Decoder(_Line).decode
_decode_episode = msgspec.json.Decoder(_Episode).decode
_decode_lines = msgspec.json.Decoder(_Line).decode_lines
_checked_agent = lru_cache(4096)(parse_agent)


def parse_block(block: Block) -> Parsed:
    """The rows of a block in order, together where they are good and of one signature."""
    if block.read_error:
        return Parsed([Row(block.first, block.read_error)], {})
    if block.data.isspace():  # however many blank lines a small .gz unpacks to
        return Parsed([], {})
    with _no_collection():
        first, parts = block.first, list[Parsed]()
        for data in _pieces(block.data):
            try:
                parts.append(_whole(first, data))
            except (ValueError, RecursionError):
                parts += _line_by_line(first, data)
            first += data.count(b"\n")
        return _joined(parts)


def _pieces(data: bytes) -> Iterator[bytes]:
    """Whole lines, of which what they are decoded to stays in a processor's cache."""
    begin = 0
    while begin < len(data):
        end = data.find(b"\n", begin + PIECE_BYTES) + 1 or len(data)
        yield data[begin:end]
        begin = end


def _joined(parts: Sequence[Parsed]) -> Parsed:
    keys = dict[str, tuple[int, int]]()
    for key, (line, count) in chain.from_iterable(part.meta_keys.items() for part in parts):
        first, earlier = keys.get(key, (line, 0))
        keys[key] = first, earlier + count
    return Parsed([row for part in parts for row in part.rows], keys)


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
    columns = _Columns.of(lines)
    _require_flat(data, columns)
    return _parsed(np.arange(first, first + len(lines)), None, columns)


def _nulled(data: bytes) -> bytes:
    """The lines with null for each NaN, which stands for a missing reading."""
    if b"NaN" not in data:
        return data
    nulled = FEATURES.sub(lambda found: NAN.sub(b"null", found[0]), data)
    if b"NaN" in nulled or b"\\" in data:
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


def _require_flat(data: bytes, columns: _Columns, around: int = 0) -> None:
    """As many keys as colons, lists and objects as brackets: no key stands twice, and no meta nests anything.

    `around`: 1 where an object with two keys, the last of them a list, has all of them in it.
    """
    text, count = np.frombuffer(data, np.uint8), len(columns.meta)
    keys, lists, objects = 2 * count + 2 * around, count + around, count + around
    for column in (columns.agent_id, *columns[3:]):
        kinds = _types(column)
        keys += count - kinds[UnsetType]
        lists += kinds[list]
        objects += kinds[dict]
    keys += sum(
        map(len, (meta for meta in columns.meta if meta is not UNSET) if UNSET in columns.meta else columns.meta)
    )
    found = [int(np.count_nonzero(text == ord(each))) for each in "[{:"]
    if found[:2] != [lists, objects] or (found[2] != keys and _colons_of_keys(text) != keys):
        raise _DoubtError


def _types(column: Sequence[Any]) -> Counter[type]:
    kinds = set(map(type, column))  # mostly one
    return Counter({kinds.pop(): len(column)}) if len(kinds) == 1 else Counter(map(type, column))


def _colons_of_keys(text: NDArray[np.uint8]) -> int:
    """Colons that may follow a key, where no space stands between: those within a text mostly follow something else."""
    before = text[np.flatnonzero(text == ord(":")) - 1]
    return -1 if np.isin(before, SPACES).any() else int(np.count_nonzero(before == ord('"')))


def _parsed(numbers: Ints, positions: Ints | None, columns: _Columns) -> Parsed:
    """Raises ValueError where one of the lines is not certain to be good."""
    for agent in set(columns.agent_id):
        _checked_agent(agent)
    if UNSET in columns.meta:
        columns = columns._replace(meta=[NO_META if meta is UNSET else meta for meta in columns.meta])
    keys, rows = set[str]().union(*columns.meta), list[FrameBatch | Row]()
    for begin, end in columns.shapes():
        some = columns if end - begin == len(numbers) else _Columns._make(column[begin:end] for column in columns)
        where = None if positions is None else positions[begin:end]
        rows.append(FrameBatch.of(numbers[begin:end], where, some.agent_id, some.meta, keys, _table(some)))
    return Parsed(rows, _unused(numbers, columns.meta, keys))


def _table(columns: _Columns) -> Table:
    action, reward = columns.action, columns.reward
    return Table(
        timestamps=np.array(columns.timestamp, np.float64),
        features=_matrix(columns.features, np.float64),
        actions=np.array(action, np.int64) if type(action[0]) is int else _matrix(action, np.float32),
        rewards=None if reward[0] is UNSET else np.array(reward, np.float64).astype(np.float32),
        confidence=None,
        context=_matrix(columns.context, np.float32),
    )


def _matrix(rows: Sequence[Any], scalar: type[np.floating[Any]]) -> Any:
    """Rows of one length as float64, rounded to `scalar`; None where there are none."""
    if rows[0] is UNSET:
        return None
    shape = len(rows), len(rows[0])
    try:
        flat = np.fromiter(chain.from_iterable(rows), np.float64, shape[0] * shape[1])
    except TypeError:  # a null
        flat = np.array(list(chain.from_iterable(rows)), np.float64)
    return flat.reshape(shape).astype(scalar, copy=False)


def _unused(numbers: Ints, metas: Sequence[Mapping[str, Any]], keys: set[str]) -> dict[str, tuple[int, int]]:
    everywhere = sum(map(len, metas)) == len(keys) * len(metas)
    found = dict[str, tuple[int, int]]()
    for key in keys - META_KEYS:
        having = [] if everywhere else [key in meta for meta in metas]
        found[key] = (int(numbers[having.index(True)]), sum(having)) if having else (int(numbers[0]), len(metas))
    return found


def _line_by_line(first: int, data: bytes) -> Iterator[Parsed]:
    texts = data.removesuffix(b"\n").split(b"\n")
    numbered = enumerate(zip(map(_certain, texts), texts, strict=True), first)
    for certain, group in groupby(numbered, key=lambda each: each[1][0] is not None):
        entries = list(group)
        if certain and (found := _all_certain(entries)):
            yield found
        else:
            yield from (_by_itself(number, text) for number, (_, text) in entries)


def _all_certain(entries: Sequence[tuple[int, tuple[_Line | None, bytes]]]) -> Parsed | None:
    numbers = np.array([number for number, _ in entries], np.int64)
    try:
        return _parsed(numbers, None, _Columns.of(line for _, (line, _) in entries if line is not None))
    except ValueError:
        return None


def _by_itself(number: int, text: bytes) -> Parsed:
    """An episode line, or what only rows.py can tell."""
    try:
        return _episode(number, _nulled(text))
    except (ValueError, RecursionError):
        rows = parse_line(number, text)
    metas = [row.meta for row in rows]
    return Parsed(batches_of(rows), _unused(np.full(len(rows), number), metas, {*()}.union(*metas)))


def _episode(number: int, text: bytes) -> Parsed:
    """Raises ValueError where it is not certain to be an episode line of good frames."""
    line = _decode_episode(text)
    columns, count = _Columns.of(line.episode), len(line.episode)
    if not {*columns.agent_id} <= {line.agent_id, UNSET}:
        raise _DoubtError
    _require_flat(text, columns, 1)
    named = columns._replace(agent_id=[line.agent_id] * count)
    return _parsed(np.full(count, number), np.arange(count), named)


def _certain(text: bytes) -> _Line | None:
    """None where only rows.py can tell what the line holds."""
    if b"NaN" in text and text.count(b'"features"') > 1:  # one of them may be of its meta
        return None
    try:
        line = _decode(_nulled(text))
        _checked_agent(cast(str, line.agent_id))
        meta = {} if line.meta is UNSET else parse_meta(line.meta)
    except (ValueError, RecursionError):
        return None
    optional = line.action, line.reward, line.context, line.meta
    within, keys = _keys_in(meta)
    colons = text.count(b":") - 3 - sum(each is not UNSET for each in optional) - keys  # one more for a key twice
    if colons and (b"\\" in text or colons != within + str(line.agent_id).count(":")):
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
