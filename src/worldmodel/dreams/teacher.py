"""The teacher behind dreams: independent world models, each fitted on its own share of the observed train episodes, and
beside them a Gaussian process and networks of one-step changes, which count for as much as they proved worth on the
episodes left out.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from worldmodel.arrays.windows import Batch, Packed
from worldmodel.checkpoints.checkpoint import Checkpoints
from worldmodel.core.params import Teacher as TeacherParams
from worldmodel.core.typing import Floats, Ints
from worldmodel.dreams.auxiliary import Opinions, fit_opinions
from worldmodel.dreams.members import Fitting
from worldmodel.model.shape import Shape
from worldmodel.model.tensors import to_device
from worldmodel.model.world_model import WorldModel

# squared, in standardized units: to miss by a hundredth of a standard deviation leaves nothing that dreams could bring
NEGLIGIBLE = 1e-4


@dataclass(frozen=True)
class Rollout:
    features: Floats  # [B, K, F], mean of members and opinions by their weights
    rewards: Floats | None  # [B, K], mean over the members
    disagreement: Floats  # [B, K], largest so far along the rollout of their std, root mean square of features


@dataclass(frozen=True)
class Teacher:
    members: tuple[WorldModel, ...]
    beside: tuple[Opinions, ...]
    want: float  # of data: share of the members' error on left-out windows that they don't have on those trained on
    device: torch.device

    @property
    def reach(self) -> float:
        """How far dreams may leave the log: not at all while want is below a quarter, all the way from 3/4 on."""
        return float(np.clip(2 * self.want - 0.5, 0, 1))

    def rollout(self, batch: Batch) -> Rollout:
        """Open loop from the batch's history along its planned actions, however many; standardized units."""
        given = to_device(batch, self.device)
        with torch.no_grad():
            starts = [member.encode(given.history, given.past_actions) for member in self.members]
            answers = [member.unroll(z, given.planned_actions) for member, z in zip(self.members, starts, strict=True)]
        opinions = [answer.features.cpu().numpy() for answer in answers]
        rewards = [answer.rewards.cpu().numpy() for answer in answers if answer.rewards is not None]
        frames = given.planned_actions.shape[1]
        weights = [np.full(frames, 1 / len(opinions), np.float32) for _ in opinions]
        for group in self.beside:
            own, share = group.each(given), group.share_of(frames)
            weights = [weight * (1 - share) for weight in weights] + [share / len(own) for _ in own]
            opinions += own
        features, spread = _pooled(np.stack(opinions), np.stack(weights))
        return Rollout(
            features=features,
            rewards=np.stack(rewards).mean(axis=0) if rewards else None,
            disagreement=np.maximum.accumulate(spread, axis=1),
        )


def fit_teacher(
    packed: Packed,
    episodes: Ints,
    shape: Shape,
    params: TeacherParams,
    seed: int,
    device: torch.device,
    kept: Checkpoints | None = None,
) -> Teacher:
    """Members differ in seed, in order of windows and in the episodes that they are selected on instead of trained on.

    Goes on from the latest of the kept checkpoints, to the same bits. Raises ValueError where no episode is longer than
    the history.
    """
    long_enough = episodes[packed.lengths[episodes] > shape.history]
    if not len(long_enough):
        raise ValueError(
            f"a dream needs a train episode of more than train.history = {shape.history} frames, "
            f"the longest of {len(episodes)} has {packed.lengths[episodes].max(initial=0)}"
        )
    shuffled = np.random.default_rng([seed, len(long_enough)]).permutation(long_enough)
    folds = [_fold(shuffled, number, params.members) for number in range(params.members)]
    fitting = Fitting(packed, shape, params, seed, device, kept)
    fitted = fitting.members(folds)
    members = tuple(each.model for each in fitted)
    beside = fit_opinions(fitting, members, folds)
    want = _want([each.known for each in fitted], [each.unseen for each in fitted])
    return Teacher(members, beside, want, device)


def _pooled(opinions: Floats, weights: Floats) -> tuple[Floats, Floats]:
    """Mean [B, K, F] of opinions [N, B, K, F] by their weights [N, K], and their spread [B, K].

    An estimate of the variance from as many opinions as the weights amount to (Kish's effective size), of two at least:
    one opinion alone has no spread.
    """
    features = np.einsum("nbkf,nk->bkf", opinions, weights)
    apart = [np.square(opinion - features).mean(axis=-1) for opinion in opinions]  # one at a time: it is less to hold
    variance = np.einsum("nbk,nk->bk", apart, weights)
    size = np.maximum(1 / np.square(weights).sum(axis=0), 2)
    return features, np.sqrt(variance * size / (size - 1))


def _want(known: Sequence[float], unseen: Sequence[float]) -> float:
    """Share of what is missed, or of what is negligible if that is more; 1 for logs too few to leave any out."""
    if not np.isfinite(unseen).all():
        return 1.0
    missed = float(np.mean(unseen))
    return float(np.clip((missed - np.mean(known)) / max(missed, NEGLIGIBLE), 0, 1))


def _fold(episodes: Ints, number: int, members: int) -> tuple[Ints, Ints]:
    """(trained on, selected on); all and none where there are fewer episodes than members."""
    if len(episodes) < members:
        return np.sort(episodes), episodes[:0]
    held_out = np.arange(len(episodes)) % members == number
    return np.sort(episodes[~held_out]), np.sort(episodes[held_out])
