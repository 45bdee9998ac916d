"""Choosing by the error on held-out windows: the best weights of a training, the best damping of a model."""

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from worldmodel.arrays.windows import Windows
from worldmodel.core.typing import Ints
from worldmodel.model.tensors import Tensors, to_device
from worldmodel.model.world_model import Prediction, WorldModel

EVALUATION_BATCH = 1024  # windows
SELECTION_WINDOWS = 1024
BLOCK = 128  # frames
DAMPINGS = (0.0, 0.1, 0.3, 1.0)  # of the velocity outside of the train states, to choose from (docs/notebook.md)
Candidate = TypeVar("Candidate")


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


def apply_best(
    candidates: Sequence[Candidate],
    apply: Callable[[Candidate], object],
    model: WorldModel,
    windows: Windows,
    device: torch.device,
) -> float:
    """Apply the candidate with which the model errs least on held-out windows, the first of equals; that error."""
    errors = []
    for candidate in candidates:
        apply(candidate)
        errors.append(mean_error(model, windows, device))
    best = min(range(len(candidates)), key=errors.__getitem__)
    apply(candidates[best])
    return errors[best]


def choose_damping(model: WorldModel, windows: Windows, device: torch.device) -> float:
    """Give a trained model the damping that does best on held-out windows; returns that error.

    It was chosen for ridge; what training adds is often right farther out. Without windows it stays: infinite.
    """
    return apply_best(DAMPINGS, model.damping.fill_, model, windows, device) if len(windows) else math.inf
