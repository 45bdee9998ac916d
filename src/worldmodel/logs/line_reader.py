"""Lines of a log -> batches of frames, decoded by msgspec: fast, and only where nothing is in doubt.

A line that is not certain to be good is left to rows.py, which is exact and words each refusal.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, groupby, islice
from operator import itemgetter
from typing import Annotated, Any, NamedTuple, cast

import msgspec
import numpy as np
from msgspec import UNSET, Meta, Raw, Struct, UnsetType

from worldmodel.core.typing import Floats, Ints
from worldmodel.episodes.frame import FLOAT32_MAX, MAX_ACTIONS, MAX_NUMBERS, META_KEYS, parse_agent, parse_meta
from worldmodel.episodes.schema import Kind
from worldmodel.logs.blocks import Block
from worldmodel.logs.frame_batch import FrameBatch, Label, Rows, Signature
from worldmodel.logs.rows import MAX_DIGITS, decoded, parse_line

CACHED_VALUES = 4096  # agents and metas that a reader remembers
CACHED_BYTES = 1 << 14  # of a meta that it does
SIMPLE = {str, int, float, bool, type(None)}

Number = Annotated[float, Meta(ge=-FLOAT32_MAX, le=FLOAT32_MAX)]
Vector = Annotated[list[Number], Meta(min_length=1, max_length=MAX_NUMBERS)]


class _Line(Struct, forbid_unknown_fields=True, gc=False):
    agent_id: str
    timestamp: float
    features: Vector
    action: Vector | Annotated[int, Meta(ge=0, lt=MAX_ACTIONS)] | UnsetType = UNSET
    reward: Number | UnsetType = UNSET
    meta: Raw | UnsetType = UNSET


class _Meta(NamedTuple):
    values: Mapping[str, Any]
    label: Label
    colons: int  # in its text


class _Record(NamedTuple):
    line: _Line
    meta: _Meta


_decode = msgspec.json.Decoder(_Line).decode
_decode_meta = msgspec.json.Decoder().decode
_ABSENT = dict.fromkeys(META_KEYS, UNSET)
_understood = itemgetter(*META_KEYS)
_NO_META = _Meta({}, Label.of({}), 0)


@dataclass
class LineReader:
    """Remembers the agents and metas that it has checked."""

    _agents: set[str] = field(default_factory=set)
    _metas: dict[bytes, _Meta] = field(default_factory=dict)
    _labels: dict[object, Label] = field(default_factory=dict)

    def read(self, block: Block) -> list[Rows]:
        """The rows of a readable block in order, together where they are good and of one signature."""
        for cache in (self._agents, self._metas, self._labels):
            if len(cache) > CACHED_VALUES:
                cache.clear()
        if block.data.isspace():  # however many blank lines a small .gz unpacks to
            return []
        texts = block.data.removesuffix(b"\n").split(b"\n")
        numbered = enumerate(texts, block.first)
        rows = list[Rows]()
        for shape, group in groupby(map(self._record, texts), _shape):
            records = list(group)
            lines = list(islice(numbered, len(records)))
            if shape is None:
                rows.append([row for number, text in lines for row in parse_line(number, text)])
            else:
                rows.append(_batch(lines[0][0], cast(list[_Record], records), Signature(*shape)))
        return rows

    def _record(self, text: bytes) -> _Record | None:
        """None where only rows.py can tell what the line holds."""
        try:
            line = _decode(text)
            if line.agent_id not in self._agents:
                self._agents.add(parse_agent(line.agent_id))
            meta = _NO_META if line.meta is UNSET else self._meta(bytes(line.meta))
        except (ValueError, RecursionError):
            return None
        fields = 3 + (line.action is not UNSET) + (line.reward is not UNSET) + (line.meta is not UNSET)
        colons = text.count(b":") - meta.colons - fields  # one more for each key that stands twice
        if colons and (b"\\" in text or colons != line.agent_id.count(":")):
            return None
        return _Record(line, meta)

    def _meta(self, text: bytes) -> _Meta:
        known = self._metas.get(text)
        if known is None:
            values = _simple_meta(text)
            if values is None:
                values = parse_meta(decoded(text))
                label = Label.of(values)
            else:
                label = self._label(values)
            known = _Meta(values, label, text.count(b":"))
            if len(text) <= CACHED_BYTES:
                self._metas[text] = known
        return known

    def _label(self, meta: dict[str, Any]) -> Label:
        """Of a flat meta, whose understood keys alone decide whether it is valid."""
        known = _understood(_ABSENT | meta)
        key = known, tuple(map(type, known))  # True and 1 are equal keys
        if key not in self._labels:
            self._labels[key] = Label.of(parse_meta(meta))
        return self._labels[key]


def _simple_meta(text: bytes) -> dict[str, Any] | None:
    """A short and flat meta, read as rows.py reads it: each of its colons belongs to another key."""
    meta = _decode_meta(text) if len(text) <= MAX_DIGITS else None
    if type(meta) is dict and len(meta) == text.count(b":") and SIMPLE.issuperset(map(type, meta.values())):
        return meta
    return None


def _shape(record: _Record | None) -> tuple[int, Kind, int, bool] | None:
    """The fields of the line's Signature."""
    if record is None:
        return None
    line, action = record.line, record.line.action
    if isinstance(action, list):
        return len(line.features), "continuous", len(action), line.reward is not UNSET
    return len(line.features), "none" if action is UNSET else "discrete", 0, line.reward is not UNSET


def _batch(first: int, records: Sequence[_Record], signature: Signature) -> FrameBatch:
    """Lines of one signature; `first` is the number of the first one."""
    lines = [record.line for record in records]
    actions: Ints | Floats | None = None
    if signature.kind == "continuous":
        actions = _matrix([line.action for line in lines])
    elif signature.kind == "discrete":
        actions = np.array([line.action for line in lines], np.int64)
    return FrameBatch(
        lines=np.arange(first, first + len(lines)),
        agents=[line.agent_id for line in lines],
        timestamps=np.array([line.timestamp for line in lines], np.float64),
        features=_matrix([line.features for line in lines], np.float64),
        actions=actions,
        rewards=np.array([line.reward for line in lines], np.float64).astype(np.float32) if signature.reward else None,
        metas=[record.meta.values for record in records],
        labels=[record.meta.label for record in records],
        signature=signature,
    )


def _matrix(rows: Sequence[Any], scalar: type[np.floating[Any]] = np.float32) -> Any:
    """Rows of one length, as float64 rounded to `scalar`."""
    shape = len(rows), len(rows[0])
    return np.fromiter(chain.from_iterable(rows), np.float64, shape[0] * shape[1]).reshape(shape).astype(scalar)
