"""How well a classifier tells dreams from what really followed their starts: ROC AUC, 0.5 where it can only guess.

A classifier two-sample test (Lopez-Paz and Oquab, arXiv 1610.06545). Each dreamed window is paired with the real one
that begins at the same frame of the log, so that dreams are not told by where they start or by how long they are; both
are in one fold, with all pairs of their episode. Only frames after the history speak. Standardized units.
Dimension key: P pairs, K horizon, F features, C columns.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from worldmodel.arrays.scaler import MIN_SPREAD
from worldmodel.arrays.windows import Batch, Packed, Windows, held, windows
from worldmodel.core.typing import Doubles, Floats, Ints
from worldmodel.model.baselines import LinearModel, linear_baseline

PAIRS = 3000  # at most; a seeded sample of more
FOLDS = 5
SEED = 0  # of the sample and of the folds
PENALTY = 1.0  # of squared weights, beside one squared error a window
SMALLEST = 1e-3  # standardized units; magnitudes below it look the same
CHUNK = 2_000_000  # numbers of a batch at once
DIGITS = 3  # of an AUC: more than a few thousand windows can tell


@dataclass(frozen=True)
class Realism:
    auc: float  # of all signs together
    by_sign: dict[str, float]  # AUC of each kind of sign alone
    real: Doubles  # [P] scores of real windows; more means: more like a dream
    dream: Doubles  # [P]


def realism(packed: Packed, history: int, horizon: int) -> Realism | None:
    """None without dreams, or where fewer than two train episodes are long enough to compare with."""
    dreamed, real = _pairs(packed, history, horizon)
    if len(np.unique(real.episode)) < 2:
        return None
    ridge = linear_baseline(packed)
    parts = [_both_signs(real.at(chosen), dreamed.at(chosen), ridge) for chosen in _chunks(real)]
    signs = [{name: np.concatenate([each[of][name] for each in parts]) for name in parts[0][of]} for of in (0, 1)]
    fold = _folds(real.episode)
    by_sign = {name: _judge(signs[0][name], signs[1][name], fold)[0] for name in signs[0]}
    columns = [np.concatenate(list(each.values()), axis=1) for each in signs]
    auc, scores = _judge(columns[0], columns[1], fold)
    return Realism(auc, by_sign, scores[: len(real)], scores[len(real) :])


def describe(found: Realism) -> str:
    """One line for a user, before any time is spent on training."""
    alone = ", ".join(f"{name} {auc:.2f}" for name, auc in found.by_sign.items())
    return f"a classifier tells dreams from reality with AUC {found.auc:.2f} (0.5 = it guesses); by one sign: {alone}"


def _pairs(packed: Packed, history: int, horizon: int) -> tuple[Windows, Windows]:
    """Dreamed windows, and what the log has from the same frames on; any real window where that is not known."""
    dreamed, real = (
        windows(packed, packed.where("train", source), history, horizon) for source in ("dream", "observed")
    )
    rng = np.random.default_rng(SEED)
    dreamed = dreamed.at(np.sort(rng.permutation(len(dreamed))[:PAIRS]))
    if not len(dreamed) or not len(real):
        return dreamed, real.at(np.empty(0, np.int64))
    pieces = {packed.labels.origins[episode]: episode for episode in packed.where("train")}
    origin = np.array([pieces.get(packed.labels.origins[episode], -1) for episode in dreamed.episode])
    begin = np.array(packed.labels.begins)[dreamed.episode] + dreamed.first - packed.starts[dreamed.episode]
    known = (origin >= 0) & (begin + history < packed.lengths[origin])
    instead = real.at(rng.integers(len(real), size=len(dreamed)))
    return dreamed, replace(
        real,
        index=np.where(known, packed.starts[origin] + begin, instead.first),
    )


def _chunks(pairs: Windows) -> list[Ints]:
    """Numbers of the pairs that fit into memory at once, however wide and long they are."""
    size = pairs.packed.features.shape[1] * (pairs.history + pairs.horizon)
    count = -(-len(pairs) * size // CHUNK)
    return np.array_split(np.arange(len(pairs)), count)


def _both_signs(real: Windows, dreamed: Windows, ridge: LinearModel) -> tuple[dict[str, Doubles], dict[str, Doubles]]:
    """Signs of the real windows and of the dreamed ones."""
    one, other = (these.take(np.arange(len(these))) for these in (real, dreamed))
    if one.present is not None and other.present is not None:
        present = one.present * other.present  # what one of them misses tells nothing of either
        one, other = _held(one, present), _held(other, present)
    exists = one.weight * other.weight
    return _signs(one, exists, ridge), _signs(other, exists, ridge)


def _held(batch: Batch, present: Floats) -> Batch:
    """The batch with the value before it instead of each reading to predict that is not `present` [P, K, F]."""
    path = np.concatenate([batch.history[:, -1:], np.where(present > 0, batch.features, np.nan)], axis=1)
    return replace(batch, features=held(path)[0][:, 1:])


def _signs(batch: Batch, exists: Floats, ridge: LinearModel) -> dict[str, Doubles]:
    """What may betray a dream, over the frames that exist in both windows of a pair, [P, C] each.

    states: level and size; changes: size, and how far they jerk; response: what a linear model of the real
    transitions leaves unexplained of the changes, given state and action.
    """
    path = np.concatenate([batch.history[:, -1:], batch.features], axis=1).astype(np.float64)
    change = np.diff(path, axis=1)
    inputs = np.concatenate([path[:, :-1], batch.planned_actions], axis=2)
    unexplained = change - inputs @ ridge.weight.T - ridge.bias
    level = _mean(path[:, 1:], exists)
    return {
        "states": np.concatenate([level, _size(path[:, 1:], exists)], axis=1),
        "changes": np.concatenate([_size(change, exists), _size(np.diff(change, axis=1), exists[:, 1:])], axis=1),
        "response": np.concatenate([_mean(unexplained, exists), _size(unexplained, exists)], axis=1),
    }


def _mean(values: Doubles, exists: Floats) -> Doubles:
    """[P, K, F] -> [P, F]; 0 where no frame exists"""
    mean: Doubles = (values * exists[..., None]).sum(axis=1) / np.maximum(exists.sum(axis=1), 1)[:, None]
    return mean


def _size(values: Doubles, exists: Floats) -> Doubles:
    """Log of the root mean square, [P, K, F] -> [P, F]: too small tells as much as too large."""
    logarithm: Doubles = np.log(np.sqrt(_mean(np.square(values), exists)) + SMALLEST)
    return logarithm


def _folds(episode: Ints) -> Ints:
    """The fold of each pair, [P]: all pairs of an episode are in one."""
    names, which = np.unique(episode, return_inverse=True)
    fold: Ints = (np.random.default_rng(SEED).permutation(len(names)) % FOLDS)[which]
    return fold


def _judge(real: Doubles, dream: Doubles, fold: Ints) -> tuple[float, Doubles]:
    """Mean AUC over the folds and the scores [2 P], each by a discriminant fitted on the other folds."""
    columns, is_dream, folds = np.concatenate([real, dream]), np.repeat([False, True], len(real)), np.tile(fold, 2)
    scores, areas = np.empty(len(columns)), []
    for number in np.unique(fold):
        held_out = folds == number
        scores[held_out] = _discriminant(columns[~held_out], is_dream[~held_out], columns[held_out])
        areas.append(auc(scores[held_out & ~is_dream], scores[held_out & is_dream]))
    return round(float(np.mean(areas)), DIGITS), scores


def _discriminant(columns: Doubles, is_dream: NDArray[np.bool_], asked: Doubles) -> Doubles:
    """Ridge regression of -1 (real) and 1 (dream): Fisher's linear discriminant, in closed form."""
    center, spread = columns.mean(axis=0), columns.std(axis=0)
    spread[spread < MIN_SPREAD] = 1
    known = (columns - center) / spread
    weight = np.linalg.solve(known.T @ known + PENALTY * np.eye(known.shape[1]), known.T @ (2.0 * is_dream - 1))
    scores: Doubles = (asked - center) / spread @ weight
    return scores


def auc(low: Doubles, high: Doubles) -> float:
    """Chance that a number of `high` exceeds one of `low`; equal ones count half (Mann-Whitney)."""
    ordered = np.sort(low)
    below = np.searchsorted(ordered, high, "left") + np.searchsorted(ordered, high, "right")
    return float(below.mean() / (2 * len(low)))
