"""Lines of a log -> batches of frames, decoded by msgspec: fast, and only where nothing is in doubt.

A line that is not certain to be good is left to rows.py, which is exact and words each refusal.
"""

import gc
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from itertools import chain, groupby
from typing import Annotated, Any, NamedTuple

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


class _Line(Struct, forbid_unknown_fields=True, gc=False):
    agent_id: str
    timestamp: float
    features: Annotated[list[Number | None], Meta(min_length=1, max_length=MAX_NUMBERS)]
    action: Vector | Annotated[int, Meta(ge=0, lt=MAX_ACTIONS)] | UnsetType = UNSET
    reward: Number | UnsetType = UNSET
    context: Vector | UnsetType = UNSET
    meta: dict[str, Any] | UnsetType = UNSET


class _Columns(NamedTuple):
    """The fields of lines, one by one; UNSET where a line lacks it."""

    agent_id: Sequence[str]
    timestamp: Sequence[float]
    features: Sequence[Sequence[float | None]]
    action: Sequence[Any]
    reward: Sequence[Any]
    context: Sequence[Any]
    meta: Sequence[Any]

    @classmethod
    def of(cls, lines: Iterable[_Line]) -> "_Columns":
        columns = cls(*zip(*map(astuple, lines), strict=True))
        if UNSET in columns.meta:
            return columns._replace(meta=[NO_META if meta is UNSET else meta for meta in columns.meta])
        return columns


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
    return _parsed(np.arange(first, first + len(lines)), columns)


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


def _require_flat(data: bytes, columns: _Columns) -> None:
    """As many keys as colons, lists and objects as brackets: no key stands twice, and no meta nests anything."""
    text, count = np.frombuffer(data, np.uint8), len(columns.meta)
    absent = count if columns.meta[0] is NO_META else 0
    keys, lists = 4 * count - absent + sum(map(len, columns.meta)), count
    for column in (columns.action, columns.reward, columns.context):
        kinds = Counter(map(type, column))
        keys += count - kinds[UnsetType]
        lists += kinds[list]
    found = [int(np.count_nonzero(text == ord(each))) for each in "[{:"]
    if found[:2] != [lists, 2 * count - absent] or (found[2] != keys and _colons_of_keys(text) != keys):
        raise _DoubtError


def _colons_of_keys(text: NDArray[np.uint8]) -> int:
    """Colons that may follow a key, where no space stands between: those within a text mostly follow something else."""
    before = text[np.flatnonzero(text == ord(":")) - 1]
    return -1 if np.isin(before, SPACES).any() else int(np.count_nonzero(before == ord('"')))


def _parsed(numbers: Ints, columns: _Columns) -> Parsed:
    """Lines of one shape."""
    for agent in set(columns.agent_id):
        _checked_agent(agent)
    keys = set[str]().union(*columns.meta)
    batch = FrameBatch.of(numbers, None, columns.agent_id, columns.meta, keys, _table(columns))
    return Parsed([batch], _unused(numbers, columns.meta, keys))


def _table(columns: _Columns) -> Table:
    kinds = set(map(type, columns.action))
    return Table(
        timestamps=np.array(columns.timestamp, np.float64),
        features=_matrix(columns.features, np.float64),
        actions=np.array(columns.action, np.int64) if kinds == {int} else _matrix(columns.action, np.float32),
        rewards=None if _is_absent(columns.reward) else np.array(columns.reward, np.float64).astype(np.float32),
        confidence=None,
        context=_matrix(columns.context, np.float32),
    )


def _matrix(rows: Sequence[Any], scalar: type[np.floating[Any]]) -> Any:
    """Rows of one length as float64, rounded to `scalar`; None where there are none."""
    if _is_absent(rows):
        return None
    if set(map(type, rows)) != {list} or len(widths := set(map(len, rows))) > 1:
        raise _DoubtError
    shape = len(rows), widths.pop()
    try:
        flat = np.fromiter(chain.from_iterable(rows), np.float64, shape[0] * shape[1])
    except TypeError:  # a null
        flat = np.array(list(chain.from_iterable(rows)), np.float64)
    return flat.reshape(shape).astype(scalar, copy=False)


def _is_absent(column: Sequence[Any]) -> bool:
    """Raises ValueError where it is, and is not."""
    absent = column.count(UNSET)
    if absent not in (0, len(column)):
        raise _DoubtError
    return absent > 0


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
    for shape, group in groupby(numbered, key=lambda each: _shape(each[1][0])):
        entries = list(group)
        found = None if shape is None else _alike(entries)
        if found is None:
            exact = [row for number, (_, text) in entries for row in parse_line(number, text)]
            found = Parsed(batches_of(exact), _unused_of(exact))
        yield found


def _unused_of(rows: Sequence[Row]) -> dict[str, tuple[int, int]]:
    metas = [row.meta for row in rows]
    return _unused(np.array([row.line for row in rows]), metas, {*()}.union(*metas))


def _alike(entries: Sequence[tuple[int, tuple[_Line | None, bytes]]]) -> Parsed | None:
    """Certain lines of one shape."""
    lines = [line for _, (line, _) in entries if line is not None]
    try:
        return _parsed(np.array([number for number, _ in entries], np.int64), _Columns.of(lines))
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
