"""Batches that mix observed and dreamed windows: batch t is a pure function of (seed, t)."""

from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from worldmodel.arrays.windows import PICKED, Batch, Windows, join
from worldmodel.core.typing import Ints

OBSERVED, DREAM = 0, 1


def rho_schedule(kind: str, start: float | None, end: float, steps: int) -> NDArray[np.float64]:
    """The share of dreams wanted at each step, [steps]: constant at `end`, or from `start` to `end`."""
    if kind == "constant" or start is None:
        return np.full(steps, end)
    progress = np.arange(steps) / max(steps - 1, 1)
    if kind == "cosine":
        progress = (1 - np.cos(np.pi * progress)) / 2
    return start + (end - start) * progress


@dataclass(frozen=True)
class Mixture:
    """Draws without replacement: every window of a source once in random order, then again in another order."""

    observed: Windows
    dreams: Windows
    batch_size: int
    rho: NDArray[np.float64]  # [steps]
    seed: int
    confidence: bool  # weight dreamed frames by their confidence

    def __post_init__(self) -> None:
        if not len(self.observed) and self.rho.min() < 1:
            raise ValueError(
                f"no observed train episode has more than train.history = {self.observed.history} frames, and a window "
                "needs one to predict: log longer ones, or lower train.history"
            )
        if not len(self.dreams) and self.rho.max() > 0:
            raise ValueError(
                f"train.rho asks for up to {self.rho.max():g} dreams a batch and there is no dream: "
                "set dreams.episodes above 0, or train.rho to 0 (and train.rho_start, where there is a schedule)"
            )

    def batch(self, t: int) -> Batch:
        """Exactly the quota of dreams that the schedule has reached by step t, the rest observed."""
        if t % max(1, PICKED // self.batch_size) == 0:
            self.observed.packed.release()
        before, after = self.dreams_by(t), self.dreams_by(t + 1)
        dreams = self._draw(DREAM, before, after)
        observed = self._draw(OBSERVED, t * self.batch_size - before, (t + 1) * self.batch_size - after)
        parts = [(self.observed, observed, False), (self.dreams, dreams, self.confidence)]
        return join([source.take(chosen, weigh) for source, chosen, weigh in parts if len(chosen)])

    def dreams_by(self, t: int) -> int:
        """How many dreams have been drawn before step t: the fraction of a dream is carried over."""
        return int(np.floor(self._wanted[t] + 1e-6))

    @cached_property
    def _wanted(self) -> NDArray[np.float64]:
        return np.concatenate([[0.0], np.cumsum(self.rho * self.batch_size)])

    def _draw(self, source: int, begin: int, end: int) -> Ints:
        """Draws number begin..end-1 of a source."""
        return without_replacement((self.seed, source), len((self.observed, self.dreams)[source]), begin, end)


def without_replacement(seed: tuple[int, ...], count: int, begin: int, end: int) -> Ints:
    """Draws number begin..end-1 of `count` items: all in a random order, then all in another one, and so on."""
    if begin == end:
        return np.empty(0, np.int64)
    rounds = range(begin // count, (end - 1) // count + 1)
    spans = [(max(begin - turn * count, 0), min(end - turn * count, count)) for turn in rounds]
    parts = [_order(seed, turn, count)[first:last] for turn, (first, last) in zip(rounds, spans, strict=True)]
    return np.concatenate(parts).astype(np.int64)


@lru_cache(maxsize=4)
def _order(seed: tuple[int, ...], turn: int, count: int) -> NDArray[np.integer[Any]]:
    return permutation(np.random.default_rng([*seed, turn]), count)


def permutation(rng: np.random.Generator, count: int) -> NDArray[np.integer[Any]]:
    """The numbers of rng.permutation(count), in half the memory."""
    order: NDArray[np.integer[Any]] = np.arange(count, dtype=np.int32 if count < 2**31 else np.int64)
    rng.shuffle(order)
    return order
