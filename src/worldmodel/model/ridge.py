"""Ridge regression of changes on (state, action): normal equations added up episode by episode, in float64."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from worldmodel.core.typing import Doubles, Floats

RIDGE_PENALTY = 1e-3  # of the number of transitions, on inputs of about unit variance
Transition = tuple[Doubles, Doubles]  # inputs [T, D], change that followed [T, F]


@dataclass(frozen=True)
class NormalEquations:
    """Products of inputs, 1 among them, with themselves and with changes, summed over transitions."""

    gram: Doubles  # [D + 1, D + 1]
    cross: Doubles  # [D + 1, F]
    count: int  # transitions

    @staticmethod
    def of(transition: Transition) -> "NormalEquations":
        inputs, change = transition
        with_one = np.concatenate([inputs, np.ones((len(inputs), 1))], axis=1)
        return NormalEquations(with_one.T @ with_one, with_one.T @ change, len(with_one))

    def __add__(self, other: "NormalEquations") -> "NormalEquations":
        return NormalEquations(self.gram + other.gram, self.cross + other.cross, self.count + other.count)

    def __sub__(self, other: "NormalEquations") -> "NormalEquations":
        return NormalEquations(self.gram - other.gram, self.cross - other.cross, self.count - other.count)

    def solve(self) -> tuple[Doubles, Doubles]:
        """weight [F, D] and bias [F] of change = weight @ inputs + bias, with a small penalty on the weight."""
        penalty = np.full(len(self.gram), RIDGE_PENALTY * max(self.count, 1))
        penalty[-1] = 1e-9  # the bias is free
        solution = np.linalg.solve(self.gram + np.diag(penalty), self.cross).T.astype(np.float64)
        return solution[:, :-1], solution[:, -1]


def transitions(
    features: Iterable[Floats], actions: Iterable[Floats], delta_std: Doubles | None = None
) -> Iterator[Transition]:
    """Inputs (state, action) and change of each episode [T, F], [T, A].

    With a delta_std [F], the last change in units of it stands between state and action.
    """
    for states, taken in zip(features, actions, strict=True):
        change = np.diff(states.astype(np.float64), axis=0)
        if delta_std is None:
            yield np.concatenate([states[:-1], taken[:-1]], axis=1, dtype=np.float64), change
        else:
            last = np.divide(change[:-1], delta_std, out=np.zeros_like(change[:-1]), where=delta_std > 0)
            yield np.concatenate([states[1:-1], last, taken[1:-1]], axis=1, dtype=np.float64), change[1:]


def summed(rows: Iterable[Transition], folds: int) -> list[NormalEquations]:
    """Of every folds-th episode, from the first, second, ... on."""
    sums: list[NormalEquations] = []
    for number, each in enumerate(map(NormalEquations.of, rows)):
        if number < folds:
            sums.append(each)
        else:
            sums[number % folds] += each
    return sums


def fit_ridge(rows: Iterable[Transition]) -> tuple[Doubles, Doubles]:
    """weight [F, D] and bias [F] of change = weight @ inputs + bias, with a small penalty on the weight."""
    return summed(rows, 1)[0].solve()
