"""Auxiliary models: a Gaussian process and networks of one-step changes, and the share of a dream that each kind has.

The share of each frame is fitted on the episodes that members leave out, on which nothing that is judged was trained.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from worldmodel.core.typing import Floats
from worldmodel.dreams.gaussian import GaussianProcess, fit_gaussian_processes
from worldmodel.dreams.members import EnsembleTrainer, Fold
from worldmodel.dreams.transition import TransitionNetwork
from worldmodel.model.selection import DAMPINGS
from worldmodel.model.tensors import Tensors, to_device
from worldmodel.model.world_model import WorldModel

JUDGED = 256  # windows of each member's left-out episodes
ALMOST = 1.01  # times the least error, up to which a larger damping is chosen

AuxiliaryModel = GaussianProcess | TransitionNetwork


@dataclass(frozen=True)
class Candidates:
    """Models of one kind."""

    models: Sequence[AuxiliaryModel]  # those that dreams would be made of
    per_fold: Sequence[AuxiliaryModel]  # for each fold, one that does not know what is left out there


@dataclass(frozen=True)
class AuxiliaryModels:
    """Some of one kind, whose mean has a share of what the teacher predicts."""

    models: tuple[AuxiliaryModel, ...]
    share: Floats  # of each frame, the last one for all later ones; 0..1

    def predict(self, batch: Tensors) -> list[Floats]:
        """What each of them predicts of the planned actions, [B, K, F]."""
        return [predict(model, batch) for model in self.models]

    def share_of(self, frames: int) -> Floats:
        """[frames]"""
        return self.share[np.minimum(np.arange(frames), len(self.share) - 1)]


def gaussian_candidates(trainer: EnsembleTrainer, folds: Sequence[Fold]) -> Candidates:
    """A Gaussian process of all episodes, and for each fold one without its left-out episodes.

    Damped as much as costs next to nothing on these: else it may run away where an episode leaves all known states.
    """
    left_out = [fold.held_out for fold in folds]
    episodes = np.sort(np.concatenate(left_out))
    processes = fit_gaussian_processes(
        trainer.packed, episodes, left_out, trainer.shape.state_dim, trainer.params.points, trainer.seed
    )
    judges = [_left_out(fold, trainer, JUDGED // len(DAMPINGS)) for fold in folds]

    def error(damping: float) -> float:
        return sum(_error(each.damped(damping), judge) for each, judge in zip(processes[1:], judges, strict=True))

    errors = [error(damping) for damping in DAMPINGS]
    largest = max(damping for damping, own in zip(DAMPINGS, errors, strict=True) if own <= ALMOST * min(errors))
    whole, *partial = [process.damped(largest) for process in processes]
    return Candidates([whole], partial)


def weigh(
    kinds: Sequence[Candidates], members: Sequence[WorldModel], trainer: EnsembleTrainer, folds: Sequence[Fold]
) -> tuple[AuxiliaryModels, ...]:
    """Those worth a share of any frame, judged one kind after the other."""
    judges = [_Judge.of(member, fold, trainer) for member, fold in zip(members, folds, strict=True)]
    worthy = []
    for kind in kinds:
        predictions = [predict(model, judge.batch) for model, judge in zip(kind.per_fold, judges, strict=True)]
        group = AuxiliaryModels(tuple(kind.models), _share(judges, predictions))
        if group.share.any():
            worthy.append(group)
            for judge, prediction in zip(judges, predictions, strict=True):
                judge.predicted += group.share[:, None] * (prediction - judge.predicted)
    return tuple(worthy)


@dataclass
class _Judge:
    """Some windows that one member left out, and what was predicted of them so far."""

    batch: Tensors
    predicted: Floats  # [B, K, F]

    @staticmethod
    def of(member: WorldModel, fold: Fold, trainer: EnsembleTrainer) -> "_Judge":
        batch = _left_out(fold, trainer, JUDGED)
        return _Judge(batch, predict(member, batch))


def _left_out(fold: Fold, trainer: EnsembleTrainer, most: int) -> Tensors:
    """About `most` windows, evenly spaced."""
    unseen = trainer.windows_of(fold.held_out)
    unseen = unseen.every(max(1, len(unseen) // most))
    return to_device(unseen.take(np.arange(len(unseen))), trainer.device)


def _error(model: AuxiliaryModel, batch: Tensors) -> float:
    """Squared, summed over windows, frames and features."""
    squared = np.square(predict(model, batch) - batch.features.cpu().numpy()).sum(axis=2)
    return float((squared * batch.weight.cpu().numpy()).sum())


def _share(judges: Sequence[_Judge], predictions: Sequence[Floats]) -> Floats:
    """The least-squares share of each frame [K] that a further prediction has of the pooled one."""
    along, across = np.zeros(predictions[0].shape[1]), np.zeros(predictions[0].shape[1])
    for judge, prediction in zip(judges, predictions, strict=True):
        logged, weight = judge.batch.features.cpu().numpy(), judge.batch.weight.cpu().numpy()
        apart = (prediction - judge.predicted) * weight[..., None]
        along += (apart * (logged - judge.predicted)).sum(axis=(0, 2))
        across += np.square(apart).sum(axis=(0, 2))
    return np.clip(along / np.maximum(across, np.finfo(np.float32).tiny), 0, 1).astype(np.float32)


def predict(model: WorldModel | AuxiliaryModel, batch: Tensors) -> Floats:
    """What one model predicts of the batch's planned actions, [B, K, F], standardized units."""
    if isinstance(model, GaussianProcess):
        return model.rollout(batch.history[:, -1].cpu().numpy(), batch.planned_actions.cpu().numpy())
    with torch.no_grad():
        features: Floats = model(batch.history, batch.past_actions, batch.planned_actions).features.cpu().numpy()
    return features
