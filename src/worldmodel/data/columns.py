"""Frame lines -> columns, many at a time: fast, and only where nothing is in doubt.

What is not certain to be good, or has another form than its neighbours, is left to rows.py, which is exact. Dimension
key: N frames, F features, A actions.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from operator import attrgetter
from typing import Any, Literal, NamedTuple, TypeVar

import msgspec
import numpy as np
import simdjson
from msgspec import UNSET, Raw, UnsetType
from numpy.typing import NDArray

from worldmodel.data.frame import FLOAT32_MAX, FLOAT64_MAX, MAX_ACTIONS, Float32, Frame, is_text, parse_meta
from worldmodel.data.rows import Row, decoded
from worldmodel.data.schema import Kind
from worldmodel.data.table import Table
from worldmodel.data.template import Template

Ints = NDArray[np.int64]
Value = TypeVar("Value", str, bytes)
MANY_METAS = 4096  # decoded ones that a reader keeps
MOST_RUNS = 32  # of lines alike in a block; more are read line by line
PATIENCE = 4  # blocks that are tried before a reader gives up that lines are alike


class Signature(NamedTuple):
    """What all rows of one data set have in common."""

    features: int
    kind: Kind
    action: int  # length of a continuous action, else 0
    reward: bool


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


@dataclass(frozen=True)
class Columns:
    """Good frame lines of one signature, in order."""

    lines: Ints  # [N] numbers in their file
    agent_index: Ints  # [N] into agents
    agents: Sequence[str]
    timestamps: NDArray[np.float64]  # [N]
    features: Float32  # [N, F]
    actions: Ints | Float32 | None  # [N] or [N, A]
    rewards: Float32 | None  # [N]
    meta_index: Ints  # [N] into metas
    metas: Sequence[Mapping[str, Any]]
    signature: Signature

    def __len__(self) -> int:
        return len(self.lines)

    def agent(self, index: int) -> str:
        return self.agents[int(self.agent_index[index])]

    def table(self, indices: Ints, confidence: float | None) -> Table:
        """Some of the rows, all of one confidence."""
        return Table(
            timestamps=self.timestamps[indices],
            features=self.features[indices],
            actions=None if self.actions is None else self.actions[indices],
            rewards=None if self.rewards is None else self.rewards[indices],
            confidence=None if confidence is None else np.full(len(indices), confidence, np.float32),
        )

    def row(self, index: int) -> Row:
        """What rows.py would say of the same line."""
        meta, agent = self.metas[self.meta_index[index]], self.agent(index)
        action = None if self.actions is None else self.actions[index]
        frame = Frame(
            agent_id=agent,
            timestamp=float(self.timestamps[index]),
            features=self.features[index].copy(),
            action=int(action) if isinstance(action, np.integer) else action,
            reward=None if self.rewards is None else float(self.rewards[index]),
            meta=meta,
        )
        return Row(int(self.lines[index]), "", frame, agent, meta)


@dataclass
class ColumnReader:
    """Remembers the metas that it has decoded, and the line that others may be like: most repeat one."""

    _parser: simdjson.Parser = field(default_factory=simdjson.Parser)
    _known: dict[bytes, Mapping[str, Any]] = field(default_factory=dict)
    _like: "_Like | None" = None
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
        return _joined(runs)

    def _like_first(self, line: bytes) -> "_Like | None":
        only, template = self._each(1, line), Template.of(line)
        return None if template is None else _Like(template, only)

    def _columns(self, numbers: Ints, lines: Sequence[bytes], colons: int) -> Columns:
        agents, timestamps, features, actions, rewards, metas = zip(*map(_fields, map(_line, lines)), strict=True)
        times = np.array(timestamps, np.float64)
        _require(bool((np.abs(times) < FLOAT64_MAX).all()))
        vectors = self._vectors(features)
        taken = None if _absent(actions) else self._actions(actions)
        earned = None if _absent(rewards) else self._scalars(rewards)
        meta_index, known, inner = self._metas(metas)
        agent_index, named = _indexed(agents)
        _require(all(is_text(agent) and ":" not in agent for agent in named))
        keys = 3 + sum(column[0] is not UNSET for column in (actions, rewards, metas))
        _require(colons == keys * len(lines) + inner)  # else a key stands twice
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
        _require(len(ends) == count + 1 and len(numbers) == count * width)
        before = np.searchsorted(commas, ends[:-1])
        _require(np.array_equal(before, np.arange(count) * width + width - 1))
        return _float32(numbers).reshape(count, width)

    def _scalars(self, raws: Sequence[Raw]) -> Float32:
        text, numbers = self._numbers(raws, "d")
        _require(text.count(b"[") == 1 and len(numbers) == len(raws))
        return _float32(numbers)

    def _actions(self, raws: Sequence[Raw]) -> Ints | Float32:
        if bytes(raws[0]).lstrip().startswith(b"["):
            return self._vectors(raws)
        text, numbers = self._numbers(raws, "i")
        _require(text.count(b"[") == 1 and len(numbers) == len(raws))
        _require(numbers.min() >= 0 and numbers.max() < MAX_ACTIONS)
        return numbers

    def _metas(self, raws: Sequence[Raw | UnsetType]) -> tuple[Ints, list[Mapping[str, Any]], int]:
        """Index of each row's meta, the metas, and how many colons stand in all of them."""
        if _absent(raws):
            return np.zeros(len(raws), np.int64), [{}], 0
        indices, texts = _indexed(list(map(bytes, raws)))  # type: ignore[arg-type]
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


@dataclass(frozen=True)
class _Like:
    """A line that others differ from in numbers alone."""

    template: Template
    only: Columns  # what it holds itself

    def columns(self, text: bytes, numbers: NDArray[np.float64], first: int) -> Columns:
        """What template.numbers found, as columns."""
        small = _float32(numbers)
        part = {name: small[:, where] for name, where in self.template.columns.items()}
        count, kind, zeros = len(numbers), self.only.signature.kind, np.zeros(len(numbers), np.int64)
        actions: Ints | Float32 | None = part.get("action")
        if kind == "discrete":
            actions = numbers[:, self.template.columns["action"]][:, 0].astype(np.int64)
            _require(self.template.whole("action", text) and bool(actions.max() < MAX_ACTIONS))
        return replace(
            self.only,
            lines=np.arange(first, first + count),
            agent_index=zeros,
            timestamps=numbers[:, self.template.columns["timestamp"]][:, 0],
            features=part["features"],
            actions=actions,
            rewards=part["reward"][:, 0] if "reward" in part else None,
            meta_index=zeros,
        )


def _joined(runs: Sequence[Columns]) -> Columns | None:
    """One after the other; None where their signatures differ."""
    if len(runs) == 1:
        return runs[0]
    if any(run.signature != runs[0].signature for run in runs):
        return None
    which = np.repeat(np.arange(len(runs)), [len(run) for run in runs])
    agent_index, agents = _indexed([run.agents[0] for run in runs])
    arrays = {
        name: None if getattr(runs[0], name) is None else np.concatenate([getattr(run, name) for run in runs])
        for name in ("lines", "timestamps", "features", "actions", "rewards")
    }
    metas = [run.metas[0] for run in runs]
    whole: Any = arrays | {"agent_index": agent_index[which], "agents": agents, "meta_index": which, "metas": metas}
    return Columns(**whole, signature=runs[0].signature)


def _indexed(values: Sequence[Value]) -> tuple[Ints, list[Value]]:
    """Where each value stands among the distinct ones, and these in order of their first appearance."""
    numbers = {value: number for number, value in enumerate(dict.fromkeys(values))}
    return np.fromiter(map(numbers.__getitem__, values), np.int64, len(values)), list(numbers)


def _count(text: bytes, symbol: bytes) -> int:
    return int(np.count_nonzero(np.frombuffer(text, np.uint8) == ord(symbol)))


def _require(certain: bool) -> None:
    if not certain:
        raise ValueError("in doubt")


def _absent(column: Sequence[object]) -> bool:
    """Whether no row has the field; rows that have it beside rows that have not are in doubt."""
    missing = column.count(UNSET)
    _require(missing in (0, len(column)))
    return missing > 0


def _float32(numbers: NDArray[np.float64]) -> Float32:
    _require(bool((np.abs(numbers) < FLOAT32_MAX).all()))
    return numbers.astype(np.float32)
