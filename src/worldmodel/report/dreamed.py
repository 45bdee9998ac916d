"""Dreams beside what the log has from the same frames on. Dimension key: T frames, F features, G their columns."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from worldmodel.arrays.affine import Affine
from worldmodel.arrays.moments import moments
from worldmodel.arrays.windows import Packed
from worldmodel.core.typing import Doubles, Floats, Reals

SAMPLE, SEED = 3000, 0  # dreams, and observed episodes


@dataclass(frozen=True)
class Pair:
    agent_id: str
    name: str  # of the dream
    begin: int  # frame of the log that both begin at
    real: Floats  # [T, G], standardized columns, NaN where a reading is missing
    dream: Floats  # [T, G]
    distance: float  # mean squared difference after the history, standardized units

    def most_variable(self, features: Affine, count: int) -> list[tuple[int, Reals, Reals]]:
        """The features that change most in reality: number, real and dreamed [T], raw units."""
        real, dream = features.inverse(self.real), features.inverse(self.dream)
        order = np.argsort(-_deviation([real]) / features.spread, kind="stable")[:count].tolist()
        return [(feature, real[:, feature], dream[:, feature]) for feature in order]


@dataclass(frozen=True)
class Dreamed:
    pairs: tuple[Pair, ...]  # the nearest, the one in the middle and the farthest
    history: int  # frames that a dream begins with, as logged but for a little noise
    observed_change: Doubles  # [F] standard deviation of changes from frame to frame, standardized units
    dreamed_change: Doubles  # [F]


def compare(packed: Packed, features: Affine, history: int) -> Dreamed | None:
    """None without dreams."""
    dreams, observed = (_sampled(packed, source) for source in ("dream", "observed"))
    if not len(dreams) or not len(observed):
        return None
    pairs = sorted(_pairs(packed, features, dreams, history), key=lambda pair: (pair.distance, pair.name))
    chosen = {0, len(pairs) // 2, len(pairs) - 1} if pairs else set[int]()
    return Dreamed(
        tuple(pairs[number] for number in sorted(chosen)),
        history,
        _change(features, (packed.features[packed.rows(episode)] for episode in observed)),
        _change(features, (packed.features[packed.rows(episode)][history - 1 :] for episode in dreams)),
    )


def _sampled(packed: Packed, source: str) -> NDArray[np.int64]:
    episodes = packed.where("train", source)
    return episodes[np.sort(np.random.default_rng(SEED).permutation(len(episodes))[:SAMPLE])]


def _pairs(packed: Packed, features: Affine, dreams: Iterable[int], history: int) -> Iterator[Pair]:
    labels = packed.labels
    pieces = {labels.origins[episode]: episode for episode in packed.where("train")}
    for dream in dreams:
        origin, begin = pieces.get(labels.origins[dream]), labels.begins[dream]
        if origin is None:
            continue
        start, length = packed.starts[origin] + begin, min(packed.lengths[dream], packed.lengths[origin] - begin)
        if length <= history:
            continue
        real, own = packed.features[start : start + length], packed.features[packed.rows(dream)][:length]
        apart = np.square(features.residual(features.inverse(own[history:]), features.inverse(real[history:])))
        if len(known := apart[~np.isnan(apart)]):
            yield Pair(labels.agents[dream], labels.names[dream], begin, real, own, float(known.mean()))


def _change(features: Affine, episodes: Iterable[Floats]) -> Doubles:
    raw = map(features.inverse, episodes)
    return _deviation([features.residual(frames[1:], frames[:-1]) for frames in raw])


def _deviation(blocks: Sequence[Reals]) -> Doubles:
    """Standard deviation of each column of the blocks [n, F], [F]."""
    known = moments(lambda: blocks)
    assert known is not None
    return known.std
