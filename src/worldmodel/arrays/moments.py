"""Sum, mean, standard deviation and range of more rows than memory holds, in one pass.

Dimension key: N rows, D columns.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from worldmodel.core.typing import Doubles, Reals

Blocks = Callable[[], Iterable[Reals]]  # each call gives all rows in order, [n, D] at a time


@dataclass(frozen=True)
class Moments:
    """[D] each; 0 of a column without a number."""

    low: Doubles
    high: Doubles
    mean: Doubles
    std: Doubles


class Block(NamedTuple):
    """What some rows add to the moments of all, [D] each."""

    known: NDArray[Any]  # how many numbers
    low: Doubles
    high: Doubles
    total: Doubles
    apart: Doubles  # squared deviations from their own mean, summed


def block_of(rows: Reals) -> Block | None:
    """[n, D]; None where there is no row. NaN counts as no number."""
    if not len(rows):
        return None
    rows = rows.astype(np.float64)
    known = ~np.isnan(rows)
    count, total = known.sum(axis=0), np.where(known, rows, 0).sum(axis=0)
    apart = np.square(np.where(known, rows - total / np.maximum(count, 1), 0)).sum(axis=0)
    return Block(count, np.fmin.reduce(rows), np.fmax.reduce(rows), total, apart)


class Running:
    """Moments of rows that are added block by block, wherever each block was looked at.

    Chan, Golub and LeVeque 1979: blocks are merged by their counts, means and squared deviations.
    """

    def __init__(self) -> None:
        self.count: NDArray[Any] | None = None  # [D]

    def add(self, rows: Reals) -> None:
        """[n, D]"""
        self.merge(block_of(rows))

    def merge(self, block: Block | None) -> None:
        if block is None:
            return
        if self.count is None:
            self.count, self.low, self.high, self.total, self.apart = block
            return
        count, low, high, total, apart = block
        shift = total / np.maximum(count, 1) - self.total / np.maximum(self.count, 1)
        between = np.square(shift) * self.count * count / np.maximum(self.count + count, 1)
        self.apart = self.apart + (apart + between)
        self.count, self.total = self.count + count, self.total + total
        self.low, self.high = np.fmin(self.low, low), np.fmax(self.high, high)

    def moments(self) -> Moments | None:
        """None where there is no row."""
        if self.count is None:
            return None
        count = np.maximum(self.count, 1)
        none = self.count == 0
        low, high = np.where(none, 0, self.low), np.where(none, 0, self.high)
        return Moments(low, high, self.total / count, np.sqrt(self.apart / count))


def moments(blocks: Blocks) -> Moments | None:
    """None where there is no row."""
    running = Running()
    for block in blocks():
        running.add(block)
    return running.moments()


def total(blocks: Iterable[Doubles]) -> Doubles:
    """`.sum(axis=0)` of all rows, [D]."""
    summed: Doubles = np.sum([block.sum(axis=0) for block in blocks], axis=0, dtype=np.float64)
    return summed


def total_of_all(blocks: Iterable[Doubles]) -> float:
    """`.sum()` of all rows."""
    return float(np.sum([block.sum() for block in blocks], dtype=np.float64))
