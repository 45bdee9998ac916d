"""Good frames of one signature, column by column. Dimension key: N frames, F features, A actions."""

from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from msgspec import UNSET, UnsetType

from worldmodel.core.typing import Ints
from worldmodel.episodes.frame import META_KEYS, Frame, parse_meta
from worldmodel.episodes.table import Table
from worldmodel.logs.rows import Row
from worldmodel.logs.signature import Signature


class Label(NamedTuple):
    """What a frame's meta says of its episode."""

    episode: str | None
    source: str | None
    split: str | None


class Coded(NamedTuple):
    """Which of few different values each frame has."""

    codes: Ints  # [N] indices of values
    values: Sequence[Any]

    @classmethod
    def of(cls, column: Sequence[Hashable]) -> "Coded":
        numbers = {value: number for number, value in enumerate(dict.fromkeys(column))}
        return cls(np.fromiter(map(numbers.__getitem__, column), np.int64, len(column)), list(numbers))

    def at(self, index: int) -> Any:
        return self.values[self.codes[index]]


@dataclass(frozen=True)
class FrameBatch:
    """Good frames in the order of their lines."""

    lines: Ints  # [N] numbers in their file
    positions: Ints | None  # [N] within the one episode line that they are from
    agents: Coded
    labels: Coded
    table: Table  # confidence NaN where there is none
    segments: Ints | None  # [N] meta.episode_segment, -1 where there is none
    terminal: Ints  # [N] 0 or 1
    truncated: Ints
    free: Mapping[int, Mapping[str, Any]]  # by line or position: what else the meta of a dream holds
    signature: Signature

    @classmethod
    def of(
        cls,
        lines: Ints,
        positions: Ints | None,
        agents: Sequence[str],
        metas: Sequence[Mapping[str, Any]],
        keys: Collection[str],
        table: Table,
    ) -> "FrameBatch":
        """`keys` are those of all metas. Raises ValueError where a meta is not certain to be valid."""
        labels = _labels(metas, keys)
        confidence, segments = _confidence(metas, keys), _integers(metas, keys, "episode_segment", int, -1)
        free = dict[int, Mapping[str, Any]]()
        if any(label.source == "dream" for label in labels.values) and not META_KEYS.issuperset(keys):
            places = (lines if positions is None else positions).tolist()
            free = {place: meta for place, meta in zip(places, map(_free, metas), strict=True) if meta}
        return cls(
            lines=lines,
            positions=positions,
            agents=Coded.of(agents),
            labels=labels,
            table=table._replace(confidence=confidence),
            segments=segments if "episode_segment" in keys else None,
            terminal=_integers(metas, keys, "terminal", bool, False),
            truncated=_integers(metas, keys, "truncated", bool, False),
            free=free,
            signature=Signature.of_table(table),
        )

    @classmethod
    def of_rows(cls, rows: Sequence[Row]) -> "FrameBatch":
        """Of good rows, from frame lines or from one episode line. Raises ValueError as `of` does."""
        frames = [row.frame for row in rows if row.frame is not None]
        metas = [row.meta for row in rows]
        table = Table(
            timestamps=np.array([frame.timestamp for frame in frames], np.float64),
            features=np.stack([frame.features for frame in frames]),
            actions=_column([frame.action for frame in frames], np.int64),
            rewards=_column([frame.reward for frame in frames], np.float32),
            confidence=None,
            context=_column([frame.context for frame in frames], np.float32),
        )
        positions = None if rows[0].position is None else np.array([row.position for row in rows], np.int64)
        lines = np.array([row.line for row in rows], np.int64)
        return cls.of(lines, positions, [str(row.agent_id) for row in rows], metas, {*()}.union(*metas), table)

    def __len__(self) -> int:
        return len(self.lines)

    def between(self, begin: int, end: int) -> "FrameBatch":
        """Some of the rows."""
        if (begin, end) == (0, len(self)):
            return self
        rows = slice(begin, end)
        return replace(
            self,
            lines=self.lines[rows],
            positions=None if self.positions is None else self.positions[rows],
            agents=Coded(self.agents.codes[rows], self.agents.values),
            labels=Coded(self.labels.codes[rows], self.labels.values),
            table=self.table.map(lambda column: column[rows]),
            segments=None if self.segments is None else self.segments[rows],
            terminal=self.terminal[rows],
            truncated=self.truncated[rows],
        )

    def head(self, index: int) -> Row:
        """What decides where the frame belongs; without the frame."""
        label, confidence = self.labels.at(index), self.table.confidence
        meta = {key: value for key, value in zip(Label._fields, label, strict=True) if value is not None}
        if self.segments is not None and self.segments[index] >= 0:
            meta["episode_segment"] = int(self.segments[index])
        meta |= {key: True for key in ("terminal", "truncated") if getattr(self, key)[index]}
        if confidence is not None and not np.isnan(confidence[index]):
            meta["confidence"] = float(confidence[index])
        line, position = int(self.lines[index]), None if self.positions is None else int(self.positions[index])
        meta |= self.free.get(line if position is None else position, {})
        return Row(line, "", None, self.agents.at(index), meta, position, time=float(self.table.timestamps[index]))

    def row(self, index: int) -> Row:
        """With the frame."""
        head, table = self.head(index), self.table
        action = None if table.actions is None else table.actions[index]
        frame = Frame(
            agent_id=str(head.agent_id),
            timestamp=head.time,
            features=table.features[index].astype(np.float64),
            action=int(action) if isinstance(action, np.integer) else action,
            reward=None if table.rewards is None else float(table.rewards[index]),
            context=None if table.context is None else table.context[index],
            meta=head.meta,
        )
        return replace(head, frame=frame)


def batches_of(rows: Iterable[Row]) -> "list[FrameBatch | Row]":
    """The same rows in order; good frames that stand together and are alike become batches."""
    found, open_rows, kind = list[FrameBatch | Row](), list[Row](), None
    for row in rows:
        own = row.frame and (Signature.of(row.frame), None if row.position is None else row.line)
        if open_rows and own != kind:
            found += _batched(open_rows)
            open_rows = []
        kind = own
        if own is None:
            found.append(row)
        else:
            open_rows.append(row)
    return found + _batched(open_rows)


def _batched(rows: list[Row]) -> "list[FrameBatch | Row]":
    try:
        return [FrameBatch.of_rows(rows)] if rows else []
    except ValueError:  # a confidence that only a dream may not have
        return list(rows)


def _labels(metas: Sequence[Mapping[str, Any]], keys: Collection[str]) -> Coded:
    present = [key for key in Label._fields if key in keys]
    columns = [[meta.get(key, UNSET) for meta in metas] for key in present]
    for column in columns:
        _require_types(column, {int, str})  # True and 1 are equal
    if len(columns) == 1:
        codes, values = Coded.of(columns[0])
        return Coded(codes, [_label(tuple(present), (value,)) for value in values])
    codes, values = Coded.of(list(zip(*columns, strict=True)) if columns else [()] * len(metas))
    return Coded(codes, [_label(tuple(present), value) for value in values])


@lru_cache(4096)
def _label(keys: tuple[str, ...], values: tuple[Any, ...]) -> Label:
    meta = {key: value for key, value in zip(keys, values, strict=True) if value is not UNSET}
    known = parse_meta(meta)
    return Label(str(known["episode"]) if "episode" in known else None, known.get("source"), known.get("split"))


def _confidence(metas: Sequence[Mapping[str, Any]], keys: Collection[str]) -> Any:
    if "confidence" not in keys:
        return None
    values = [meta.get("confidence", UNSET) for meta in metas]
    _require_types(values, {int, float})
    if not all(value is UNSET or 0 <= value <= 1 for value in values):
        raise ValueError("confidence")
    return np.array([np.nan if value is UNSET else value for value in values], np.float32)


def _integers(metas: Sequence[Mapping[str, Any]], keys: Collection[str], key: str, kind: type, absent: int) -> Ints:
    if key not in keys:
        return np.full(len(metas), absent, np.int64)
    values = [meta.get(key, UNSET) for meta in metas]
    _require_types(values, {kind})
    for value in set(values) - {UNSET}:
        parse_meta({key: value})
    return np.array([absent if value is UNSET else value for value in values], np.int64)


def _require_types(values: Iterable[Any], kinds: set[type]) -> None:
    if not set(map(type, values)) <= {*kinds, UnsetType}:
        raise ValueError("type")


def _free(meta: Mapping[str, Any]) -> Mapping[str, Any]:
    return {key: value for key, value in meta.items() if key not in META_KEYS} if meta.get("source") == "dream" else {}


def _column(values: Sequence[Any], scalar: type[np.generic]) -> Any:
    """[T] of scalars or [T, A] of vectors; None where no frame has a value."""
    if values[0] is None:
        return None
    return np.stack(values) if isinstance(values[0], np.ndarray) else np.array(values, scalar)
