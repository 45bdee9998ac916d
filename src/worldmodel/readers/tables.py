"""Tables with a row for each frame, read batch by batch -> episodes. What Parquet, CSV and LeRobot share.

Consecutive rows of one agent with the same episode are one. Without a column of episodes, a new one begins where time
runs backwards and behind a row that ends one.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from worldmodel.core.typing import Ints
from worldmodel.episodes.schema import Episode
from worldmodel.readers.field_map import FieldMap, unmapped
from worldmodel.readers.source import Source, in_seconds

SINGLE = ("reward", "terminal", "truncated", "timestamp", "episode", "agent_id")
KEYS = ("features", "action", "context", *SINGLE, "unit", "rate")
SECOND = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
EXAMPLE = """timestamp: {0}       # seconds, or say `unit: ms`
features: [{1}]
action: [{2}]         # without brackets: an integer that names a choice
# context: [hour]     # known ahead
# episode, agent_id, reward, terminal, truncated: columns too, where there are such"""


def mapped(source: Source, known: Mapping[str, Any]) -> FieldMap:
    """The map, or else one of columns that are named as in our own logs; features.0 and action.0 count on.

    `known` columns and their types. Raises ValueError that lists them where there are no features, or one is missing.
    """
    fields = source.fields
    if not fields.features:
        own: dict[str, Any] = {key: key for key in SINGLE if key in known and getattr(fields, key) is None}
        action: Any = fields.action or counted("action", known) or None
        fields = replace(
            fields,
            features=counted("features", known),
            action="action" if action == ("action",) else action,
            context=fields.context or counted("context", known),
            **own,
        )
    if not fields.features:
        raise unmapped(source.path, "columns", known, EXAMPLE.format(*[*known, "x", "y", "z"][:3]))
    require(source.path, list(known), fields)
    source.left_out |= {name: str(kind) for name, kind in known.items() if name not in wanted(fields)}
    return fields


def require(path: Path, known: Sequence[str], fields: FieldMap) -> None:
    if missing := [name for name in wanted(fields) if name not in known]:
        raise ValueError(f"{path}: has no column {missing[0]}; it has {', '.join(known)}")


def wanted(fields: FieldMap) -> list[str]:
    """Names of columns, each once."""
    names = [*fields.features, *fields.actions, *fields.context, *(getattr(fields, key) for key in SINGLE)]
    return list(dict.fromkeys(name for name in names if name))


def counted(stem: str, known: Iterable[str]) -> tuple[str, ...]:
    """The column `stem`, or else stem.0, stem.1 and so on."""
    if stem in known:
        return (stem,)
    numbered = (name for name in known if re.fullmatch(rf"{stem}\.\d+", name))
    return tuple(sorted(numbered, key=lambda name: int(name.rpartition(".")[2])))


class Rows(NamedTuple):
    """Rows that follow each other; the columns that a field map names."""

    numbers: Ints  # in their file
    times: NDArray[Any]
    features: NDArray[Any]
    actions: NDArray[Any] | None
    rewards: NDArray[Any] | None
    context: NDArray[Any] | None
    ends: NDArray[np.bool_]  # [rows, 2] terminal, truncated

    def of(self, indices: NDArray[Any] | slice) -> "Rows":
        return Rows._make(None if column is None else column[indices] for column in self)


@dataclass
class _Open:
    """An episode so far."""

    key: Any
    place: str  # the file
    parts: list[Rows] = field(default_factory=list)

    def ended(self, rows: Rows) -> bool:
        """Whether these rows begin another one, where no column tells."""
        return bool(self.parts[-1].times[-1] > rows.times[0] or self.parts[-1].ends[-1].any())


@dataclass
class Grouping:
    """Tables of one source, in order -> episodes."""

    source: Source
    fields: FieldMap
    agent: str | None = None  # where no column names one
    labels: Mapping[str, Sequence[str]] = field(default_factory=dict)  # column -> names of its numbers
    strict: bool = True  # only an episode's last row may end it; else what the others say is passed over
    _open: dict[Any, _Open] = field(default_factory=dict)  # by agent
    _ended: dict[Any, int] = field(default_factory=dict)  # how many episodes
    _integers: bool = False  # whether one column of integers holds the actions

    def over(self, batches: Iterable[Any], file: str = "") -> Iterator[Episode]:
        """The episodes that end in pyarrow's batches of one file."""
        before = 0
        for batch in batches:
            rows = self._rows(batch, before)
            before += batch.num_rows
            agents, agent_of = _keys(batch, self.fields.agent_id, rows)
            keys, key_of = _keys(batch, self.fields.episode, rows)
            for agent in dict.fromkeys(agents.tolist()):
                own = slice(None) if len(agent_of) == 1 else np.flatnonzero(agents == agent)
                yield from self._add(agent_of[agent], rows.of(own), keys[own], key_of, file)

    def end(self) -> Iterator[Episode]:
        for agent in list(self._open):
            yield self._close(agent)

    def _add(self, agent: Any, own: Rows, keys: Ints, key_of: Sequence[Any], file: str) -> Iterator[Episode]:
        begins = np.append(True, keys[1:] != keys[:-1])
        if self.fields.episode is None:
            begins[1:] |= (own.times[1:] < own.times[:-1]) | own.ends[:-1].any(axis=1)
        bounds = [*np.flatnonzero(begins).tolist(), len(keys)]
        for begin, end in pairwise(bounds):
            part, key, open_one = own.of(slice(begin, end)), key_of[keys[begin]], self._open.get(agent)
            if open_one and (begin or open_one.key != key or (self.fields.episode is None and open_one.ended(part))):
                yield self._close(agent)
            self._open.setdefault(agent, _Open(key, file)).parts.append(part)

    def _close(self, agent: Any) -> Episode:
        whole = self._open.pop(agent)
        rows = Rows._make(None if one[0] is None else np.concatenate(one) for one in zip(*whole.parts, strict=True))
        number = self._ended.get(agent, 0)
        self._ended[agent] = number + 1
        name = str(number if self.fields.episode is None else whole.key)
        place = f"{whole.place}episode {name}"
        if self.strict and rows.ends[:-1].any():
            row = rows.ends.any(axis=1).argmax()
            end = self.fields.terminal if rows.ends[row, 0] else self.fields.truncated
            raise ValueError(f"{place}, row {rows.numbers[row]}: {end} is true before the episode's last row")
        steps = np.arange(len(rows.numbers)) / (self.fields.rate or 1.0)
        return self.source.episode(
            place,
            name,
            steps if self.fields.timestamp is None else rows.times,
            rows.features,
            self._choices(rows, place),
            rows.rewards,
            rows.context,
            agent_id=self.agent if self.fields.agent_id is None else str(agent),
            rows=rows.numbers,
            terminal=bool(rows.ends[-1, 0]),
            truncated=bool(rows.ends[-1, 1]),
        )

    def _rows(self, batch: Any, before: int) -> Rows:
        fields, number = self.fields, np.arange(before, before + batch.num_rows)
        features, actions, context = (
            self._side_by_side(batch, columns) for columns in (fields.features, fields.actions, fields.context)
        )
        self.source.name(features=features[1], actions=actions[1], context=context[1])
        taken = actions[0]
        if isinstance(fields.action, str):
            column = batch.column(fields.action)
            taken, self._integers = numbers(column, fields.action), "int" in str(column.type)
        ends = np.zeros((batch.num_rows, 2), bool)
        for index, name in enumerate((fields.terminal, fields.truncated)):
            if name is not None:  # a blank is no end
                ends[:, index] = np.nan_to_num(numbers(batch.column(name), name).reshape(-1).astype(np.float64)) != 0
        times = number if fields.timestamp is None else seconds(batch.column(fields.timestamp), fields.unit)
        rewards = None if fields.reward is None else numbers(batch.column(fields.reward), fields.reward)
        assert features[0] is not None
        return Rows(number, times, features[0], taken, rewards, context[0], ends)

    def _side_by_side(self, batch: Any, columns: Sequence[str]) -> tuple[NDArray[Any] | None, list[str]]:
        """[rows, numbers] as vectors, and the name of each number."""
        if not columns:
            return None, []
        parts = [numbers(batch.column(name), name).reshape(batch.num_rows, -1) for name in columns]
        names = list[str]()
        for name, part in zip(columns, parts, strict=True):
            one = [name] if part.shape[1] == 1 else [f"{name}.{index}" for index in range(part.shape[1])]
            labels = self.labels.get(name, ())
            names += labels if len(labels) == len(one) else one
        return np.concatenate(parts, axis=1).astype(float, copy=False), names

    def _choices(self, rows: Rows, place: str) -> NDArray[Any] | None:
        """Actions; a column of integers that lacks the last one is still one of choices."""
        actions = rows.actions
        if actions is None or not self._integers or actions.dtype.kind != "f":
            return actions
        missing = np.flatnonzero(np.isnan(actions))
        if len(missing) and (missing[0] + 1 < len(actions) or not missing[0]):
            row, name = rows.numbers[missing[0]], self.fields.action
            raise ValueError(f"{place}, row {row}: {name} is missing; mend it, or leave out what holds it")
        return np.append(actions[:-1], actions[-2 if len(missing) else -1]).astype(np.int64)


def numbers(column: Any, name: str) -> NDArray[Any]:
    """[rows], or [rows, k] of a column of lists; NaN where a number is missing. Raises ValueError for anything else."""
    from pyarrow import float64, types, uint8

    rows, nested = len(column), False
    while types.is_list(column.type) or types.is_large_list(column.type) or types.is_fixed_size_list(column.type):
        if column.null_count:
            raise ValueError(f"{name}: {column.null_count} lists are missing; fill them, or leave the column out")
        column, nested = column.flatten(), True
    if types.is_boolean(column.type) or types.is_decimal(column.type):
        column = column.cast(uint8() if types.is_boolean(column.type) else float64())
    if not (types.is_integer(column.type) or types.is_floating(column.type) or types.is_null(column.type)):
        raise ValueError(f"{name}: holds {column.type}, expected numbers; map it to nothing, or make it numbers")
    if types.is_null(column.type):
        column = column.cast(float64())
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


def _keys(batch: Any, name: str | None, rows: Rows) -> tuple[Ints, list[Any]]:
    """[rows] index of one agent or episode for each, and these."""
    if name is None:
        return np.zeros(batch.num_rows, np.int64), [None]
    column = batch.column(name)
    if column.null_count:
        row = rows.numbers[column.is_null().to_pylist().index(True)]
        raise ValueError(f"row {row}: {name} is missing; fill it")
    encoded = column.dictionary_encode()
    return encoded.indices.to_numpy().astype(np.int64), encoded.dictionary.to_pylist()
