"""One optimizer step and what surrounds it: start, learning rate, selection, calibration. Callers own the loops."""

import copy
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from worldmodel.floors import linear_start
from worldmodel.losses import world_model_loss
from worldmodel.model import Floats, Prediction, Shape, WorldModel
from worldmodel.windows import Batch, Ints, Packed, Windows

WEIGHT_DECAY = 1e-4
CLIP_NORM = 1.0
WARM_UP = 100  # steps, and at most a tenth of all
EVALUATION_BATCH = 1024  # windows
SELECTION_WINDOWS = 1024
QUANTILE_90 = 1.6448536269514722  # of |error| / std where errors are normal


class Tensors(NamedTuple):
    """A Batch on the device."""

    history: Tensor
    past_actions: Tensor
    planned_actions: Tensor
    features: Tensor
    rewards: Tensor | None
    weight: Tensor


def to_device(batch: Batch, device: torch.device) -> Tensors:
    def move(array: Floats) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(array)).to(device)

    return Tensors(
        move(batch.history),
        move(batch.past_actions),
        move(batch.planned_actions),
        move(batch.features),
        None if batch.rewards is None else move(batch.rewards),
        move(batch.weight),
    )


def new_model(shape: Shape, packed: Packed, episodes: Ints, seed: int, device: torch.device) -> WorldModel:
    """Seeded weights, with the ridge of the given train episodes as linear start."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = WorldModel(shape)
    rows = [packed.rows(episode) for episode in episodes]
    features, actions = [packed.features[row] for row in rows], [packed.actions[row] for row in rows]
    model.start_from(linear_start(features, actions, shape.state_dim))
    return model.to(device)


def new_optimizer(model: WorldModel) -> torch.optim.Optimizer:
    return torch.optim.AdamW(model.parameters(), weight_decay=WEIGHT_DECAY, fused=True)


def learning_rate(t: int, steps: int, peak: float) -> float:
    """Linear warm-up, then a cosine down to nothing."""
    warm_up = min(WARM_UP, max(1, steps // 10))
    return peak * min(1.0, (t + 1) / warm_up) * (1 + math.cos(math.pi * t / steps)) / 2


def update(model: WorldModel, optimizer: torch.optim.Optimizer, batch: Tensors, rate: float) -> dict[str, Tensor]:
    """One optimizer step; returns the parts of the loss before it."""
    for group in optimizer.param_groups:
        group["lr"] = rate
    prediction = model(batch.history, batch.past_actions, batch.planned_actions)
    loss, parts = world_model_loss(prediction, batch.features, batch.rewards, batch.weight)
    optimizer.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP_NORM)
    optimizer.step()
    return parts


def predictions(model: WorldModel, windows: Windows, device: torch.device) -> Iterator[tuple[Tensors, Prediction]]:
    """All windows in order, without gradients."""
    model.eval()
    with torch.no_grad():
        for begin in range(0, len(windows), EVALUATION_BATCH):
            batch = to_device(windows.take(np.arange(begin, min(begin + EVALUATION_BATCH, len(windows)))), device)
            yield batch, model(batch.history, batch.past_actions, batch.planned_actions)
    model.train()


def thinned(windows: Windows) -> Windows:
    """About SELECTION_WINDOWS of them, evenly spaced."""
    return windows.every(max(1, len(windows) // SELECTION_WINDOWS))


def mean_error(model: WorldModel, windows: Windows, device: torch.device) -> float:
    """Open-loop mean squared error over all frames, standardized units; infinite without windows."""
    if not len(windows):
        return math.inf
    total, weight = 0.0, 0.0
    for batch, prediction in predictions(model, windows, device):
        squared = (prediction.features - batch.features).square().mean(-1) * batch.weight
        total, weight = total + float(squared.double().sum()), weight + float(batch.weight.sum())
    return total / weight


@dataclass(frozen=True)
class Selected:
    """The best weights so far by error on held-out windows; the linear start takes part, so none does worse.

    Without held-out windows the latest weights are the best ones.
    """

    step: int
    error: float  # standardized units squared; infinite where nothing is held out
    weights: dict[str, Tensor]

    @staticmethod
    def at(model: WorldModel, windows: Windows, step: int, device: torch.device) -> "Selected":
        return Selected(step, mean_error(model, windows, device), copy.deepcopy(model.state_dict()))

    def or_better(self, other: "Selected") -> "Selected":
        return other if other.error <= self.error else self


def calibrate(model: WorldModel, windows: Windows, device: torch.device) -> None:
    """One multiplier of the std for each frame of the horizon: 90 % intervals then hold 90 % of the given windows."""
    if not len(windows):
        return
    ratios, weights = [], []
    for batch, prediction in predictions(model, windows, device):
        ratios.append(((batch.features - prediction.features).abs() * (-prediction.log_std).exp()).cpu().numpy())
        weights.append(batch.weight.cpu().numpy() > 0)
    ratio, exists = np.concatenate(ratios), np.concatenate(weights)
    for step in range(ratio.shape[1]):
        if exists[:, step].any():
            reached = float(np.quantile(ratio[exists[:, step], step], 0.9))
            model.log_std_offset[step] += math.log(max(reached, 1e-3) / QUANTILE_90)
