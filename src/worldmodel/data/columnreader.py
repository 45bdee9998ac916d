"""Frame lines -> columns, many at a time: fast, and only where nothing is in doubt.

What is not certain to be good, or has another form than its neighbours, is left to rows.py, which is exact.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any, Literal

import msgspec
import numpy as np
import simdjson
from msgspec import UNSET, Raw, UnsetType
from numpy.typing import NDArray

from worldmodel.data.alike import Alike
from worldmodel.data.columns import Columns, Ints, Signature, float32, indexed, joined, require
from worldmodel.data.frame import FLOAT64_MAX, MAX_ACTIONS, Float32, is_text, parse_meta
from worldmodel.data.rows import decoded
from worldmodel.data.schema import Kind
from worldmodel.data.template import Template

MANY_METAS = 4096  # decoded ones that a reader keeps
MOST_RUNS = 32  # of lines alike in a block; more are read line by line
PATIENCE = 4  # blocks that are tried before a reader gives up that lines are alike


class _Line(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    agent_id: str
    timestamp: float
    features: Raw
    action: Raw | UnsetType = UNSET
    reward: Raw | UnsetType = UNSET
    meta: Raw | UnsetType = UNSET


_line = msgspec.json.Decoder(_Line).decode
_fields = attrgetter("agent_id", "timestamp", "features", "action", "reward", "meta")
_DOUBT = (ValueError, TypeError, RuntimeError, RecursionError, msgspec.MsgspecError)


@dataclass
class ColumnReader:
    """Remembers the metas that it has decoded, and the line that others may be like: most repeat one."""

    _parser: simdjson.Parser = field(default_factory=simdjson.Parser)
    _known: dict[bytes, Mapping[str, Any]] = field(default_factory=dict)
    _like: Alike | None = None
    _unlike: int = 0  # blocks in a row that were not alike

    def read(self, first: int, data: bytes) -> Columns | None:
        """The lines as columns; None where any of them is in doubt. `first` is the number of the first one."""
        try:
            return self._alike(first, data) or self._each(first, data)
        except _DOUBT:
            return None

    def _each(self, first: int, data: bytes) -> Columns:
        """Any good lines of one signature."""
        lines = data.removesuffix(b"\n").split(b"\n")
        return self._columns(np.arange(first, first + len(lines)), lines, _count(data, b":"))

    def _alike(self, first: int, data: bytes) -> Columns | None:
        """Lines in a few runs, within which they differ in numbers alone; None where they are others."""
        if self._unlike >= PATIENCE:
            return None
        data, begin, runs = data if data.endswith(b"\n") else data + b"\n", 0, list[Columns]()
        while begin < len(data):
            if self._like is None or not self._like.template.fits(data, begin):
                self._like = self._like_first(data[begin : data.index(b"\n", begin) + 1])
            if self._like is None or len(runs) == MOST_RUNS:
                self._unlike += 1
                return None
            template = self._like.template
            end = template.reach(data, begin)
            found = template.numbers(data[begin + len(template.begin) : end - len(template.end)], self._parser)
            if found is None:
                self._unlike += 1
                return None
            runs.append(self._like.columns(*found, first))
            begin, first = end, first + len(runs[-1])
        self._unlike = 0
        return joined(runs)

    def _like_first(self, line: bytes) -> Alike | None:
        only, template = self._each(1, line), Template.of(line)
        return None if template is None else Alike(template, only)

    def _columns(self, numbers: Ints, lines: Sequence[bytes], colons: int) -> Columns:
        agents, timestamps, features, actions, rewards, metas = zip(*map(_fields, map(_line, lines)), strict=True)
        times = np.array(timestamps, np.float64)
        require(bool((np.abs(times) < FLOAT64_MAX).all()))
        vectors = self._vectors(features)
        taken = None if _absent(actions) else self._actions(actions)
        earned = None if _absent(rewards) else self._scalars(rewards)
        meta_index, known, inner = self._metas(metas)
        agent_index, named = indexed(agents)
        require(all(is_text(agent) and ":" not in agent for agent in named))
        keys = 3 + sum(column[0] is not UNSET for column in (actions, rewards, metas))
        require(colons == keys * len(lines) + inner)  # else a key stands twice
        kind: Kind = "none" if taken is None else "discrete" if taken.ndim == 1 else "continuous"
        width = taken.shape[1] if taken is not None and taken.ndim == 2 else 0
        signature = Signature(vectors.shape[1], kind, width, earned is not None)
        return Columns(numbers, agent_index, named, times, vectors, taken, earned, meta_index, known, signature)

    def _numbers(self, raws: Sequence[Raw], kind: Literal["d", "i"]) -> tuple[bytes, NDArray[Any]]:
        """The text of a list of the raws, and all numbers in it, however nested."""
        text = b"[" + b",".join(raws) + b"]"
        parsed = self._parser.parse(text)
        assert isinstance(parsed, simdjson.Array)
        return text, np.frombuffer(parsed.as_buffer(of_type=kind), np.int64 if kind == "i" else np.float64)

    def _vectors(self, raws: Sequence[Raw]) -> Float32:
        """[N, D] where each raw is a flat list of D numbers."""
        text, numbers = self._numbers(raws, "d")
        count = len(raws)
        width = bytes(raws[0]).count(b",") + 1
        symbols = np.frombuffer(text, np.uint8)
        commas, ends = np.flatnonzero(symbols == ord(",")), np.flatnonzero(symbols == ord("]"))
        require(len(ends) == count + 1 and len(numbers) == count * width)
        before = np.searchsorted(commas, ends[:-1])
        require(np.array_equal(before, np.arange(count) * width + width - 1))
        return float32(numbers).reshape(count, width)

    def _scalars(self, raws: Sequence[Raw]) -> Float32:
        text, numbers = self._numbers(raws, "d")
        require(text.count(b"[") == 1 and len(numbers) == len(raws))
        return float32(numbers)

    def _actions(self, raws: Sequence[Raw]) -> Ints | Float32:
        if bytes(raws[0]).lstrip().startswith(b"["):
            return self._vectors(raws)
        text, numbers = self._numbers(raws, "i")
        require(text.count(b"[") == 1 and len(numbers) == len(raws))
        require(numbers.min() >= 0 and numbers.max() < MAX_ACTIONS)
        return numbers

    def _metas(self, raws: Sequence[Raw | UnsetType]) -> tuple[Ints, list[Mapping[str, Any]], int]:
        """Index of each row's meta, the metas, and how many colons stand in all of them."""
        if _absent(raws):
            return np.zeros(len(raws), np.int64), [{}], 0
        indices, texts = indexed(list(map(bytes, raws)))  # type: ignore[arg-type]
        colons = np.array([text.count(b":") for text in texts])
        return indices, [self._meta(text) for text in texts], int(colons[indices].sum())

    def _meta(self, text: bytes) -> Mapping[str, Any]:
        found = self._known.get(text)
        if found is None:
            found = parse_meta(decoded(text))
            if len(self._known) >= MANY_METAS:
                self._known.clear()
            self._known[text] = found
        return found


def _count(text: bytes, symbol: bytes) -> int:
    return int(np.count_nonzero(np.frombuffer(text, np.uint8) == ord(symbol)))


def _absent(column: Sequence[object]) -> bool:
    """Whether no row has the field; rows that have it beside rows that have not are in doubt."""
    missing = column.count(UNSET)
    require(missing in (0, len(column)))
    return missing > 0
