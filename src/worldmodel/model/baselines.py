"""Baselines that a model must beat: holding the last frame, and a linear model. Standardized units; float64 inside."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from worldmodel.arrays.windows import Packed
from worldmodel.core.typing import Doubles, Floats
from worldmodel.model.filling import fill_in
from worldmodel.model.ridge import fit_ridge, transitions
from worldmodel.model.shape import STATE_CLAMP


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


def fit_linear(features: Iterable[Floats], actions: Iterable[Floats]) -> LinearModel:
    """Ridge regression on the episodes' features [T, F], missing ones filled in, and actions [T, A]."""
    return LinearModel(*fit_ridge(transitions(fill_in(features, actions), actions)))


def linear_baseline(packed: Packed) -> LinearModel:
    """Fitted on the observed train episodes."""
    episodes = packed.where("train")
    return fit_linear(packed.each(packed.features, episodes), packed.each(packed.actions, episodes))
