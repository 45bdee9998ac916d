"""Messages of several topics, each at times of its own -> frames on one clock: each value is held until the next one.

The clock begins when every topic has sent, and ends when the first of the features has been sent for the last time.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from worldmodel.core.typing import Ints
from worldmodel.readers.field_map import FieldMap, unmapped
from worldmodel.readers.source import Names, Recorded, in_seconds

KEYS = ("features", "action", "reward", "rate")
EXAMPLE = """rate: 20              # frames a second; each value is held until the next one
features: [{0}]       # topic.field, topic.field.field or topic.field[0]
action: [{1}]         # without brackets: an integer that names a choice"""


class Series(NamedTuple):
    times: Ints  # nanoseconds
    values: NDArray[np.float64]


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
    names = *fields.features, *fields.actions, fields.reward
    return tuple(dict.fromkeys(name for name in names if name))


def episode(path: Path, fields: FieldMap, names: Names, series: Mapping[str, Series]) -> Iterator[Recorded]:
    """The one of the whole file."""
    for name, each in series.items():
        if not len(each.times):
            raise ValueError(f"{path}: {name} was never sent; map another field")
    assert fields.rate is not None
    begin = max(int(each.times[0]) for each in series.values())
    ticks = _ticks(begin, min(int(series[name].times[-1]) for name in fields.features), fields.rate)
    if not len(ticks):
        raise ValueError(f"{path}: no moment at which all mapped topics were sent; map fewer topics")
    held = {name: each.values[np.searchsorted(each.times, ticks, "right") - 1] for name, each in series.items()}
    names.features, names.actions = list(fields.features), list(fields.actions)
    actions: NDArray[Any] | None = np.stack([held[name] for name in fields.actions], 1) if fields.action else None
    if isinstance(fields.action, str):
        actions = held[fields.action]
        actions = actions.astype(np.int64) if (actions == np.round(actions)).all() else actions
    yield Recorded(
        agent_id=path.stem,
        name="0",
        place="frames on the clock",
        row=0,
        timestamps=in_seconds(ticks, 10**9),
        features=np.stack([held[name] for name in fields.features], 1),
        actions=actions,
        rewards=None if fields.reward is None else held[fields.reward],
        terminal=False,
    )


def in_order(times: Ints, values: NDArray[np.float64]) -> Series:
    order = np.argsort(times, kind="stable")
    return Series(times[order], values[order])


def _ticks(begin: int, end: int, rate: float) -> Ints:
    """Nanoseconds, whole ones, so that messages at the same rate are not missed by a rounding."""
    ticks = begin + np.round(np.arange(max(int((end - begin) * rate / 1e9) + 2, 0)) * (1e9 / rate)).astype(np.int64)
    return ticks[ticks <= end]
