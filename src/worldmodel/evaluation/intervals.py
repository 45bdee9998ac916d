"""How sure a mean error, or its relative change, is: a bootstrap over episodes, and over seeds where there are several.

Dimension key: S seeds, N episodes, D draws, K columns.
"""

from dataclasses import dataclass

import numpy as np

from worldmodel.core.typing import Doubles

DRAWS = 10_000
SEED = 0
CHUNK = 1000  # draws at once
PRIOR = 1  # degrees of freedom of how much episodes usually differ, beside those of the measured ones


@dataclass(frozen=True)
class Change:
    """Of a mean error against another: 0.1 is a tenth more."""

    value: float
    low: float  # 95 % interval
    high: float


@dataclass(frozen=True)
class Means:
    """Of several columns, [K] each."""

    value: Doubles
    low: Doubles  # 95 % intervals
    high: Doubles


def mean_error(errors: Doubles, weight: Doubles) -> float:
    """[S, N] -> mean over seeds and episodes, the latter weighted by their windows [N]"""
    return float(errors.mean(axis=0) @ weight / weight.sum())


def change(errors: Doubles, base: Doubles, weight: Doubles) -> Change:
    """Of `errors` against `base`, [S, N] each: row s of both has the same seed, column n is the same episode.

    Seeds and episodes are drawn with replacement, each on its own (crossed).
    """
    rng = np.random.default_rng(SEED)
    ratios = [_ratios(errors, base, weight, min(CHUNK, DRAWS - begin), rng) for begin in range(0, DRAWS, CHUNK)]
    low, high = np.quantile(np.concatenate(ratios), [0.025, 0.975])
    return Change(mean_error(errors, weight) / mean_error(base, weight) - 1, float(low) - 1, float(high) - 1)


def means(sums: Doubles, weight: Doubles) -> Means:
    """Of each column: weighted errors summed within an episode, over the sum of their weights, [N, K] each.

    Episodes are drawn with replacement, the same ones for every column.
    """
    rng, episodes = np.random.default_rng(SEED), len(sums)
    drawn = []
    for begin in range(0, DRAWS, CHUNK):
        size = min(CHUNK, DRAWS - begin)
        taken = rng.multinomial(episodes, np.full(episodes, 1 / episodes), size=size).astype(float)
        with np.errstate(invalid="ignore"):  # a draw may hold no episode that reaches a column
            drawn.append((taken @ sums) / (taken @ weight))
    low, high = np.nanquantile(np.concatenate(drawn), [0.025, 0.975], axis=0)
    return Means(sums.sum(axis=0) / weight.sum(axis=0), low, high)


def standard_error(sums: Doubles, weight: Doubles, usual: float) -> Doubles:
    """Of each column's ratio of totals, [N, K] each, for other episodes than these, [K].

    `usual` is the standard deviation of one episode's ratio where nothing is measured: a few episodes that are alike by
    chance do not make a ratio sure.
    """
    total, count = weight.sum(axis=0), np.maximum((weight > 0).sum(axis=0), 1)
    scale = count / np.maximum(total, np.finfo(float).tiny)
    apart = scale * (sums - sums.sum(axis=0) / np.maximum(total, np.finfo(float).tiny) * weight)
    variance = (PRIOR * usual**2 + np.square(apart).sum(axis=0)) / (PRIOR + count - 1)
    error: Doubles = np.sqrt(variance / count)
    return error


def _ratios(errors: Doubles, base: Doubles, weight: Doubles, draws: int, rng: np.random.Generator) -> Doubles:
    """[D]: sums suffice, because both sides have the same weights."""
    seeds, episodes = errors.shape
    of_seeds = rng.multinomial(seeds, np.full(seeds, 1 / seeds), size=draws).astype(float)
    of_episodes = rng.multinomial(episodes, np.full(episodes, 1 / episodes), size=draws) * weight
    above, below = (((of_seeds @ each) * of_episodes).sum(axis=1) for each in (errors, base))
    ratios: Doubles = above / below
    return ratios
