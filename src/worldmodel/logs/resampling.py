"""An episode on another clock: frames every so many seconds from its first one on, up to its last.

Features and context are linear between neighbours: an angle along the shorter arc, a category held, nothing where a
neighbour is missing. An action is held until the next one. Rewards add up to what they were: the sum of what the steps
of a longer step earned, or the share of it that falls into a shorter one.
"""

from collections.abc import Sequence

import numpy as np

from worldmodel.core.typing import Doubles, Floats, Ints, Reals
from worldmodel.episodes.columns import TURN, Column, Columns
from worldmodel.episodes.table import Table

NEAR = 1e-6  # of a step: what is no farther from a moment of the clock is at it
MOST = 10_000  # new frames for each logged one


def ticks(times: Doubles, step: float) -> Doubles:
    """[T] steps since the first time; whole ones where only rounding says otherwise."""
    passed = (times - times[0]) / step
    whole, rounding = np.round(passed), NEAR + np.spacing(np.abs(times).max()) / step
    close: Doubles = np.where(np.abs(passed - whole) <= rounding, whole, passed)
    return close


def resampled(table: Table, step: float, columns: Columns) -> Table:
    """An observed episode, one frame every `step` seconds. Raises ValueError where that makes far too many."""
    passed = ticks(table.timestamps, step)
    if passed[-1] > MOST * len(passed):
        raise ValueError(
            f"prepare.resample_s is {step:g}, which makes {passed[-1]:.0f} frames of {len(passed)}, which span "
            f"{table.timestamps[-1] - table.timestamps[0]:g} s; raise it, and log timestamps in seconds"
        )
    clock = np.arange(int(passed[-1]) + 1, dtype=np.float64)
    before = np.searchsorted(passed, clock, "right") - 1
    after = np.minimum(before + 1, len(passed) - 1)
    weight = np.divide(clock - passed[before], passed[after] - passed[before], where=after > before, out=clock * 0)
    times = np.where(weight == 0, table.timestamps[before], table.timestamps[0] + clock * step)
    return Table(
        timestamps=times,
        features=_between(table.features, before, after, weight, columns.features),
        actions=None if table.actions is None else table.actions[before],
        rewards=None if table.rewards is None else _shared(table.rewards, weight + before),
        confidence=None,
        context=None
        if table.context is None
        else _between(table.context, before, after, weight, columns.context).astype(np.float32),
    )


def _between(values: Reals, before: Ints, after: Ints, weight: Doubles, columns: Sequence[Column]) -> Reals:
    """[K, D] values a share `weight` of the way from those at `before` to those at `after`."""
    begin, end = values[before].astype(np.float64), values[after].astype(np.float64)
    found = begin + weight[:, None] * (end - begin)
    for index, column in enumerate(columns):
        if column.kind == "category":
            found[:, index] = begin[:, index]
        elif column.kind == "angle":
            found[:, index] = _along_arc(begin[:, index], end[:, index], weight, TURN[column.unit])
    found[weight == 0] = begin[weight == 0]
    return found.astype(values.dtype)


def _along_arc(begin: Doubles, end: Doubles, weight: Doubles, turn: float) -> Doubles:
    """Where it crosses the end of its range: from 0 to a turn, or, where one of both is negative, half of each sign."""
    change = end - begin
    crosses = np.abs(change) > turn / 2
    found = begin + weight * np.where(crosses, change - np.copysign(turn, change), change)
    low = np.where(np.minimum(begin, end) < 0, -turn / 2, 0)
    return np.where(crosses, low + np.mod(found - low, turn), found)


def _shared(rewards: Floats, moments: Reals) -> Floats:
    """[K] what is earned from each moment to the next, and after the last one; a moment counts in logged frames."""
    bounds = np.unique(np.concatenate([moments, np.arange(len(rewards) + 1)]))
    earned = rewards[bounds[:-1].astype(np.int64)] * np.diff(bounds)
    which = np.searchsorted(moments, bounds[:-1], "right") - 1
    return np.bincount(which, earned, len(moments)).astype(np.float32)
