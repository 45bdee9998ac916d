"""Mean, standard deviation and range of more rows than memory holds, to the bit that numpy gives for all at once.

Dimension key: N rows, D columns.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Doubles = NDArray[np.float64]
Blocks = Callable[[], Iterable[NDArray[np.float32]]]  # the rows in order, [n, D] at a time, anew at each call
LEAF = 1 << 16  # numbers that numpy adds in one go


@dataclass(frozen=True)
class Moments:
    """[D] each."""

    low: Doubles
    high: Doubles
    mean: Doubles
    std: Doubles


def moments(blocks: Blocks) -> Moments | None:
    """None where there is no row."""
    count, low, high = 0, None, None
    for block in blocks():
        if len(block):
            count += len(block)
            lowest, highest = block.min(axis=0), block.max(axis=0)
            low = lowest if low is None else np.minimum(low, lowest)
            high = highest if high is None else np.maximum(high, highest)
    if low is None or high is None:
        return None
    mean = _total((block.astype(np.float64) for block in blocks()), count) / count
    squares = (np.square(block.astype(np.float64) - mean) for block in blocks())
    std = np.sqrt(_total(squares, count) / count)
    return Moments(low.astype(np.float64), high.astype(np.float64), mean, std)


def _total(blocks: Iterable[Doubles], count: int) -> Doubles:
    """What `.sum(axis=0)` of all rows is: numpy adds rows in their order, but a single column by halves."""
    rows = iter(blocks)
    first = next(rows)
    if first.shape[1] == 1:
        return np.array([_halves(_Numbers(first, rows), count)])
    total: Doubles = first.sum(axis=0)
    for block in rows:
        total = np.concatenate([total[None], block]).sum(axis=0)
    return total


class _Numbers:
    """One column, taken from the front a few numbers at a time."""

    def __init__(self, first: Doubles, rest: Iterator[Doubles]) -> None:
        self.waiting, self.rest = first[:, 0], rest

    def take(self, count: int) -> Doubles:
        parts = [self.waiting]
        have = len(self.waiting)
        while have < count:
            parts.append(next(self.rest)[:, 0])
            have += len(parts[-1])
        joined = np.concatenate(parts)
        self.waiting = joined[count:]
        return joined[:count]


def _halves(numbers: _Numbers, count: int) -> float:
    """numpy's pairwise sum: blocks of eight stay whole."""
    if count <= LEAF:
        return float(numbers.take(count).sum())
    half = count // 2
    half -= half % 8
    return _halves(numbers, half) + _halves(numbers, count - half)
