"""A Gaussian process on one-step changes: what ridge leaves over of them, given the last frame and the action.

With few logs it does as well as a trained network and errs elsewhere (docs/notebook.md); many it can only sample.
Matern 5/2 with a length scale for each input and output (Rasmussen and Williams 2006, chapters 2, 4 and 5). Dimension
key: N points, D = S + A inputs, S state (the coordinates of linear_starts), B batch, K horizon.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import compress

import numpy as np
import torch
from torch import Tensor

from worldmodel.arrays.scaler import MIN_SPREAD
from worldmodel.arrays.windows import Packed
from worldmodel.core.typing import Doubles, Floats, Ints
from worldmodel.model.linear_start import LinearStart, linear_starts
from worldmodel.model.world_model import damp

SCALE_POINTS = 400  # that length scales are fitted on
SCALE_STEPS = 60
SCALE_RATE = 0.1
SCALE_PRIOR = 2.0  # std of the logarithm of a length scale around that of sqrt(D)
LEAST_NOISE = 1e-4  # of the variance of what is left over


@dataclass(frozen=True)
class GaussianProcess:
    """The mean alone: a sum of kernels around the points."""

    start: LinearStart
    points: Tensor  # [S, N, D], over the length scales of each output
    scales: Tensor  # [S, D]
    answers: Tensor  # [S, N], K^-1 y; 0 for points that it does not know

    def rollout(self, last: Floats, actions: Floats) -> Floats:
        """Last frame [B, F] and planned actions [B, K, A] -> open-loop prediction [B, K, F], standardized units."""
        start = self.start
        linear, bias, spread = (torch.from_numpy(part) for part in (start.weight, start.bias, start.delta_std))
        projection, lower, upper = map(torch.from_numpy, (start.projection, start.sensor_min, start.sensor_max))
        least, most = torch.from_numpy(start.train_min), torch.from_numpy(start.train_max)
        state, states, damping = torch.from_numpy(last) @ projection.T, [], torch.from_numpy(start.damping)
        for action in torch.from_numpy(np.ascontiguousarray(actions)).unbind(1):
            known = torch.cat([state, action], dim=1)
            change = known @ linear.T + bias + spread * self._left_over(known)
            state = (state + change * damp(state, least, most, damping)).clamp(lower, upper)
            states.append(state)
        predicted: Floats = (torch.stack(states, dim=1) @ projection).numpy()
        return predicted

    def damped(self, damping: float) -> "GaussianProcess":
        """The same, its changes damped outside of the train states."""
        return replace(self, start=replace(self.start, damping=np.full_like(self.start.damping, damping)))

    def _left_over(self, known: Tensor) -> Tensor:
        """[B, D] -> [B, S] in units of the change's spread; one output at a time stays within the processor's cache."""
        outputs = zip(self.points, self.scales, self.answers, strict=True)
        return torch.stack([matern(known / scale, points) @ answer for points, scale, answer in outputs], dim=1)


def matern(left: Tensor, right: Tensor) -> Tensor:
    """Matern 5/2 of unit variance, [..., B, D] and [..., N, D] over their length scales -> [..., B, N]"""
    squares = left.square().sum(-1).unsqueeze(-1) + right.square().sum(-1).unsqueeze(-2)
    distance = (5 * (squares - 2 * left @ right.transpose(-1, -2))).clamp(min=1e-12).sqrt()
    return (1 + distance + distance.square() / 3) * torch.exp(-distance)


def fit_gaussian_processes(
    packed: Packed, episodes: Ints, left_out: Sequence[Ints], state_dim: int, most: int, seed: int
) -> list[GaussianProcess]:
    """One that knows at most `most` transitions of the given episodes, then for each of `left_out` one that knows none
    of its episodes. They share coordinates and length scales, which are fitted on all given episodes.
    """
    rows = [packed.rows(episode) for episode in episodes]
    features, actions = [packed.features[row] for row in rows], [packed.actions[row] for row in rows]
    [start] = linear_starts(features, actions, state_dim)
    states, trained = [each @ start.projection.T for each in features], [~np.isin(episodes, out) for out in left_out]
    starts = [start, *(_start_of(start, compress(states, kept), compress(actions, kept)) for kept in trained)]
    inputs, changes = _transitions(states, actions)
    belongs = np.repeat(episodes, [len(part) - 1 for part in features])
    chosen = np.random.default_rng([seed, len(inputs)]).permutation(len(inputs))[:most]
    known, changed = inputs[chosen], changes[chosen]
    left_over = torch.from_numpy(np.stack([_left_over(each, known, changed) for each in starts], axis=1))
    inputs_known = torch.from_numpy(known)
    scales, noise = _fit_scales(inputs_known[:SCALE_POINTS], left_over[:, 0, :SCALE_POINTS])
    hidden = [torch.from_numpy(np.flatnonzero(np.isin(belongs[chosen], fold))) for fold in left_out]
    answers = torch.stack(
        [
            _answers(inputs_known / scale, values, variance, hidden)
            for values, scale, variance in zip(left_over, scales, noise, strict=True)
        ],
        dim=1,
    )
    points = (inputs_known / scales[:, None]).float()
    return [
        GaussianProcess(own, points, scales.float(), answer.float())
        for own, answer in zip(starts, answers, strict=True)
    ]


def _start_of(whole: LinearStart, states: Iterable[Floats], actions: Iterable[Floats]) -> LinearStart:
    """Ridge and range of some episodes alone, in the coordinates of all."""
    [start] = linear_starts(list(states), list(actions), len(whole.delta_std))
    return replace(start, projection=whole.projection)


def _transitions(states: Sequence[Floats], actions: Sequence[Floats]) -> tuple[Doubles, Doubles]:
    """States and actions [N, D], and the changes [N, S] that follow."""
    wide = [state.astype(np.float64) for state in states]
    inputs = [np.concatenate([state[:-1], moves[:-1]], axis=1) for state, moves in zip(wide, actions, strict=True)]
    return np.concatenate(inputs), np.concatenate([np.diff(state, axis=0) for state in wide])


def _left_over(start: LinearStart, inputs: Doubles, changes: Doubles) -> Doubles:
    """What ridge leaves over of the changes in units of their spread, [S, N]."""
    left_over = changes - inputs @ start.weight.T - start.bias
    return (left_over / np.maximum(start.delta_std, MIN_SPREAD)).T.copy()


def _fit_scales(known: Tensor, left_over: Tensor) -> tuple[Tensor, Tensor]:
    """Length scales [S, D] and noise [S], a share of the variance, by marginal likelihood on [N, D] and [S, N]."""
    outputs, width = len(left_over), known.shape[1]
    middle = math.log(math.sqrt(width))
    scales = torch.full((outputs, width), middle, dtype=torch.float64, requires_grad=True)
    noise = torch.full((outputs,), math.log(0.1), dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.Adam([scales, noise], lr=SCALE_RATE)
    unit = torch.eye(len(known), dtype=torch.float64)
    for _ in range(SCALE_STEPS):
        scaled = known / scales.exp()[:, None]
        kernel = matern(scaled, scaled) + (noise.exp() + LEAST_NOISE)[:, None, None] * unit
        unlikely = (_slope(kernel.detach(), left_over) * kernel).sum()  # it has the gradients, not the value
        loss = unlikely + ((scales - middle) / SCALE_PRIOR).square().sum() / 2
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return scales.detach().exp(), noise.detach().exp() + LEAST_NOISE


def _slope(kernel: Tensor, values: Tensor) -> Tensor:
    """Gradient [S, N, N] of the negative log marginal likelihood of values [S, N] with respect to their kernel matrix.

    Equation 5.9, with the variance that suits each output best. It spares the gradients of a factorization.
    """
    inverse = _inverse(kernel)
    answers = (inverse @ values[..., None])[..., 0]
    variance = (values * answers).mean(-1).clamp(min=1e-12)
    return (inverse - answers[:, :, None] * answers[:, None] / variance[:, None, None]) / 2


def _answers(points: Tensor, values: Tensor, noise: Tensor, hidden: Sequence[Tensor]) -> Tensor:
    """K^-1 y of all points, and without those of each index in `hidden`, for values [1 + len(hidden), N] of each.

    Leaving points out of an inverse is a product with a block of it: one factorization serves all.
    """
    kernel = matern(points, points)
    kernel.diagonal().add_(noise)
    inverse = _inverse(kernel)
    whole, *each = values @ inverse
    parts = [
        part - inverse[:, out] @ _solution(inverse[out][:, out], part[out])
        for part, out in zip(each, hidden, strict=True)
    ]
    return torch.stack([whole, *parts])


def _inverse(matrices: Tensor) -> Tensor:
    """NumPy's, as is what is next: PyTorch would ask MKL (runtime/portable.py)."""
    return torch.from_numpy(np.linalg.inv(matrices.numpy()))


def _solution(matrix: Tensor, values: Tensor) -> Tensor:
    return torch.from_numpy(np.linalg.solve(matrix.numpy(), values.numpy()))
