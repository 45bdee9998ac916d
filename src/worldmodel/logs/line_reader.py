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
from typing import Any, NamedTuple, cast

import msgspec
import numpy as np
from msgspec import UNSET, UnsetType
from numpy.typing import NDArray

from worldmodel.core.typing import Ints
from worldmodel.episodes.frame import META_KEYS, parse_agent, parse_meta
from worldmodel.logs.blocks import Block
from worldmodel.logs.frame_batch import FrameBatch, batches_of
from worldmodel.logs.line_columns import EpisodeLine, Fields, Line, table_of
from worldmodel.logs.rows import Row, parse_line

FEATURES = re.compile(rb'"features"\s*:\s*\[[^\[\]{}"]*\]')
NAN = re.compile(rb"\bNaN\b")
PIECE_BYTES = 1 << 17
SPACES = (9, 13, 32)
NO_META: Mapping[str, Any] = {}


class Parsed(NamedTuple):
    """What the lines of a block hold."""

    rows: list[FrameBatch | Row]  # in order
    meta_keys: dict[str, tuple[int, int]]  # one that is not understood: its first line, and how many have it


class _DoubtError(ValueError):
    """Whether the lines are what they seem to be."""


_decode = msgspec.json.Decoder(Line).decode
_decode_episode = msgspec.json.Decoder(EpisodeLine).decode
_decode_lines = msgspec.json.Decoder(Line).decode_lines
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
    columns = Fields.of(lines)
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


def _require_flat(data: bytes, columns: Fields, around: int = 0) -> None:
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
    keys += sum(map(len, [meta for meta in columns.meta if meta is not UNSET]))
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


def _parsed(numbers: Ints, positions: Ints | None, columns: Fields) -> Parsed:
    """Raises ValueError where one of the lines is not certain to be good."""
    for agent in set(columns.agent_id):
        _checked_agent(agent)
    if UNSET in columns.meta:
        columns = columns._replace(meta=[NO_META if meta is UNSET else meta for meta in columns.meta])
    keys, rows = set[str]().union(*columns.meta), list[FrameBatch | Row]()
    for begin, end in columns.shapes():
        some = columns if end - begin == len(numbers) else Fields._make(column[begin:end] for column in columns)
        where = None if positions is None else positions[begin:end]
        rows.append(FrameBatch.of(numbers[begin:end], where, some.agent_id, some.meta, keys, table_of(some)))
    return Parsed(rows, _unused(numbers, columns.meta, keys))


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


def _all_certain(entries: Sequence[tuple[int, tuple[Line | None, bytes]]]) -> Parsed | None:
    numbers = np.array([number for number, _ in entries], np.int64)
    try:
        return _parsed(numbers, None, Fields.of(line for _, (line, _) in entries if line is not None))
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
    columns, count = Fields.of(line.episode), len(line.episode)
    if not {*columns.agent_id} <= {line.agent_id, UNSET}:
        raise _DoubtError
    _require_flat(text, columns, 1)
    named = columns._replace(agent_id=[line.agent_id] * count)
    return _parsed(np.full(count, number), np.arange(count), named)


def _certain(text: bytes) -> Line | None:
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
    return sum(colons for colons, _ in found), sum((keys for _, keys in found), len(value) * (type(value) is dict))
