"""Missing readings of whole episodes, filled in by the linear model that is fitted on them. Standardized units.

Dimension key: T frames of an episode, F features, A actions.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from worldmodel.arrays.windows import held
from worldmodel.core.typing import Doubles, Floats
from worldmodel.model.ridge import fit_ridge, transitions

ROUNDS = 8  # of fitting and filling in: with half of the readings missing, what comes after changes little
SWEEPS = 8  # frames that one reading is carried on over by the linear model; it is held from then on


@dataclass(frozen=True)
class Filled:
    """The same episodes without gaps, made anew each time somebody goes over them."""

    features: Iterable[Floats]  # [T, F], NaN where a reading is missing
    actions: Iterable[Floats]  # [T, A]
    low: Floats  # [F], of the readings
    high: Floats  # [F]
    weight: Doubles  # [F, F + A], of the change
    bias: Doubles  # [F]

    def __iter__(self) -> Iterator[Floats]:
        for readings, taken in zip(self.features, self.actions, strict=True):
            yield self._filled(readings, taken) if np.isnan(readings).any() else readings

    def _filled(self, readings: Floats, taken: Floats) -> Floats:
        filled: Floats = held(readings[None])[0][0]
        for _ in range(SWEEPS if self.weight.any() else 0):
            before = filled[:-1]
            moved = before + np.concatenate([before, taken[:-1]], axis=1) @ self.weight.T + self.bias
            within = (self.low <= moved) & (moved <= self.high)  # else it is held: a limit is no prediction
            filled[1:] = np.where(np.isnan(readings[1:]), np.where(within, moved, before), readings[1:])
        return filled


def fill_in(features: Iterable[Floats], actions: Iterable[Floats]) -> Iterable[Floats]:
    """Episodes [T, F] and [T, A], which are gone over several times -> the episodes, each reading known.

    What is missing is held at first, then what a ridge regression says that was fitted on what was filled in before
    (expectation maximization, without the variance).
    """
    ends = [(np.fmin.reduce(each), np.fmax.reduce(each)) for each in features if np.isnan(each).any()]
    if not ends:
        return features
    lows, highs = zip(*ends, strict=True)
    width, inputs = len(lows[0]), len(lows[0]) + next(iter(actions)).shape[1]
    low, high = np.fmin.reduce(lows), np.fmax.reduce(highs)
    filled = Filled(features, actions, low, high, np.zeros((width, inputs)), np.zeros(width))
    for _ in range(ROUNDS):
        weight, bias = fit_ridge(transitions(filled, actions))
        filled = replace(filled, weight=weight, bias=bias)
    return filled
