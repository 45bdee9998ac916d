"""Floors, which a model must beat: the last frame held, ridge, the mean of the train frames, the last change repeated.

Standardized units; float64 inside.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from worldmodel.arrays.moments import Moments, moments
from worldmodel.arrays.windows import Packed, Windows
from worldmodel.core.typing import Doubles, Floats, Reals
from worldmodel.model.filling import fill_in
from worldmodel.model.ridge import fit_ridge, transitions
from worldmodel.model.shape import STATE_CLAMP

FLOORS = {"linear": "ridge", "persistence": "hold-last", "mean": "mean", "last_change": "last change"}  # and in texts


@dataclass(frozen=True)
class LinearModel:
    """change = weight @ [state, action] + bias"""

    weight: Doubles  # [F, F + A]
    bias: Doubles  # [F]

    def rollout(self, last: Floats, actions: Floats) -> Floats:
        """last frame [B, F], planned actions [B, K, A] -> open-loop prediction [B, K, F], bounded as the model's is"""
        state, frames = last.astype(np.float64), []
        for action in np.moveaxis(actions, 1, 0):
            moved = state + np.concatenate([state, action], axis=1) @ self.weight.T + self.bias
            state = np.clip(moved, -STATE_CLAMP, STATE_CLAMP)
            frames.append(state)
        return np.stack(frames, axis=1).astype(np.float32)


def persistence(last: Floats, horizon: int) -> Floats:
    """Hold the last frame [B, F] -> [B, K, F]"""
    return np.repeat(last[:, None], horizon, axis=1)


def last_change(last: Reals, change: Reals, horizon: int) -> Reals:
    """Last frame and last change [B, F] -> that change again and again, [B, K, F]; any units"""
    repeated: Reals = last[:, None] + np.arange(1, horizon + 1)[:, None] * change[:, None]
    return repeated


def fit_linear(features: Iterable[Floats], actions: Iterable[Floats], unit: Doubles | None = None) -> LinearModel:
    """Ridge regression on the episodes' features [T, F], missing ones filled in, and actions [T, A].

    The penalty is meant for inputs of about unit variance: `unit` [F + A] times them has it, where they do not.
    """
    rows = transitions(fill_in(features, actions), actions)
    if unit is None:
        return LinearModel(*fit_ridge(rows))
    weight, bias = fit_ridge((inputs * unit, change) for inputs, change in rows)
    return LinearModel(weight * unit, bias)


def linear_baseline(packed: Packed, unit: Doubles | None = None) -> LinearModel:
    """Fitted on the observed train episodes."""
    episodes = packed.where("train")
    return fit_linear(packed.each(packed.features, episodes), packed.each(packed.actions, episodes), unit)


def floor_errors(packed: Packed, held_out: Windows) -> dict[str, float]:
    """Mean squared error of each floor on held-out windows, as the model's is counted; none without windows."""
    if not len(held_out):
        return {}
    batch = held_out.take(np.arange(len(held_out)))
    last, horizon = batch.history[:, -1], batch.features.shape[1]
    predicted: dict[str, Reals] = {
        "linear": linear_baseline(packed).rollout(last, batch.planned_actions),
        "persistence": persistence(last, horizon),
        "mean": np.broadcast_to(train_moments(packed).mean, batch.features.shape),
        "last_change": last_change(last, last - batch.history[:, -2:][:, 0], horizon),
    }
    weight = np.broadcast_to(batch.weight[..., None], batch.features.shape).astype(np.float64)
    if batch.present is not None:
        weight = weight * batch.present
    return {
        name: float(np.average(np.square(each - batch.features), weights=weight)) for name, each in predicted.items()
    }


def train_moments(packed: Packed) -> Moments:
    """Mean and range of the observed train frames."""
    episodes = packed.where("train")
    found = moments(lambda: packed.each(packed.features, episodes))
    assert found is not None
    return found
