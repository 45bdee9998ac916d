"""Batches that mix observed and dreamed windows: batch t is a pure function of (seed, t)."""

import math
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from worldmodel.arrays.windows import PICKED, Batch, Windows, join
from worldmodel.core.typing import Doubles, Ints

OBSERVED, DREAM = 0, 1
COLD = 1 / 16  # of the windows of a batch begin with less than their history
COLD_STREAM = 2  # of random numbers, beside those of the sources
BLOCK = 1 << 20  # steps whose shares are in memory at once


@dataclass(frozen=True)
class RhoSchedule:
    """The share of dreams wanted at each step, as an array would hold it: at `end`, or from `start` to `end`."""

    kind: str  # constant | linear | cosine
    start: float | None
    end: float
    steps: int

    def __len__(self) -> int:
        return self.steps

    def __getitem__(self, part: slice) -> Doubles:
        begin, stop, _ = part.indices(self.steps)
        if self.kind == "constant" or self.start is None:
            return np.full(stop - begin, self.end)
        progress = np.arange(begin, stop) / max(self.steps - 1, 1)
        if self.kind == "cosine":
            progress = (1 - np.cos(np.pi * progress)) / 2
        shares: Doubles = self.start + (self.end - self.start) * progress
        return shares

    def min(self) -> float:
        return min(self._ends)

    def max(self) -> float:
        return max(self._ends)

    @property
    def _ends(self) -> tuple[float, float]:
        return float(self[:1][0]), float(self[self.steps - 1 :][0])


def no_dreams(steps: int) -> RhoSchedule:
    return RhoSchedule("constant", None, 0.0, steps)


def mean_share(rho: RhoSchedule | Doubles, begin: int, end: int) -> float:
    """Of the steps begin..end-1."""
    if end - begin <= BLOCK:
        return float(rho[begin:end].mean())
    return sum(float(rho[at : min(at + BLOCK, end)].sum()) for at in range(begin, end, BLOCK)) / (end - begin)


@dataclass(frozen=True)
class Mixture:
    """Draws without replacement: every window of a source once in random order, then again in another order.

    Some are cold starts, whose history is not whole: half of them from the drawn window's first frame on, half from its
    episode's, which is where a controller begins.
    """

    observed: Windows
    dreams: Windows
    batch_size: int
    rho: RhoSchedule | Doubles  # [steps]
    seed: int
    confidence: bool  # weight dreamed frames by their confidence
    cold: float = COLD  # share of cold starts

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

    def batch(self, t: int, part: slice = slice(None)) -> Batch:
        """Exactly the quota of dreams that the schedule has reached by step t, the rest observed; a part of it."""
        if t % max(1, PICKED // self.batch_size) == 0:
            self.observed.packed.release()
        before, after = self.dreams_by(t), self.dreams_by(t + 1)
        dreams = self._draw(DREAM, before, after)
        observed = self._draw(OBSERVED, t * self.batch_size - before, (t + 1) * self.batch_size - after)
        padding, opening = self._padding(t)
        wanted, begin, parts = np.arange(self.batch_size)[part], 0, list[Batch]()
        for source, chosen, weigh in ((self.observed, observed, False), (self.dreams, dreams, self.confidence)):
            here = wanted[(begin <= wanted) & (wanted < begin + len(chosen))]
            if len(here):
                first = source.index[chosen[here - begin]]
                first = np.where(opening[here], source.packed.starts[source.packed.episode_at(first)], first)
                parts.append(source.read(first, padding[here], weigh))
            begin += len(chosen)
        return join(parts)

    def dreams_by(self, t: int) -> int:
        """How many dreams have been drawn before step t: the fraction of a dream is carried over."""
        number, place = divmod(t, BLOCK)
        while len(self._before) <= number:
            self._before.append(float(self._sums(len(self._before) - 1)[-1]))
        return int(np.floor(self._sums(number)[place] + 1e-6))

    def _padding(self, t: int) -> tuple[Ints, NDArray[np.bool_]]:
        """Frames of padding of each window of a batch, [B]: of cold starts as many as leave one to know, or more.

        Half of them know a single frame. And which begin where their episode does, [B]: every other one. An exact share
        is cold, the fraction of a window is carried over.
        """
        padding, opening = np.zeros(self.batch_size, np.int64), np.zeros(self.batch_size, np.bool_)
        begin, end = (math.floor(each * self.batch_size * self.cold + 1e-6) for each in (t, t + 1))
        if begin < end and self.observed.history > 1:
            rng = np.random.default_rng([self.seed, COLD_STREAM, t])
            chosen = rng.permutation(self.batch_size)[: end - begin]
            number = np.arange(begin, end)
            padding[chosen] = rng.integers(1, self.observed.history, size=len(chosen))
            padding[chosen[number % 4 < 2]] = self.observed.history - 1
            opening[chosen] = number % 2 == 0
        return padding, opening

    @cached_property
    def _before(self) -> list[float]:
        """How many dreams are wanted before each block of steps, as far as anybody asked."""
        return [0.0]

    @cached_property
    def _latest(self) -> dict[int, Doubles]:
        return {}

    def _sums(self, number: int) -> Doubles:
        """How many dreams are wanted before each step of a block, and after its last one."""
        if number not in self._latest:
            shares = self.rho[number * BLOCK : (number + 1) * BLOCK]
            sums = np.cumsum(np.concatenate([[self._before[number]], shares * self.batch_size]))
            self._latest.clear()
            self._latest[number] = sums
        return self._latest[number]

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
