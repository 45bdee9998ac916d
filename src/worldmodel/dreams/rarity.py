"""How rare a window is among observed train windows, and which windows are the rarest.

A window stands for the situation that it predicts from: its last frame of history and the change that led there, each
coordinate in standard deviations of the train windows. Its rarity is the distance to its k-th nearest neighbour there
(Ramaswamy, Rastogi and Shim, SIGMOD 2000), in other episodes: frames beside each other are alike, however rare. Unlike
the distance from a mean (Mahalanobis), this calls what lies between two habits rare, and a habit of a few agents not.
Dimension key: W windows, R reference windows, C coordinates.
"""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from worldmodel.arrays.mixing import permutation
from worldmodel.arrays.scaler import MIN_SPREAD
from worldmodel.arrays.windows import PICKED, Windows
from worldmodel.core.typing import Doubles, Ints

RAREST_SHARE = 0.1  # of windows count as rare
NEIGHBOUR = 10  # k: one odd frame in the reference does not make its surroundings common
REFERENCE = 4096  # windows that distances are taken to
CHUNK = 2048  # windows compared at once
SEED = 0  # of the choice of the reference


def rarest(train: Windows, given: Windows) -> Ints:
    """Numbers of the rarest tenth of the given windows, at least one of them, rarest first."""
    return np.argsort(-rarity(train, given), kind="stable")[: rarest_count(given)].astype(np.int64)


def rarest_count(given: Windows) -> int:
    """How many windows `rarest` names, known before any distance is taken."""
    return max(1, round(RAREST_SHARE * len(given)))


def rarity(train: Windows, given: Windows) -> Doubles:
    """Distance of each given window from the train windows, [W]; infinite where no other episode has any.

    Both have the same packed arrays. Of many train windows a seeded sample serves as reference.
    """
    chosen = permutation(np.random.default_rng(SEED), len(train))[:REFERENCE]
    reference = train.at(np.sort(chosen))
    if not len(reference):
        return np.full(len(given), np.inf)
    known, owner = np.concatenate([_situations(part) for part in _parts(reference)]), reference.episode
    spread = known.std(axis=0)
    spread[spread < MIN_SPREAD] = 1
    known /= spread
    distances = [_distances(known, owner, _situations(part) / spread, part.episode) for part in _parts(given)]
    return np.concatenate(distances) if distances else np.empty(0)


def _parts(these: Windows) -> Iterator[Windows]:
    for begin in range(0, len(these), CHUNK):
        yield these.at(np.arange(begin, min(begin + CHUNK, len(these))))


def _situations(these: Windows) -> Doubles:
    """Last frame of the history and the change that led there, [W, C]; no change in a history of one frame.

    A reading that is missing counts as the one before it.
    """
    past, every = replace(these, horizon=0), np.arange(len(these))
    parts = [past.take(part).history[:, -2:] for part in np.split(every, range(PICKED, len(these), PICKED))]
    frames = np.concatenate(parts)
    last = frames[:, -1].astype(np.float64)
    return np.concatenate([last, last - frames[:, 0]], axis=1)


def _distances(known: Doubles, known_episode: Ints, asked: Doubles, asked_episode: Ints) -> Doubles:
    """[R, C], [W, C] -> distance to the k-th nearest of another episode, [W]"""
    squared = np.square(asked).sum(axis=1)[:, None] + np.square(known).sum(axis=1) - 2 * asked @ known.T
    squared[asked_episode[:, None] == known_episode] = np.inf
    kth = min(NEIGHBOUR, len(known)) - 1
    nearest: Doubles = np.partition(squared, kth, axis=1)[:, kth]
    return np.sqrt(np.maximum(nearest, 0))
