"""The teacher behind dreams: independent world models, each fitted on its own share of the observed train episodes, and
a Gaussian process beside them that counts for as much as it proved worth on the episodes left out.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from worldmodel.config.params import Teacher as TeacherParams
from worldmodel.data.windows import Batch, Ints, Packed, windows
from worldmodel.dreaming.gaussian import GaussianProcess, fit_gaussian_processes
from worldmodel.dreaming.members import Fitting
from worldmodel.learning import learner
from worldmodel.learning.model import Floats, Shape, WorldModel
from worldmodel.runtime.checkpoint import Checkpoints

JUDGED = 256  # windows of each member's left-out episodes that the Gaussian process is judged by


@dataclass(frozen=True)
class Rollout:
    features: Floats  # [B, K, F], mean over the members, and the Gaussian process by its share
    rewards: Floats | None  # [B, K], mean over the members
    disagreement: Floats  # [B, K], largest so far along the rollout: std over opinions, root mean square of features


@dataclass(frozen=True)
class Teacher:
    members: tuple[WorldModel, ...]
    process: GaussianProcess | None
    share: Floats  # of the Gaussian process in the mean, by frame, the last one for all later ones; 0 without one
    want: float  # of data: share of the members' error on left-out windows that they don't have on those trained on
    device: torch.device

    @property
    def reach(self) -> float:
        """How far dreams may leave the log: not at all while want is below a quarter, all the way from 3/4 on."""
        return float(np.clip(2 * self.want - 0.5, 0, 1))

    def rollout(self, batch: Batch) -> Rollout:
        """Open loop from the batch's history along its planned actions, however many; standardized units."""
        given = learner.to_device(batch, self.device)
        with torch.no_grad():
            starts = [member.encode(given.history, given.past_actions) for member in self.members]
            answers = [member.unroll(z, given.planned_actions) for member, z in zip(self.members, starts, strict=True)]
        opinions = [answer.features.cpu().numpy() for answer in answers]
        rewards = [answer.rewards.cpu().numpy() for answer in answers if answer.rewards is not None]
        features = np.mean(opinions, axis=0)
        if self.process is not None:
            opinions.append(self.process.rollout(batch.history[:, -1], batch.planned_actions))
            frame = np.minimum(np.arange(features.shape[1]), len(self.share) - 1)
            features = features + self.share[frame, None] * (opinions[-1] - features)
        spread = np.sqrt(np.var(opinions, axis=0, ddof=1).mean(axis=-1))
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
    fitted = Fitting(packed, shape, params, seed, device, kept).members(folds)
    members = tuple(each.model for each in fitted)
    process, share = _second_opinion(members, packed, shuffled, shape, params.points, seed, device)
    want = _want([each.known for each in fitted], [each.unseen for each in fitted])
    return Teacher(members, process, share, want, device)


def _want(known: Sequence[float], unseen: Sequence[float]) -> float:
    """1 where nothing is left out: so few logs are wanting."""
    if not np.isfinite(unseen).all():
        return 1.0
    missed = np.mean(unseen)
    return float(np.clip((missed - np.mean(known)) / max(missed, np.finfo(float).tiny), 0, 1))


def _fold(episodes: Ints, number: int, members: int) -> tuple[Ints, Ints]:
    """(trained on, selected on); all and none where there are fewer episodes than members."""
    if len(episodes) < members:
        return np.sort(episodes), episodes[:0]
    held_out = np.arange(len(episodes)) % members == number
    return np.sort(episodes[~held_out]), np.sort(episodes[held_out])


def _second_opinion(
    members: Sequence[WorldModel],
    packed: Packed,
    shuffled: Ints,
    shape: Shape,
    points: int,
    seed: int,
    device: torch.device,
) -> tuple[GaussianProcess | None, Floats]:
    """A Gaussian process and its share of each frame [K]; none where no episode is left to judge it by."""
    folds = [_fold(shuffled, number, len(members))[1] for number in range(len(members))]
    if not points or not all(len(fold) for fold in folds):
        return None, np.zeros(shape.horizon, np.float32)
    whole, *partial = fit_gaussian_processes(packed, np.sort(shuffled), folds, shape.state_dim, points, seed)
    along, across = np.zeros(shape.horizon), np.zeros(shape.horizon)
    for member, process, fold in zip(members, partial, folds, strict=True):
        unseen = windows(packed, fold, shape.history, shape.horizon)
        unseen = unseen.every(max(1, len(unseen) // JUDGED))
        for given, answer in learner.predictions(member, unseen, device):
            history, plans, logged, weight = (
                part.cpu().numpy() for part in (given.history, given.planned_actions, given.features, given.weight)
            )
            own = answer.features.cpu().numpy()
            apart = (process.rollout(history[:, -1], plans) - own) * weight[..., None]
            along += (apart * (logged - own)).sum(axis=(0, 2))
            across += np.square(apart).sum(axis=(0, 2))
        member.eval()
    share = np.clip(along / np.maximum(across, np.finfo(np.float32).tiny), 0, 1).astype(np.float32)
    return (whole if share.any() else None), share
