"""Frames of episodes spread over the whole log: enough to know what is usual, however long the log is."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Self

import numpy as np

from worldmodel.core.typing import Doubles, Floats, Ints, Reals
from worldmodel.episodes.temporary_store import EpisodeView

FRAMES = 20_000  # about as many are taken
HUGEST = 1e16  # what is beyond it counts as this, so that squares and sums stay finite
MANY_VALUES = 20  # a column of no more different values is a switch or a class, no measurement


@dataclass(frozen=True)
class Sample:
    """Whole episodes end to end; a step leads from a frame to the next of its episode."""

    features: Floats  # [N, F]
    actions: Floats | None  # [N, A], discrete ones as one column
    starts: Ints  # [E] first frame of each episode

    @cached_property
    def before(self) -> Ints:
        """Frames that have a next one."""
        last = np.append(self.starts[1:], len(self.features)) - 1
        return np.setdiff1d(np.arange(len(self.features)), last)

    @cached_property
    def steps(self) -> Floats:
        """Change of each feature, [steps, F]."""
        return self.features[self.before + 1] - self.features[self.before]

    @cached_property
    def usual_step(self) -> Floats:
        """[F] size of a change that nine in ten stay below."""
        if not len(self.steps):
            return np.zeros(self.features.shape[1], np.float32)
        found: Floats = np.quantile(np.abs(self.steps), 0.9, axis=0).astype(np.float32)
        return found

    @cached_property
    def low_high(self) -> tuple[Doubles, Doubles]:
        """[F] values between which 98 % lie."""
        low, high = np.quantile(self.features.astype(np.float64), (0.01, 0.99), axis=0)
        return low, high

    @cached_property
    def distinct(self) -> Ints:
        """[F] how many different values there are, counted up to a few."""
        columns = self.features[:: max(1, len(self.features) // 5000)].T
        return np.array([len(np.unique(column)) for column in columns], np.int64)


def sample_of(episodes: Sequence[EpisodeView]) -> Sample:
    total = sum(episode.length for episode in episodes)
    every = max(1, -(-total // FRAMES))
    tables = [episode.table() for episode in episodes[::every]]
    lengths = [len(table.timestamps) for table in tables]
    actions = [table.actions for table in tables if table.actions is not None]
    return Sample(
        np.clip(np.concatenate([table.features for table in tables]), -HUGEST, HUGEST),
        np.concatenate([each.reshape(len(each), -1).astype(np.float32) for each in actions]) if actions else None,
        np.cumsum([0, *lengths[:-1]]),
    )


@dataclass
class Extremes:
    """Lowest and highest value of each feature over all frames, and how many frames have just that."""

    low: Floats  # [F]
    high: Floats
    at_low: Ints
    at_high: Ints
    frames: int = 0

    @classmethod
    def of(cls, episodes: Iterable[EpisodeView], width: int) -> Self:
        infinite, none = np.full(width, np.inf, np.float32), np.zeros(width, np.int64)
        found = cls(infinite, -infinite, none, none)
        for episode in episodes:
            found.add(episode.table().features)
        return found

    def add(self, features: Reals) -> None:
        low, high = np.minimum(self.low, features.min(axis=0)), np.maximum(self.high, features.max(axis=0))
        self.at_low = np.where(low < self.low, 0, self.at_low) + (features == low).sum(axis=0)
        self.at_high = np.where(high > self.high, 0, self.at_high) + (features == high).sum(axis=0)
        self.low, self.high, self.frames = low, high, self.frames + len(features)
