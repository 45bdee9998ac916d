"""Messages of several topics, each at times of its own -> frames on one clock: each value is held until the next one.

The clock begins when every topic has sent, and ends when the first of the features has been sent for the last time.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from worldmodel.core.typing import Doubles, Ints
from worldmodel.episodes.schema import Episode
from worldmodel.readers.field_map import FieldMap, unmapped
from worldmodel.readers.source import Source, in_seconds

KEYS = ("features", "action", "context", "reward", "rate")
EXAMPLE = """rate: 20              # frames a second; each value is held until the next one
features: [{0}]       # topic.field, topic.field.field or topic.field[0]
action: [{1}]         # without brackets: an integer that names a choice"""


class Series(NamedTuple):
    times: Ints  # nanoseconds
    values: Doubles

    @classmethod
    def in_order(cls, times: Ints, values: Doubles) -> "Series":
        order = np.argsort(times, kind="stable")
        return cls(times[order], values[order])


def require_map(path: Path, fields: FieldMap, topics: Sequence[str]) -> None:
    """Raises ValueError that lists the topics, where the map lacks features or a rate, or names another topic."""
    if not fields.features or fields.rate is None:
        some = [f"{topic}.FIELD" for topic in (*topics, *topics[-1:], "topic", "topic")]
        raise unmapped(path, "fields", topics, EXAMPLE.format(*some[:2]))
    for name in wanted(fields):
        topic_of(path, name, topics)


def topic_of(path: Path, name: str, topics: Sequence[str]) -> tuple[str, str]:
    """Topic and field of topic.field; raises ValueError that lists the topics where none is meant."""
    for topic in sorted(topics, key=len, reverse=True):
        if name.startswith(f"{topic}."):
            return topic, name[len(topic) + 1 :]
    raise ValueError(f"{path}: has no topic for {name}, expected topic.field; it has {', '.join(topics) or 'none'}")


def wanted(fields: FieldMap) -> tuple[str, ...]:
    names = *fields.features, *fields.actions, *fields.context, fields.reward
    return tuple(dict.fromkeys(name for name in names if name))


def episode(source: Source, series: Mapping[str, Series]) -> Iterator[Episode]:
    """The one of the whole file."""
    path, fields = source.path, source.fields
    for name, each in series.items():
        if not len(each.times):
            raise ValueError(f"{path}: {name} was never sent; map another field")
    assert fields.rate is not None
    begin = max(int(each.times[0]) for each in series.values())
    ticks = _ticks(begin, min(int(series[name].times[-1]) for name in fields.features), fields.rate)
    if not len(ticks):
        raise ValueError(f"{path}: no moment at which all mapped topics were sent; map fewer topics")
    held = {name: each.values[np.searchsorted(each.times, ticks, "right") - 1] for name, each in series.items()}
    source.name(features=fields.features, actions=fields.actions, context=fields.context)
    actions: NDArray[Any] | None = np.stack([held[name] for name in fields.actions], 1) if fields.action else None
    if isinstance(fields.action, str):
        actions = held[fields.action]
        actions = actions.astype(np.int64) if (actions == np.round(actions)).all() else actions
    yield source.episode(
        "frames on the clock",
        "0",
        in_seconds(ticks, 10**9),
        np.stack([held[name] for name in fields.features], 1),
        actions,
        None if fields.reward is None else held[fields.reward],
        np.stack([held[name] for name in fields.context], 1) if fields.context else None,
    )


def _ticks(begin: int, end: int, rate: float) -> Ints:
    """Nanoseconds, whole ones, so that messages at the same rate are not missed by a rounding."""
    ticks = begin + np.round(np.arange(max(int((end - begin) * rate / 1e9) + 2, 0)) * (1e9 / rate)).astype(np.int64)
    return ticks[ticks <= end]
