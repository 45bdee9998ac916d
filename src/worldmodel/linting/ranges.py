"""Running facts of numbers over all frames. Shape: D columns."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Self

import numpy as np

from worldmodel.core.typing import Doubles, Ints
from worldmodel.episodes.columns import TURN
from worldmodel.linting.batch import Batch, Placed

WHOLE, ALMOST = 1.001, 0.8  # of a turn


@dataclass
class Ranges:
    """Extremes, how often and where first they come; means; missing readings; steps that change nothing."""

    low: Doubles  # [D]
    high: Doubles
    total: Doubles
    at_low: Ints  # [D] frames that have just the lowest value
    at_high: Ints
    missing: Ints
    unchanged: Ints
    count: int = 0
    steps: int = 0
    first: dict[tuple[str, int], Placed] = field(default_factory=dict)  # ("low" or "high", column) -> episode

    @classmethod
    def of(cls, width: int) -> Self:
        none = np.zeros(width, np.int64)
        return cls(np.full(width, np.inf), np.full(width, -np.inf), np.zeros(width), none, none, none, none)

    def add(self, batch: Batch, values: Doubles, changes: Doubles) -> None:
        """`values` [D, N] and their steps, NaN from episode to episode."""
        low = np.fmin(self.low, np.fmin.reduce(values, axis=1))
        high = np.fmax(self.high, np.fmax.reduce(values, axis=1))
        at_low, at_high = (np.count_nonzero(values == limit[:, None], axis=1) for limit in (low, high))
        for name, new in (("low", low < self.low), ("high", high > self.high)):
            for column in np.flatnonzero(new).tolist():
                limit = low if name == "low" else high
                self.first[name, column] = batch.at(int((values[column] == limit[column]).argmax()))
        self.at_low = np.where(low < self.low, 0, self.at_low) + at_low
        self.at_high = np.where(high > self.high, 0, self.at_high) + at_high
        total = values.sum(axis=1)
        if np.isnan(total).any():
            self.missing = self.missing + np.isnan(values).sum(axis=1)
            total = np.nansum(values, axis=1)
        self.low, self.high, self.total = low, high, self.total + total
        self.unchanged = self.unchanged + np.count_nonzero(changes == 0, axis=1)
        self.count += values.shape[1]
        self.steps += int(batch.inner.sum())

    def joined(self, other: Self) -> Self:
        """Of the frames of both, for a summary."""
        found = type(self)(
            np.minimum(self.low, other.low), np.maximum(self.high, other.high), self.total + other.total,
            self.at_low, self.at_high, self.missing + other.missing, self.unchanged + other.unchanged,
            self.count + other.count, self.steps + other.steps,
        )  # fmt: skip
        return found


@dataclass
class Wraps:
    """Jumps by about a turn, of features that never leave one."""

    counts: Counter[tuple[str, int]] = field(default_factory=Counter)  # by unit and feature
    first: dict[tuple[str, int], Placed] = field(default_factory=dict)

    def add(self, batch: Batch, ranges: Ranges) -> None:
        if batch.changes.shape[1] == 0:
            return
        longest, width = np.fmax.reduce(batch.sizes, axis=1), ranges.high - ranges.low
        for unit, turn in TURN.items():
            for feature in np.flatnonzero((longest > ALMOST * turn) & (width <= WHOLE * turn)).tolist():
                jumps = np.flatnonzero(batch.sizes[feature] > ALMOST * turn)
                self.counts[unit, feature] += len(jumps)
                self.first.setdefault((unit, feature), batch.at(int(jumps[0])))
