"""Where dreams begin: at logged windows, most of them spread evenly over the log, directed ones at a rare one.

A dream goes on for many frames. Starts at random would see some stretches of the log several times, others never, and a
model that trains on the dreams would pay for it. The same seed draws the same starts, whoever dreams on from there.
"""

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from worldmodel.data.windows import Ints, Windows
from worldmodel.measuring.rarity import rarest, rarest_count

CHUNK = 256  # starts drawn at once; each chunk has its own random stream
STARTS = 2**32  # numbers the first start among the random sequences of a seed; chunks are the others
GOLDEN = (math.sqrt(5) - 1) / 2


@dataclass(frozen=True)
class Starts:
    windows: Windows
    directed_share: float
    seed: int

    def draw(self, number: int, rng: np.random.Generator) -> tuple[Ints, NDArray[np.bool_]]:
        """Chunk `number`: which windows, and whether each was drawn from the rarest, [CHUNK]."""
        directed = self._directed(number)
        rank = rng.integers(rarest_count(self.windows), size=CHUNK)  # drawn by all, so that others' starts stay
        chosen = evenly((self.seed, STARTS), len(self.windows), number * CHUNK, (number + 1) * CHUNK)
        return (np.where(directed, self._rarest[rank], chosen) if directed.any() else chosen), directed

    def begin(self, chosen: int) -> tuple[int, int]:
        """Number of a window's episode, and of its first frame there."""
        only = self.windows.at(np.array([chosen]))
        episode = int(only.episode[0])
        return episode, int(only.first[0] - only.packed.starts[episode])

    def _directed(self, number: int) -> NDArray[np.bool_]:
        """Which of a chunk start from rare windows, [CHUNK]: evenly spread, every stretch has its share."""
        by = np.floor((number * CHUNK + np.arange(CHUNK + 1)) * self.directed_share + 1e-6)
        directed: NDArray[np.bool_] = np.diff(by) > 0
        return directed

    @cached_property
    def _rarest(self) -> Ints:
        return rarest(self.windows, self.windows)


def evenly(seed: tuple[int, ...], count: int, begin: int, end: int) -> Ints:
    """Draws number begin..end-1 of `count` things in a row: however many are drawn, each stretch has its share.

    From a random first one on, by steps of the golden ratio of the row, round and round (a Kronecker sequence).
    """
    first = np.random.default_rng(seed).random()
    drawn: Ints = np.floor((first + GOLDEN * np.arange(begin, end)) % 1 * count).astype(np.int64)
    return drawn
