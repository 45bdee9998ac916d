"""Sum, mean, standard deviation and range of more rows than memory holds, with the bits that numpy gives for one array.

Dimension key: N rows, D columns.
"""

import itertools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from worldmodel.core.typing import Doubles

Blocks = Callable[[], Iterable[NDArray[np.floating[Any]]]]  # each call gives all rows in order, [n, D] at a time
LEAF = 1 << 16  # numbers added by one call of numpy


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
    mean = total((block.astype(np.float64) for block in blocks()), count) / count
    squares = (np.square(block.astype(np.float64) - mean) for block in blocks())
    std = np.sqrt(total(squares, count) / count)
    return Moments(low.astype(np.float64), high.astype(np.float64), mean, std)


def total(blocks: Iterable[Doubles], count: int) -> Doubles:
    """`.sum(axis=0)` of all rows, [D]: numpy adds rows in their order, but a single column pairwise."""
    rows = iter(blocks)
    first = next(rows)
    if first.shape[1] == 1:
        return np.array([total_of_all(itertools.chain([first], rows), count)])
    added: Doubles = first.sum(axis=0)
    for block in rows:
        added = np.concatenate([added[None], block]).sum(axis=0)
    return added


def total_of_all(blocks: Iterable[Doubles], count: int) -> float:
    """`.sum()` of all rows, which hold `count` numbers."""
    return _halves(_Numbers(block.ravel() for block in blocks), count)


class _Numbers:
    """A stream of numbers."""

    def __init__(self, rest: Iterator[Doubles]) -> None:
        self.waiting, self.rest = np.empty(0), rest

    def take(self, count: int) -> Doubles:
        parts = [self.waiting]
        have = len(self.waiting)
        while have < count:
            parts.append(next(self.rest))
            have += len(parts[-1])
        joined = np.concatenate(parts)
        self.waiting = joined[count:]
        return joined[:count]


def _halves(numbers: _Numbers, count: int) -> float:
    """numpy's pairwise sum, which never splits eight numbers in a row."""
    if count <= LEAF:
        return float(numbers.take(count).sum())
    half = count // 2
    half -= half % 8
    return _halves(numbers, half) + _halves(numbers, count - half)
