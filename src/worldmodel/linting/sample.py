"""Frames of episodes spread over the whole log: enough to know what is usual, however long the log is."""

from dataclasses import dataclass, field
from functools import cached_property
from operator import itemgetter

import numpy as np

from worldmodel.core.typing import Doubles, Floats, Ints, Reals
from worldmodel.episodes.table import Table
from worldmodel.linting.batch import Batch, Placed

FRAMES = 20_000  # at most as many are taken
NUMBERS = 1 << 22  # of features, at most
HUGEST = 1e16  # what is beyond it counts as this, so that squares and sums stay finite
MANY_VALUES = 20  # a column of no more different values is a switch or a class, no measurement


@dataclass(frozen=True)
class Sample:
    """Whole episodes end to end, a missing reading as the one before; a step leads to the next frame of its episode."""

    features: Doubles  # [N, F]
    actions: Floats | None  # [N, A], discrete ones as one column
    starts: Ints  # [E] first frame of each episode
    choices: bool  # whether actions are integers without a list

    @cached_property
    def before(self) -> Ints:
        """Frames that have a next one."""
        last = np.append(self.starts[1:], len(self.features)) - 1
        return np.setdiff1d(np.arange(len(self.features)), last)

    @cached_property
    def steps(self) -> Doubles:
        """Change of each feature, [steps, F]."""
        return self.features[self.before + 1] - self.features[self.before]

    @cached_property
    def usual_step(self) -> Doubles:
        """[F] size of a change that nine in ten stay below."""
        if not len(self.steps):
            return np.zeros(self.features.shape[1])
        found: Doubles = np.quantile(np.abs(self.steps), 0.9, axis=0)
        return found

    @cached_property
    def low_high(self) -> tuple[Doubles, Doubles]:
        """[F] values between which 98 % lie."""
        low, high = np.quantile(self.features, (0.01, 0.99), axis=0)
        return low, high

    @cached_property
    def distinct(self) -> Ints:
        """[F] how many different values there are, counted up to a few."""
        columns = self.features[:: max(1, len(self.features) // 5000)].T
        return np.array([len(np.unique(column)) for column in columns], np.int64)


@dataclass
class Sampler:
    """Takes every k-th episode of those that come; k doubles whenever it holds too many frames."""

    every: int = 1
    seen: int = 0
    tables: list[tuple[Placed, Table]] = field(default_factory=list)

    def add(self, batch: Batch) -> None:
        most = self.frames_of(batch)
        for placed, table in zip(batch.placed, batch.tables, strict=True):
            if self.seen % self.every == 0:
                actions = None if table.actions is None else table.actions[:most].copy()
                times, features = table.timestamps[:most], table.features[:most].copy()
                self.tables.append((placed, table._replace(timestamps=times, features=features, actions=actions)))
            self.seen += 1
        while len(self.tables) > 1 and sum(len(table.timestamps) for _, table in self.tables) > most:
            self.tables, self.every = self.tables[::2], 2 * self.every

    @staticmethod
    def frames_of(batch: Batch) -> int:
        """How many may be held."""
        return max(1, min(FRAMES, NUMBERS // len(batch.features)))

    def sample(self) -> Sample:
        """In the order of files and lines."""
        tables = [table for _, table in sorted(self.tables, key=itemgetter(0))]
        actions = [table.actions for table in tables if table.actions is not None]
        return Sample(
            np.clip(_held(np.concatenate([table.features for table in tables])), -HUGEST, HUGEST),
            np.concatenate([each.reshape(len(each), -1).astype(np.float32) for each in actions]) if actions else None,
            np.cumsum([0, *(len(table.timestamps) for table in tables[:-1])]),
            bool(actions) and actions[0].ndim == 1,
        )


def _held(features: Reals) -> Doubles:
    """[N, F] each missing reading as the one before, or 0 where none is."""
    found = features.astype(np.float64)
    missing = np.isnan(found)
    if missing.any():
        before = np.maximum.accumulate(np.where(missing, 0, np.arange(len(found))[:, None]), axis=0)
        found = np.nan_to_num(np.take_along_axis(found, before, axis=0))
    return found
