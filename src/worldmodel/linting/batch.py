"""Episodes as they come, some hundred at a time: what the checks and the summary look at, computed once.

Shapes: E episodes, N frames, F features. Numbers lie feature by feature, as most of what is done goes along time.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from worldmodel.core.text import escaped
from worldmodel.core.typing import Doubles, Ints
from worldmodel.episodes.table import Table
from worldmodel.linting.remark import Remark
from worldmodel.logs.rollouts import continues

NUMBERS = 1 << 17  # of features in a batch, about


@dataclass(frozen=True, order=True, slots=True)
class Placed:
    """An episode and where it begins."""

    file: str
    line: int
    agent_id: str
    name: str
    begin: float  # seconds
    end: float
    length: int  # frames
    segment: int = 0
    returns: int = 0  # times that it goes on behind frames of another one of its agent

    @property
    def identity(self) -> tuple[str, str]:
        return self.agent_id, self.name

    def continues(self, before: "Placed") -> bool:
        """Of that episode of the same agent and name: whether it is a later piece of the same rollout."""
        return self.file == before.file and continues(self, before)

    def remark(self, kind: str, message: str, count: int = 1) -> Remark:
        return Remark(kind, message, count, self.file, self.line, escaped(self.name))


def earliest(one: Placed | None, other: Placed | None) -> Placed | None:
    return min(one, other) if one and other else one or other


@dataclass(frozen=True)
class Batch:
    """Whole episodes end to end."""

    placed: list[Placed]
    tables: list[Table]

    @cached_property
    def bounds(self) -> Ints:
        """[E + 1] frames at which the episodes begin, and N."""
        return np.cumsum([0, *(each.length for each in self.placed)])

    def at(self, frame: int) -> Placed:
        return self.placed[int(np.searchsorted(self.bounds, frame, "right")) - 1]

    @cached_property
    def inner(self) -> NDArray[np.bool_]:
        """[N - 1] whether a step stays in its episode."""
        found = np.ones(int(self.bounds[-1]) - 1, bool)
        found[self.bounds[1:-1] - 1] = False
        return found

    @cached_property
    def timestamps(self) -> Doubles:
        return np.concatenate([table.timestamps for table in self.tables])

    @cached_property
    def seconds(self) -> Doubles:
        """[N - 1] from frame to frame."""
        with np.errstate(over="ignore"):
            return np.diff(self.timestamps)

    @cached_property
    def medians(self) -> Doubles:
        """[E] seconds from frame to frame, NaN where there is one frame."""
        lengths = np.diff(self.bounds) - 1
        owner = np.repeat(np.arange(len(lengths)), lengths)
        steps = self.seconds[self.inner]
        steps = steps[np.lexsort((steps, owner))]
        begins = np.cumsum([0, *lengths[:-1]])
        if not len(steps):
            return np.full(len(lengths), np.nan)
        last = len(steps) - 1
        middle = (np.minimum(begins + each // 2, last) for each in (np.maximum(lengths - 1, 0), lengths))
        low, high = (steps[each] for each in middle)
        return np.where(lengths > 0, (low + high) / 2, np.nan)

    @cached_property
    def features(self) -> Doubles:
        """[F, N]"""
        return side_by_side([table.features for table in self.tables])

    @cached_property
    def changes(self) -> Doubles:
        """[F, N - 1] from frame to frame, NaN from episode to episode."""
        return self.steps_of(self.features)

    @cached_property
    def sizes(self) -> Doubles:
        """[F, N - 1] of the changes."""
        return np.abs(self.changes)

    def steps_of(self, columns: Doubles) -> Doubles:
        found = np.diff(columns, axis=1)
        found[:, ~self.inner] = np.nan
        return found


def side_by_side(rows: Sequence[NDArray[np.generic]]) -> Doubles:
    """[D, N] of arrays [T, D] or [T]."""
    wide = np.concatenate([each.reshape(len(each), -1) for each in rows])
    return np.ascontiguousarray(wide.T, np.float64)
