"""The linear start of a model: for each coordinate of the state the simplest predictor that does best.

Ridge regression, with the last change among its inputs or without, beside three that learn nothing: the state stays,
goes to the train mean, or its last change goes on. They are judged open loop on held-out windows and on train episodes
that a ridge did not know. Standardized units. Dimension key: B windows, K horizon, S state, A actions.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from worldmodel.arrays.windows import Batch, Packed, Windows, windows
from worldmodel.core.student_t import half_width
from worldmodel.core.typing import Doubles, Floats, Ints
from worldmodel.model.calibration import quantiles
from worldmodel.model.linear_start import LinearStart, ridge_starts
from worldmodel.model.selection import DAMPINGS, best_of, subsample
from worldmodel.model.shape import STATE_CLAMP, Shape
from worldmodel.model.world_model import DEGREES

FOLDS = 8  # of the train episodes, at most
MARGIN = 0.02  # share of ridge's error that another predictor has to take off, to be started from


@dataclass(frozen=True)
class _Judge:
    """Windows, and what is needed to predict them."""

    batch: Batch
    fold: int  # of the ridges that do not know them; 0 for those that know all train episodes


class Start(NamedTuple):
    linear: LinearStart
    log_std: Floats  # [K, F] of what it leaves unexplained at each frame, so that nine tenths lie within the interval


def choose_start(shape: Shape, packed: Packed, episodes: Ints, held_out: Windows | None) -> Start:
    """Fitted on the train episodes numbered `episodes`; undamped ridge where there is nothing to judge by."""
    features, actions = packed.each(packed.features, episodes), packed.each(packed.actions, episodes)
    with_velocity = (True, False) if shape.velocity_dim else (False,)
    folds = min(FOLDS, len(episodes))
    ridges = ridge_starts(features, actions, shape.state_dim, with_velocity, folds)
    if held_out is not None and len(held_out):
        ridges = [[_within_what_is_held_out(each, _all(held_out)) for each in ridge] for ridge in ridges]
    judges = _judges(shape, packed, episodes, folds, held_out)
    if not judges:
        known = windows(packed, episodes, shape.history, shape.horizon)
        return Start(ridges[0][0], _log_std(ridges[0], [_Judge(_all(known), 0)]))
    wide = [[_with_room_for_velocity(each, shape) for each in ridge] for ridge in ridges]
    plain = [*wide, *([start] * len(wide[0]) for start in _unlearned(wide[0][0], shape))]
    candidates: list[Sequence[LinearStart]] = [
        [replace(each, damping=np.full_like(each.bias, damping)) for each in candidate]
        for candidate in plain
        for damping in DAMPINGS
    ]
    errors = [_errors(candidate, judges) for candidate in candidates]
    candidates.append(_mixed(candidates, np.array(errors)))
    errors.append(_errors(candidates[-1], judges))
    best = candidates[best_of(np.array(errors))]
    return Start(best[0], _log_std(best, judges))


def _within_what_is_held_out(start: LinearStart, batch: Batch) -> LinearStart:
    """The same, without the limits of sensors that a held-out reading passes: those are none."""
    seen = [batch.history, batch.features[batch.weight > 0]]
    states = np.concatenate([each.reshape(-1, each.shape[-1]) for each in seen]) @ start.projection.T
    none = np.float32(STATE_CLAMP)
    return replace(
        start,
        sensor_min=np.where(states.min(axis=0) < start.sensor_min, -none, start.sensor_min),
        sensor_max=np.where(states.max(axis=0) > start.sensor_max, none, start.sensor_max),
    )


def _with_room_for_velocity(ridge: LinearStart, shape: Shape) -> LinearStart:
    """The same, with a weight of 0 for the last change where it has none and the model has."""
    state = shape.state_dim
    lacking = state + shape.velocity_dim + shape.actions - ridge.weight.shape[1]
    nothing = np.zeros((state, lacking), np.float32)
    return replace(ridge, weight=np.concatenate([ridge.weight[:, :state], nothing, ridge.weight[:, state:]], axis=1))


def _unlearned(ridge: LinearStart, shape: Shape) -> list[LinearStart]:
    """Hold the state; go to the mean; let the last change go on where z holds it."""
    state = len(ridge.delta_std)
    nothing = np.zeros_like(ridge.weight)
    mean, change = nothing.copy(), nothing.copy()
    mean[:, :state] = -np.eye(state)
    if shape.velocity_dim:
        change[:, state : 2 * state] = np.diag(ridge.delta_std)
    still = np.zeros_like(ridge.bias)
    rows = [(nothing, still), (mean, ridge.train_mean), *([(change, still)] if shape.velocity_dim else [])]
    return [replace(ridge, weight=weight, bias=bias) for weight, bias in rows]


def _mixed(group: Sequence[Sequence[LinearStart]], errors: Doubles) -> list[LinearStart]:
    """For each coordinate the rows of the candidate that errs least in it, for each fold."""
    handicapped = errors.copy()
    handicapped[1:] *= 1 + MARGIN
    chosen, rows = handicapped.argmin(axis=0), np.arange(errors.shape[1])
    mixed = []
    for same_fold in zip(*group, strict=True):
        weight, bias, damping = (
            np.stack([getattr(each, name) for each in same_fold])[chosen, rows]
            for name in ("weight", "bias", "damping")
        )
        mixed.append(replace(same_fold[0], weight=weight, bias=bias, damping=damping))
    return mixed


def _judges(shape: Shape, packed: Packed, episodes: Ints, folds: int, held_out: Windows | None) -> list[_Judge]:
    judges = []
    if held_out is not None and len(held_out):
        judges.append(_Judge(_all(held_out), 0))
    for fold in range(folds if folds > 1 else 0):
        unknown = windows(packed, episodes[fold::folds], shape.history, shape.horizon)
        if len(unknown):
            judges.append(_Judge(_all(unknown.every(max(1, folds * len(unknown) // 1024))), fold + 1))
    return judges


def _all(held_out: Windows) -> Batch:
    few = subsample(held_out)
    return few.take(np.arange(len(few)))


def _errors(candidate: Sequence[LinearStart], judges: Sequence[_Judge]) -> Doubles:
    """Mean squared error of each coordinate, [S]"""
    summed, weight = np.zeros(len(candidate[0].delta_std)), 0.0
    for judge in judges:
        start, batch = candidate[judge.fold], judge.batch
        apart = rollout(start, batch) - batch.features @ start.projection.T
        squared = np.square(apart, dtype=np.float64) * batch.weight[..., None]
        if batch.present is not None:
            squared *= batch.present @ np.square(start.projection.T)
        summed, weight = summed + squared.sum(axis=(0, 1)), weight + float(batch.weight.sum())
    return summed / max(weight, 1e-9)


def _log_std(candidate: Sequence[LinearStart], judges: Sequence[_Judge]) -> Floats:
    """[K, F]; that of the frame before where no window reaches a frame. Of train episodes alone, where these judge."""
    apart, there = [], []
    for judge in [each for each in judges if each.fold] or judges:
        start, batch = candidate[judge.fold], judge.batch
        apart.append(np.abs(rollout(start, batch) @ start.projection - batch.features))
        exists = np.broadcast_to(batch.weight[..., None] > 0, batch.features.shape)
        there.append(exists if batch.present is None else exists & (batch.present > 0))
    reached = quantiles(np.concatenate(apart), np.concatenate(there))
    return np.log(reached / half_width(DEGREES)).astype(np.float32)


def rollout(start: LinearStart, batch: Batch) -> Floats:
    """Open loop from the batch's histories along its planned actions, as the model does, [B, K, S]"""
    state = batch.history[:, -1] @ start.projection.T
    divisor = np.where(start.delta_std > 0, start.delta_std, np.inf).astype(np.float32)
    velocity = (state - batch.history[:, -2:][:, 0] @ start.projection.T) / divisor
    weight, bias = start.weight / divisor[:, None], start.bias / divisor
    moving = weight.shape[1] - batch.planned_actions.shape[2] > len(bias)
    states = []
    for action in batch.planned_actions.swapaxes(0, 1):
        reading = state.clip(start.sensor_min, start.sensor_max)
        inputs = np.concatenate([state, velocity, action] if moving else [state, action], axis=1)
        outside = np.square(reading - reading.clip(start.train_min, start.train_max)).sum(axis=1, keepdims=True)
        velocity = (inputs @ weight.T + bias) / (1 + start.damping * outside)
        state = (reading + start.delta_std * velocity).clip(-STATE_CLAMP, STATE_CLAMP)
        velocity = velocity.clip(-STATE_CLAMP, STATE_CLAMP)
        states.append(state.clip(start.sensor_min, start.sensor_max))
    return np.stack(states, axis=1)
