"""What was seen of all episodes of one source, observed or dreamed."""

from array import array
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from worldmodel.linting.batch import Batch, Placed, earliest, side_by_side
from worldmodel.linting.ranges import Ranges

UNEVEN, LONG = 1.5, 5.0  # a step is uneven, or a hole, beyond so many times its episode's median
COLUMNS = {"feature": "features", "action": "actions", "reward": "rewards", "context": "context"}


@dataclass
class Clock:
    """Seconds from frame to frame."""

    medians: "array[float]" = field(default_factory=lambda: array("d"))  # of episodes of two frames and more
    uneven: int = 0
    holes: int = 0
    longest: float = 0.0
    first: Placed | None = None  # that has a hole

    def add(self, batch: Batch) -> None:
        inside = np.flatnonzero(batch.inner)
        if not len(inside):
            return
        usual = np.repeat(batch.medians, np.diff(batch.bounds) - 1)
        steps = batch.seconds[inside]
        self.medians.extend(batch.medians[~np.isnan(batch.medians)].tolist())
        self.longest = max(self.longest, float(steps.max()))
        with np.errstate(over="ignore"):
            self.uneven += int((steps > UNEVEN * usual).sum())
            holes = inside[steps > LONG * usual]
        self.holes += len(holes)
        self.first = earliest(self.first, batch.at(int(holes[0])) if len(holes) else None)


@dataclass
class Facts:
    placed: list[Placed] = field(default_factory=list)  # as they came
    clock: Clock = field(default_factory=Clock)
    ranges: dict[str, Ranges] = field(default_factory=dict)  # of each of COLUMNS that there is
    choices: Counter[int] = field(default_factory=Counter)  # discrete actions
    kinds: Counter[str] = field(default_factory=Counter)  # terminal, truncated, piece: how many are

    def add(self, batch: Batch) -> None:
        self.placed += batch.placed
        self.clock.add(batch)
        for name, values, changes in self._columns(batch):
            if name not in self.ranges:
                self.ranges[name] = Ranges.of(len(values))
            self.ranges[name].add(batch, values, changes)

    def _columns(self, batch: Batch) -> Iterator[tuple[str, Any, Any]]:
        yield "feature", batch.features, batch.changes
        for name in ("action", "reward", "context"):
            arrays = [getattr(table, COLUMNS[name]) for table in batch.tables]
            if arrays[0] is None:
                continue
            if name == "action" and arrays[0].ndim == 1:
                self.choices.update(dict(enumerate(np.bincount(np.concatenate(arrays)).tolist())))
            else:
                values = side_by_side(arrays)
                yield name, values, batch.steps_of(values)

    @property
    def frames(self) -> int:
        return sum(each.length for each in self.placed)
