"""The teacher behind dreams: independent world models, each fitted on its own share of the observed train episodes, and
auxiliary models of one-step changes, which count for as much as they proved worth on the episodes left out.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from worldmodel.arrays.windows import Batch, Packed
from worldmodel.checkpoints.checkpoint import Checkpoints, graceful_shutdown
from worldmodel.core.jobs import run_all
from worldmodel.core.params import Teacher as TeacherParams
from worldmodel.core.typing import Floats, Ints
from worldmodel.dreams.auxiliary import AuxiliaryModels, Candidates, gaussian_candidates, weigh
from worldmodel.dreams.members import EnsembleTrainer, Fold, Member
from worldmodel.model.shape import Shape
from worldmodel.model.tensors import to_device
from worldmodel.model.world_model import WorldModel
from worldmodel.numerics.setup import configure_as

# squared, in standardized units: to miss by a hundredth of a standard deviation leaves nothing that dreams could bring
NEGLIGIBLE = 1e-4


@dataclass(frozen=True)
class Rollout:
    features: Floats  # [B, K, F], mean of members and auxiliary models by their weights
    rewards: Floats | None  # [B, K], mean over the members
    disagreement: Floats  # [B, K], largest so far along the rollout of their std, root mean square of features
    ending: Floats | None = None  # [B, K], probability that the task ends with a frame, mean over the members


@dataclass(frozen=True)
class Teacher:
    members: tuple[WorldModel, ...]
    auxiliary: tuple[AuxiliaryModels, ...]
    generalization_gap: float  # share of the members' error on left-out windows that they don't have on trained ones
    device: torch.device

    @property
    def exploration(self) -> float:
        """How far dreams may leave the log: not at all while the gap is below a quarter, all the way from 3/4 on."""
        return float(np.clip(2 * self.generalization_gap - 0.5, 0, 1))

    def rollout(self, batch: Batch) -> Rollout:
        """Open loop from the batch's history along its planned actions, however many; standardized units."""
        tensors = to_device(batch, self.device)
        with torch.no_grad():
            starts = [member.encode(tensors.history, tensors.past_actions, tensors.known) for member in self.members]
            answers = [
                member.predict(z, tensors.planned_actions) for member, z in zip(self.members, starts, strict=True)
            ]
        predictions = [answer.features.cpu().numpy() for answer in answers]
        rewards = [answer.rewards.cpu().numpy() for answer in answers if answer.rewards is not None]
        ending = [each.termination.sigmoid().cpu().numpy() for each in answers if each.termination is not None]
        frames = tensors.planned_actions.shape[1]
        weights = [np.full(frames, 1 / len(predictions), np.float32) for _ in predictions]
        for group in self.auxiliary:
            own, share = group.predict(tensors), group.share_of(frames)
            weights = [weight * (1 - share) for weight in weights] + [share / len(own) for _ in own]
            predictions += own
        features, spread = _pooled(np.stack(predictions), np.stack(weights))
        return Rollout(
            features=features,
            rewards=np.stack(rewards).mean(axis=0) if rewards else None,
            disagreement=np.maximum.accumulate(spread, axis=1),
            ending=np.stack(ending).mean(axis=0) if ending else None,
        )


def fit_teacher(
    packed: Packed,
    episodes: Ints,
    shape: Shape,
    params: TeacherParams,
    seed: int,
    device: torch.device,
    checkpoints: Checkpoints | None = None,
) -> Teacher:
    """Members differ in seed, in order of windows and in the episodes that they are selected on instead of trained on.

    Goes on from the latest checkpoints, to the same bits. Raises ValueError where no episode is longer than the
    history.
    """
    long_enough = episodes[packed.lengths[episodes] > shape.history]
    if not len(long_enough):
        raise ValueError(
            f"a dream needs a train episode of more than train.history = {shape.history} frames, "
            f"the longest of {len(episodes)} has {packed.lengths[episodes].max(initial=0)}"
        )
    shuffled = np.random.default_rng([seed, len(long_enough)]).permutation(long_enough)
    folds = [_fold(shuffled, number, params.members) for number in range(params.members)]
    trainer = EnsembleTrainer(packed, shape, params, seed, device, checkpoints)
    with graceful_shutdown(checkpoints):
        members, kinds = _fit_all(trainer, folds)
    models = tuple(member.model for member in members)
    gap = _generalization_gap([each.train_error for each in members], [each.holdout_error for each in members])
    return Teacher(models, weigh(kinds, models, trainer, folds) if kinds else (), gap, device)


def _fit_all(trainer: EnsembleTrainer, folds: Sequence[Fold]) -> tuple[list[Member], list[Candidates]]:
    """Members, and where each of them leaves out episodes to judge by, candidates of each kind of auxiliary models.

    These see a single frame, which has to be whole: there are none where readings are missing.
    """
    params, kinds = trainer.params, list[Candidates]()
    judged = all(len(fold.held_out) for fold in folds) and not trainer.packed.missing
    gaussian = [(gaussian_candidates, trainer, folds)] if params.points and judged else []
    with tqdm(desc="teacher", unit="model", mininterval=1.0) as bar:
        fitted = _fitted(trainer, [*gaussian, *((EnsembleTrainer.fit_member, trainer, fold) for fold in folds)], bar)
        if gaussian:
            kinds.append(fitted.pop(0))
        members: list[Member] = fitted
        if params.transition_steps and judged:
            calls = [
                (EnsembleTrainer.fit_network, trainer, fold, member.model)
                for fold, member in zip(folds, members, strict=True)
            ]
            networks = _fitted(trainer, calls, bar)
            kinds.append(Candidates(networks, networks))
    return members, kinds


def _fitted(trainer: EnsembleTrainer, calls: Sequence[tuple[Any, ...]], bar: "tqdm[Any]") -> list[Any]:
    """Side by side on the cores that are there. SystemExit where a signal asked to stop: what was done is kept."""
    bar.total = (bar.total or 0) + len(calls)
    results = []
    for result in run_all(_call, calls, configure_as()):
        results.append(result)
        bar.update()
    if trainer.checkpoints:
        trainer.checkpoints.exit_if_asked()
    return results


def _call(function: Any, *arguments: Any) -> Any:
    return function(*arguments)


def _pooled(predictions: Floats, weights: Floats) -> tuple[Floats, Floats]:
    """Mean [B, K, F] of predictions [N, B, K, F] by their weights [N, K], and their spread [B, K].

    An estimate of the variance from as many predictions as the weights amount to (Kish's effective size), of two at
    least: one alone has no spread.
    """
    features = np.einsum("nbkf,nk->bkf", predictions, weights)
    apart = [np.square(each - features).mean(axis=-1) for each in predictions]  # one at a time: it is less to hold
    variance = np.einsum("nbk,nk->bk", apart, weights)
    size = np.maximum(1 / np.square(weights).sum(axis=0), 2)
    return features, np.sqrt(variance * size / (size - 1))


def _generalization_gap(train: Sequence[float], holdout: Sequence[float]) -> float:
    """Share of the error on left-out windows, or of what is negligible if that is more; 1 for logs too few to leave
    any out.
    """
    if not np.isfinite(holdout).all():
        return 1.0
    error = float(np.mean(holdout))
    return float(np.clip((error - np.mean(train)) / max(error, NEGLIGIBLE), 0, 1))


def _fold(episodes: Ints, number: int, members: int) -> Fold:
    """All and none where there are fewer episodes than members."""
    if len(episodes) < members:
        return Fold(number, np.sort(episodes), episodes[:0])
    held_out = np.arange(len(episodes)) % members == number
    return Fold(number, np.sort(episodes[~held_out]), np.sort(episodes[held_out]))
