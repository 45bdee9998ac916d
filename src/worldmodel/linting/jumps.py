"""Jumps in most features at once, and steps that suddenly lead to where episodes begin.

What is usual is known once some frames have been seen: these wait for it, and it is looked up again as the log grows.
"""

from dataclasses import dataclass, field
from typing import Self

import numpy as np
from numpy.typing import NDArray

from worldmodel.core.typing import Doubles, Ints
from worldmodel.linting.batch import Batch, Placed, earliest
from worldmodel.linting.sample import Sample, Sampler

JUMP = 4.0  # times a feature's usual step
MANY, FEATURES = 0.25, 2  # share of the features that jump, and how many at least
WIDE = 0.06  # of the range of a feature: a jump is no smaller
SMOOTH = 0.4  # of a feature's range: a usual step is smaller
STARTS = 100  # starts of episodes that are looked at
FAR, AROUND = 3.0, 2.0  # times the distance between starts
LONG = 0.9  # share of steps that are shorter
LEAP = 0.5  # of the longest ordinary step, that one feature at least makes
FEWEST = 200  # steps, to know what is usual
QUATERNION = 3  # features that turn their sign at once


@dataclass(frozen=True)
class Usual:
    """What is usual: of features that move smoothly, or not at all within an episode; and where episodes begin."""

    smooth: NDArray[np.bool_]  # [F]
    longest: Doubles  # [F] of an ordinary step
    scale: Doubles  # [F]
    first: Doubles  # [S, F] in scales
    near: float  # distance, in scales
    long: float  # length of a step that is a rare one, in scales

    @classmethod
    def of(cls, sample: Sample) -> Self:
        low, high = sample.low_high
        usual = sample.usual_step
        smooth = (high > low) & (usual < SMOOTH * (high - low))
        longest = np.maximum(JUMP * usual, WIDE * (high - low))
        scale = np.maximum(sample.features.std(axis=0), 1e-12)
        first = sample.features[sample.starts[:STARTS]] / scale
        if len(first) < 3:
            return cls(smooth, longest, scale, first[:0], 0.0, 0.0)
        apart = np.sort(_distances(first, first), axis=1)[:, 1]  # the first is its own
        near = 1.5 * float(np.quantile(apart, 0.9))
        long = float(np.quantile(np.linalg.norm(sample.steps / scale, axis=1), LONG))
        return cls(smooth, longest, scale, first, near, long)

    def jumps(self, batch: Batch) -> Ints:
        """Frames before an unusual step."""
        jumping, turning = self._jumping(batch)
        if not len(self.first):
            return jumping
        lengths = np.sqrt(np.einsum("fn,fn->n", *[batch.changes / self.scale[:, None]] * 2))
        # What comes from far away moves by more than the rest of the way is long, and not by what is noise anyway.
        coming = np.setdiff1d(np.flatnonzero(lengths > max(self.long, (FAR - 1) * self.near)), turning)
        leap = batch.sizes[:, coming] > LEAP * self.longest[:, None]
        coming = coming[(leap & self.smooth[:, None]).any(axis=0)]
        jumping = jumping[self._distance(batch, jumping + 1) <= AROUND * self.near]
        coming = coming[self._distance(batch, coming + 1) <= self.near]
        return np.union1d(jumping, coming[self._distance(batch, coming) > FAR * self.near])

    def _jumping(self, batch: Batch) -> tuple[Ints, Ints]:
        """Frames before a jump of many features, and frames before many turn their sign, as quaternions do."""
        if self.smooth.sum() < FEATURES:
            none = np.zeros(0, np.int64)
            return none, none
        longest = self.longest[self.smooth, None]
        frames = np.flatnonzero((batch.sizes[self.smooth] > longest).sum(axis=0) >= FEATURES)
        before, after = (batch.features[self.smooth][:, each] for each in (frames, frames + 1))
        far = np.abs(after - before) > longest
        turned = (far & (np.abs(after + before) <= longest)).sum(axis=0)
        turned[turned < QUATERNION] = 0
        jumped = far.sum(axis=0) - turned
        found = frames[(jumped >= FEATURES) & (jumped >= MANY * self.smooth.sum())]
        return found, frames[jumped == 0]

    def _distance(self, batch: Batch, frames: Ints) -> Doubles:
        """[frames] from the nearest start, in scales."""
        if not len(frames):
            return np.zeros(0)
        found: Doubles = _distances(batch.features[:, frames].T / self.scale, self.first).min(axis=1)
        return found


@dataclass
class Jumps:
    sampler: Sampler
    count: int = 0
    first: Placed | None = None
    seen: int = 0  # frames
    due: int = 0  # frames at which what is usual is looked up again
    usual: Usual | None = None
    waiting: list[Batch] = field(default_factory=list)

    def add(self, batch: Batch) -> None:
        self.seen += int(batch.bounds[-1])
        self.waiting.append(batch)
        if self.seen >= self.sampler.frames_of(batch):
            self.look()

    def look(self) -> None:
        """At what waits."""
        if self.seen >= self.due and self.waiting:
            sample = self.sampler.sample()
            self.usual, self.due = Usual.of(sample) if len(sample.before) >= FEWEST else None, 2 * self.seen
        for batch in self.waiting if self.usual else ():
            assert self.usual is not None
            found = self.usual.jumps(batch)
            self.count += len(found)
            self.first = earliest(self.first, batch.at(int(found[0])) if len(found) else None)
        self.waiting = []


def _distances(one: Doubles, other: Doubles) -> Doubles:
    """[N, M] between rows."""
    squares = (one**2).sum(axis=1)[:, None] + (other**2).sum(axis=1) - 2 * one @ other.T
    found: Doubles = np.sqrt(np.maximum(squares, 0))
    return found
