"""Tables with a row for each frame, read batch by batch -> episodes. What Parquet, CSV and LeRobot share.

Consecutive rows of one agent with the same episode are one. Without a column of episodes, a new one begins where time
runs backwards and behind a terminal row.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from worldmodel.readers.field_map import FieldMap, unmapped
from worldmodel.readers.source import Names, Recorded, in_seconds

KEYS = ("features", "action", "reward", "terminal", "timestamp", "episode", "agent_id", "unit", "rate")
SINGLE = ("reward", "terminal", "timestamp", "episode", "agent_id")
SECOND = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
EXAMPLE = """timestamp: {0}       # seconds, or say `unit: ms`
features: [{1}]
action: [{2}]         # without brackets: an integer that names a choice
# episode, agent_id, reward, terminal: columns too, where there are such"""


def mapped(path: Path, known: Sequence[str], fields: FieldMap) -> FieldMap:
    """The map, or else one of columns that are named as in our own logs; features.0 and action.0 count on.

    Raises ValueError that lists the columns where it has no features, or names what is not there.
    """
    if not fields.features:
        own = {key: key for key in SINGLE if key in known} | {
            key: getattr(fields, key) for key in SINGLE if getattr(fields, key)
        }
        action: Any = fields.action or _counted("action", known) or None
        if action == ("action",):
            action = "action"
        fields = replace(fields, features=_counted("features", known), action=action, **own)
    if not fields.features:
        some = [*known, "x", "y", "z"]
        raise unmapped(path, "columns", known, EXAMPLE.format(*some[:3]))
    for name in wanted(fields):
        if name not in known:
            raise ValueError(f"{path}: has no column {name}; it has {', '.join(known)}")
    return fields


def named(known: Sequence[str]) -> bool:
    """Whether features are called so."""
    return bool(_counted("features", known))


def wanted(fields: FieldMap) -> list[str]:
    """Names of columns, each once."""
    names = [*fields.features, *fields.actions, *(getattr(fields, key) for key in SINGLE if getattr(fields, key))]
    return list(dict.fromkeys(names))


def _counted(stem: str, known: Sequence[str]) -> tuple[str, ...]:
    if stem in known:
        return (stem,)
    return tuple(sorted((name for name in known if re.fullmatch(rf"{stem}\.\d+", name)), key=_index))


def _index(name: str) -> int:
    return int(name.rpartition(".")[2])


class Rows(NamedTuple):
    """Frames that follow each other; the columns that a field map names."""

    numbers: NDArray[np.int64]  # of the rows, in their file
    times: NDArray[Any]
    features: NDArray[Any]
    actions: NDArray[Any] | None
    rewards: NDArray[Any] | None
    terminal: NDArray[np.bool_] | None

    def of(self, indices: NDArray[Any] | slice) -> "Rows":
        return Rows._make(None if column is None else column[indices] for column in self)


def joined(parts: Sequence[Rows]) -> Rows:
    if len(parts) == 1:
        return parts[0]
    return Rows._make(None if one[0] is None else np.concatenate(one) for one in zip(*parts, strict=True))


@dataclass
class Grouping:
    """Tables of one source, in order -> episodes."""

    fields: FieldMap
    names: Names
    agent: str  # where no column names one
    labels: Mapping[str, Sequence[str]] = field(default_factory=dict)  # column -> names of its numbers
    _open: dict[Any, list[Rows]] = field(default_factory=dict)  # by agent
    _episode: dict[Any, Any] = field(default_factory=dict)  # of what is open
    _place: dict[Any, str] = field(default_factory=dict)
    _ended: dict[Any, int] = field(default_factory=dict)  # how many episodes

    def over(self, batches: Iterable[Any], file: str = "") -> Iterator[Recorded]:
        """The episodes that end in pyarrow's batches of one file."""
        before = 0
        for batch in batches:
            rows = self._rows(batch, before)
            before += batch.num_rows
            agents = _keys(batch, self.fields.agent_id, rows)
            keys = _keys(batch, self.fields.episode, rows)
            for agent in dict.fromkeys(agents.tolist()):
                yield from self._add(agent, np.flatnonzero(agents == agent), rows, keys, file)

    def end(self) -> Iterator[Recorded]:
        for agent in list(self._open):
            yield self._close(agent)

    def _add(self, agent: Any, indices: NDArray[Any], rows: Rows, keys: NDArray[Any], file: str) -> Iterator[Recorded]:
        own, key = rows.of(indices), keys[indices]
        begins = np.zeros(len(indices), bool)
        begins[1:] = key[1:] != key[:-1]
        if self.fields.episode is None:
            begins[1:] |= own.times[1:] < own.times[:-1]
            if own.terminal is not None:
                begins[1:] |= own.terminal[:-1]
        if agent in self._open:
            last = self._open[agent][-1]
            ended = last.times[-1] > own.times[0] or (last.terminal is not None and bool(last.terminal[-1]))
            begins[0] = self._episode[agent] != key[0] or (self.fields.episode is None and ended)
        bounds = [*sorted({0, *np.flatnonzero(begins).tolist()}), len(indices)]
        for begin, end in pairwise(bounds):
            if begins[begin] and agent in self._open:
                yield self._close(agent)
            if agent not in self._open:
                self._episode[agent], self._place[agent] = key[begin], file
            self._open.setdefault(agent, []).append(own.of(slice(begin, end)))

    def _close(self, agent: Any) -> Recorded:
        rows, key = joined(self._open.pop(agent)), self._episode.pop(agent)
        number = self._ended.get(agent, 0)
        self._ended[agent] = number + 1
        name = str(number if self.fields.episode is None else key)
        place = f"{self._place.pop(agent)}episode {name}"
        ends = np.zeros(1, bool) if rows.terminal is None else rows.terminal
        if ends[:-1].any():
            row = rows.numbers[ends.argmax()]
            raise ValueError(f"{place}, row {row}: {self.fields.terminal} is true before the episode's last row")
        steps = np.arange(len(rows.numbers)) / (self.fields.rate or 1.0)
        return Recorded(
            agent_id=self.agent if self.fields.agent_id is None else str(agent),
            name=name,
            place=place,
            row=int(rows.numbers[0]),
            timestamps=steps if self.fields.timestamp is None else rows.times,
            features=rows.features,
            actions=rows.actions,
            rewards=rows.rewards,
            terminal=bool(ends[-1]),
        )

    def _rows(self, batch: Any, before: int) -> Rows:
        fields, number = self.fields, np.arange(before, before + batch.num_rows)
        times = number if fields.timestamp is None else seconds(batch.column(fields.timestamp), fields.unit)
        features, self.names.features = self._side_by_side(batch, fields.features)
        actions = None
        if isinstance(fields.action, str):
            actions, self.names.actions = numbers(batch.column(fields.action), fields.action), [fields.action]
        elif fields.action:
            actions, self.names.actions = self._side_by_side(batch, fields.action)
        rewards = None if fields.reward is None else numbers(batch.column(fields.reward), fields.reward)
        ends = None
        if fields.terminal is not None:  # a blank is no end
            ends = np.nan_to_num(numbers(batch.column(fields.terminal), fields.terminal).astype(np.float64)) != 0
        return Rows(number, times, features, actions, rewards, ends)

    def _side_by_side(self, batch: Any, columns: Sequence[str]) -> tuple[NDArray[Any], list[str]]:
        """[rows, numbers] as vectors, and the name of each number."""
        parts = [numbers(batch.column(name), name).reshape(batch.num_rows, -1) for name in columns]
        names = list[str]()
        for name, part in zip(columns, parts, strict=True):
            one = [name] if part.shape[1] == 1 else [f"{name}.{index}" for index in range(part.shape[1])]
            labels = self.labels.get(name, ())
            names += labels if len(labels) == len(one) else one
        return np.concatenate(parts, axis=1) if len(parts) > 1 else parts[0].astype(float, copy=False), names


def numbers(column: Any, name: str) -> NDArray[Any]:
    """[rows], or [rows, k] of a column of lists; NaN where a number is missing. Raises ValueError for anything else."""
    import pyarrow as pa

    rows, nested = len(column), False
    while (
        pa.types.is_list(column.type) or pa.types.is_large_list(column.type) or pa.types.is_fixed_size_list(column.type)
    ):
        if column.null_count:
            raise ValueError(f"{name}: {column.null_count} lists are missing; fill them, or leave the column out")
        column, nested = column.flatten(), True
    if pa.types.is_boolean(column.type) or pa.types.is_decimal(column.type):
        column = column.cast(pa.uint8() if pa.types.is_boolean(column.type) else pa.float64())
    if not (pa.types.is_integer(column.type) or pa.types.is_floating(column.type)):
        raise ValueError(f"{name}: holds {column.type}, expected numbers; map it to nothing, or make it numbers")
    found: NDArray[Any] = column.to_numpy(zero_copy_only=False)
    if rows and len(found) % rows:
        raise ValueError(f"{name}: lists differ in length, expected one length")
    return found.reshape(rows, -1) if nested else found


def seconds(column: Any, unit: str) -> NDArray[Any]:
    """[rows] float64, of numbers in the unit, or of dates."""
    import pyarrow as pa

    if pa.types.is_timestamp(column.type):
        column, unit = column.cast(pa.timestamp("ns", column.type.tz)).cast(pa.int64()), "ns"
    return in_seconds(numbers(column, "timestamp"), SECOND[unit])


def _keys(batch: Any, name: str | None, rows: Rows) -> NDArray[Any]:
    """[rows] of one agent or episode for each."""
    if name is None:
        return np.zeros(batch.num_rows, np.int64)
    column = batch.column(name)
    if column.null_count:
        row = rows.numbers[np.flatnonzero(column.is_null().to_numpy(zero_copy_only=False))[0]]
        raise ValueError(f"row {row}: {name} is missing; fill it")
    return np.array(column.to_pylist(), object) if batch.num_rows else np.empty(0, object)
