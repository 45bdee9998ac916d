"""What a bundle says of its own predictions, beside what came: when the task ends, and how far it is from knowing."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from worldmodel.arrays.mapped import release
from worldmodel.core.typing import Doubles, Floats
from worldmodel.evaluation.metrics import BLOCK, Scores

BINS = 10  # of probabilities
QUANTILES = 20  # of windows

Bins = Sequence[tuple[float, float, int]]  # what was said, what came, how often; means of each bin, lowest first


@dataclass(frozen=True)
class Endings:
    auc: float  # chance that a frame that ended a task was more probable to than one that did not
    brier: float  # mean squared error of the probability
    share: float  # of the frames that ended a task
    bins: Bins


@dataclass(frozen=True)
class Disagreement:
    rank_correlation: float  # Spearman's, of a window's disagreement with its error
    bins: Bins


def endings(scores: Scores) -> Endings | None:
    """Of each frame of each window up to the end of its episode; None where nothing is to be told apart."""
    if "ended" not in scores.told:
        return None
    count, said, came, squared = np.zeros(BINS, np.int64), np.zeros(BINS), np.zeros(BINS), np.zeros(BINS)
    for probability, ended in _frames(scores):
        which = np.minimum((probability * BINS).astype(np.int64), BINS - 1)
        count += np.bincount(which, minlength=BINS)
        for summed, values in ((said, probability), (came, ended), (squared, np.square(probability - ended))):
            summed += np.bincount(which, values, BINS)
    ends = np.sort(np.concatenate([probability[ended > 0] for probability, ended in _frames(scores)]))
    others = int(count.sum()) - len(ends)
    if not len(ends) or not others:
        return None
    below = 0  # ends that are less probable than a frame that is none, twice
    for probability, ended in _frames(scores):
        below += sum(int(np.searchsorted(ends, probability[ended == 0], side).sum()) for side in ("left", "right"))
    held = count > 0
    means = ((summed[held] / count[held]).tolist() for summed in (said, came))
    return Endings(
        auc=1 - below / (2 * others * len(ends)),
        brier=float(squared.sum() / count.sum()),
        share=len(ends) / int(count.sum()),
        bins=list(zip(*means, count[held].tolist(), strict=True)),
    )


def _frames(scores: Scores) -> Iterator[tuple[Doubles, Floats]]:
    """Probability of an end, and whether it was one, of the frames that exist in a block of windows after the other."""
    said, came = scores.told["termination"], scores.told["ended"]
    for begin in range(0, len(came), BLOCK):
        ended = np.asarray(came[begin : begin + BLOCK])
        there = ~np.isnan(ended)
        yield said[begin : begin + BLOCK][there].astype(np.float64), ended[there]
        release((said, came))


def disagreement(scores: Scores) -> Disagreement | None:
    """None where the bundle tells of none."""
    if "disagreement" not in scores.told:
        return None
    said, came = scores.by_window(scores.told["disagreement"]), scores.by_window(scores["model"])
    there = ~np.isnan(came)
    said, came = said[there], came[there]
    parts = np.array_split(np.argsort(said, kind="stable"), min(QUANTILES, len(said)))
    bins = [(float(said[part].mean()), float(came[part].mean()), len(part)) for part in parts]
    return Disagreement(rank_correlation(said, came), bins)


def rank_correlation(one: Doubles, other: Doubles) -> float:
    """Spearman's; equal numbers have their mean rank. 0 where all of one are equal."""
    a, b = (ranks - ranks.mean() for ranks in map(_ranks, (one, other)))
    spread = float(np.sqrt(np.square(a).sum() * np.square(b).sum()))
    return float((a * b).sum()) / spread if spread else 0.0


def _ranks(values: Doubles) -> Doubles:
    _, which, count = np.unique(values, return_inverse=True, return_counts=True)
    ranks: Doubles = (np.cumsum(count) - (count - 1) / 2)[which]
    return ranks
