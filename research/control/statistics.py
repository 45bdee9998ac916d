"""How sure returns and their differences are: a bootstrap over seeds, and over the starts of each seed.

Dimension key: S seeds, N starts of each, D draws.
"""

from dataclasses import dataclass

import numpy as np

from worldmodel.core.typing import Doubles, Ints

DRAWS, SEED = 10_000, 0


@dataclass(frozen=True)
class Estimate:
    value: float
    low: float  # 95 % interval
    high: float


def drawn(shape: tuple[int, int]) -> tuple[Ints, Ints]:
    """Seeds [D, S, 1] and starts [D, S, N], with replacement: the same for every row, so that rows are paired."""
    rng, (seeds, starts) = np.random.default_rng(SEED), shape
    return rng.integers(seeds, size=(DRAWS, seeds, 1)), rng.integers(starts, size=(DRAWS, seeds, starts))


def means(returns: Doubles) -> Doubles:
    """[S, N] -> of each draw, [D]"""
    found: Doubles = returns[drawn((len(returns), returns.shape[1]))].mean(axis=(1, 2))
    return found


def mean(returns: Doubles) -> Estimate:
    return _estimate(float(returns.mean()), means(returns))


def difference(one: Doubles, other: Doubles) -> Estimate:
    """Row s of both has the same seed, column n is the same start."""
    return mean(one - other)


def share(own: Doubles, worst: Doubles, best: Doubles) -> Estimate | None:
    """Of the way from the worst to the best; None where the best is not better."""
    whole, wholes = best.mean() - worst.mean(), means(best) - means(worst)
    if whole <= 0:
        return None
    sure = wholes > 0
    shares = (means(own) - means(worst))[sure] / wholes[sure]
    return _estimate(float((own.mean() - worst.mean()) / whole), shares)


def _estimate(value: float, draws: Doubles) -> Estimate:
    low, high = np.quantile(draws, [0.025, 0.975])
    return Estimate(value, float(low), float(high))
