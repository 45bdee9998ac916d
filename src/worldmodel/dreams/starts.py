"""Where dreams begin: at logged windows, most of them spread evenly over the log, directed ones at a rare one.

A dream goes on for many frames. Starts at random would see some stretches of the log several times and others never,
and too little of where episodes begin and end; a model that trains on the dreams would pay for it. The same seed draws
the same starts, whoever dreams on from there.
"""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from worldmodel.arrays.windows import Windows
from worldmodel.core.typing import Ints
from worldmodel.dreams.rarity import rarest, rarest_count

CHUNK = 256  # starts drawn at once; each chunk has its own random stream
STARTS = 2**32  # numbers the first start among the random sequences of a seed; chunks are the others
GOLDEN = (math.sqrt(5) - 1) / 2


class Drawn(NamedTuple):
    """One chunk, [CHUNK] each."""

    windows: Ints  # their numbers
    frames: Ints  # after the history, at most
    directed: NDArray[np.bool_]  # whether drawn from the rarest


@dataclass(frozen=True)
class StartSampler:
    """The windows reach `length` frames and one more, though most episodes end sooner after the last of them."""

    windows: Windows
    least: int  # frames after the history that the log has, where an episode is long enough
    directed_share: float
    seed: int

    def draw(self, number: int, rng: np.random.Generator) -> Drawn:
        """Chunk `number`."""
        directed = self._directed(number)
        rank = rng.integers(rarest_count(self.windows), size=CHUNK)  # drawn by all, so that others' starts stay
        chosen, late = self._even(number)
        if directed.any():
            chosen, late = np.where(directed, self._rarest[rank], chosen), np.where(directed, 0, late)
        return Drawn(chosen, self._length - late, directed)

    def begin(self, chosen: int) -> tuple[int, int]:
        """Number of a window's episode, and of its first frame there."""
        only = self.windows.at(np.array([chosen]))
        episode = int(only.episode[0])
        return episode, int(only.first[0] - only.packed.starts[episode])

    @property
    def _length(self) -> int:
        return self.windows.horizon - 1

    @property
    def _lead(self) -> int:
        """How many dreams would begin before an episode does: they begin with it, and end the earlier."""
        return self._length - self.least

    def _even(self, number: int) -> tuple[Ints, Ints]:
        """Which windows, and how many frames each begins later than it would, for want of an episode."""
        with_lead = self._ends + self._lead * np.arange(1, len(self._ends) + 1)
        drawn = golden_ratio_sequence((self.seed, STARTS), int(with_lead[-1]), number * CHUNK, (number + 1) * CHUNK)
        episode = np.searchsorted(with_lead, drawn, "right")
        chosen = drawn - self._lead * (episode + 1)
        first = np.concatenate([[0], self._ends])[episode]
        return np.maximum(chosen, first), np.maximum(first - chosen, 0)

    @cached_property
    def _ends(self) -> Ints:
        """How many windows there are up to the end of each episode that has any."""
        ends: Ints = np.flatnonzero(np.diff(self.windows.episode, append=-1)) + 1
        return ends

    def _directed(self, number: int) -> NDArray[np.bool_]:
        """Which of a chunk start from rare windows, [CHUNK]: evenly spread, every stretch has its share."""
        by = np.floor((number * CHUNK + np.arange(CHUNK + 1)) * self.directed_share + 1e-6)
        directed: NDArray[np.bool_] = np.diff(by) > 0
        return directed

    @cached_property
    def _rarest(self) -> Ints:
        return rarest(self.windows, self.windows)


def golden_ratio_sequence(seed: tuple[int, ...], count: int, begin: int, end: int) -> Ints:
    """Draws number begin..end-1 of `count` things in a row: however many are drawn, each stretch has its share.

    From a random first one on, by steps of the golden ratio of the row, round and round (a Kronecker sequence).
    """
    first = np.random.default_rng(seed).random()
    drawn: Ints = np.floor((first + GOLDEN * np.arange(begin, end)) % 1 * count).astype(np.int64)
    return drawn
