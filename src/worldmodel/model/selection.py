"""Choosing by the error on held-out windows: the best weights of a training, the best damping of a model."""

import copy
import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from worldmodel.arrays.windows import Windows
from worldmodel.core.typing import Doubles, Ints
from worldmodel.model.tensors import Tensors, to_device
from worldmodel.model.world_model import Prediction, WorldModel

EVALUATION_BATCH = 1024  # windows
SELECTION_WINDOWS = 1024
BLOCK = 128  # frames
WORSE = 1.01  # times the least error, up to which a candidate counts by what it errs in each coordinate
NOTHING = 1e-9  # squared error, standardized units
DAMPINGS = (0.0, 0.1, 0.3, 1.0)  # of the velocity outside of the train states, to choose from (docs/notebook.md)


def predictions(model: nn.Module, windows: Windows, device: torch.device) -> Iterator[tuple[Tensors, Prediction]]:
    """All windows in order, without gradients, of a WorldModel or of what is called as one."""
    model.eval()
    with torch.no_grad():
        for begin in range(0, len(windows), EVALUATION_BATCH):
            batch = to_device(windows.take(np.arange(begin, min(begin + EVALUATION_BATCH, len(windows)))), device)
            yield batch, model(*batch.inputs)
    model.train()


def subsample(windows: Windows) -> Windows:
    """About SELECTION_WINDOWS of them, evenly spaced."""
    return windows.every(max(1, len(windows) // SELECTION_WINDOWS))


def mean_error(model: nn.Module, windows: Windows, device: torch.device) -> float:
    """Open-loop mean squared error over all frames, standardized units squared; infinite without windows."""
    if not len(windows):
        return math.inf
    total, weight = 0.0, 0.0
    for batch, prediction in predictions(model, windows, device):
        squared, weights = (prediction.features - batch.features).square(), batch.weight
        if batch.present is None:
            squared = squared.mean(-1)
        else:
            weights = weights[..., None] * batch.present
        total, weight = total + float((squared * weights).double().sum()), weight + float(weights.sum())
    return total / weight


def blocks(windows: Windows) -> Ints:
    """A number for each window [W], the same for those of one episode that begin within BLOCK frames.

    Windows of one block tell the same: how sure a mean over windows is depends on the number of blocks.
    """
    packed, first = windows.packed, windows.first
    episode = packed.episode_at(first)
    within = (first - packed.starts[episode]) // BLOCK
    return np.unique(np.stack([episode, within]), axis=1, return_inverse=True)[1].reshape(-1)


@dataclass(frozen=True)
class BestWeights:
    """The best weights so far by error on held-out windows; without these, the latest."""

    step: int
    error: float  # standardized units squared; infinite where nothing is held out
    weights: dict[str, Tensor]

    @staticmethod
    def at(model: nn.Module, windows: Windows, step: int, device: torch.device) -> "BestWeights":
        return BestWeights(step, mean_error(model, windows, device), copy.deepcopy(model.state_dict()))

    def or_better(self, other: "BestWeights") -> "BestWeights":
        return other if other.error <= self.error else self


def best_of(errors: Doubles) -> int:
    """Of candidates [C, S], the number of one that errs little on the whole, and in each coordinate for what it is."""
    totals = errors.mean(axis=1)
    relative = np.where(totals <= WORSE * totals.min(), np.log(errors + NOTHING).mean(axis=1), np.inf)
    return int(relative.argmin())


def coordinate_errors(model: WorldModel, windows: Windows, block: Ints, device: torch.device) -> Doubles:
    """Squared error of each block in each coordinate of the state, so that their mean is that of all windows, [N, S]"""
    sums, weights = [], []
    for batch, prediction in predictions(model, windows, device):
        apart = prediction.features - batch.features
        if batch.present is not None:
            apart = apart * batch.present
        squared = model.project(apart).square() * batch.weight[..., None]
        sums.append(squared.sum(1).double().detach().cpu().numpy())
        weights.append(batch.weight.sum(1).double().cpu().numpy())
    count = int(block.max()) + 1
    errors = np.zeros((count, sums[0].shape[1]))
    np.add.at(errors, block, np.concatenate(sums))
    return errors * (count / max(float(np.concatenate(weights).sum()), 1e-9))


def choose_damping(model: WorldModel, windows: Windows, device: torch.device) -> float:
    """Give each coordinate of a trained model the damping that does best on held-out windows; returns the error.

    It was chosen for the start; what training adds is often right farther out. Without windows it stays: infinite.
    """
    if not len(windows):
        return math.inf
    uniform = [torch.full_like(model.damping, damping) for damping in DAMPINGS]
    errors = [_damped(model, damping, windows, device) for damping in uniform]
    mixed = torch.stack(uniform)[np.argmin(errors, axis=0), torch.arange(len(model.damping))]
    errors.append(_damped(model, mixed, windows, device))
    model.damping.copy_([*uniform, mixed][best_of(np.array(errors))])
    return mean_error(model, windows, device)


def _damped(model: WorldModel, damping: Tensor, windows: Windows, device: torch.device) -> Doubles:
    model.damping.copy_(damping)
    errors: Doubles = coordinate_errors(model, windows, np.zeros(len(windows), np.int64), device)[0]
    return errors
