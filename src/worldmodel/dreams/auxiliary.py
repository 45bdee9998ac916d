"""What stands beside the teacher's members: opinions on one-step changes, and the share of a dream that each is worth.

The share of each frame is fitted on the episodes that members leave out, on which nothing that is judged was trained.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from worldmodel.core.typing import Floats, Ints
from worldmodel.dreams.gaussian import GaussianProcess, fit_gaussian_processes
from worldmodel.dreams.members import Fitting
from worldmodel.dreams.transition import TransitionNetwork, fit_networks
from worldmodel.model.tensors import Tensors, to_device
from worldmodel.model.world_model import WorldModel

JUDGED = 256  # windows of each member's left-out episodes

Opinion = GaussianProcess | TransitionNetwork


@dataclass(frozen=True)
class Opinions:
    """Some of one kind, whose mean has a share of what the teacher says."""

    opinions: tuple[Opinion, ...]
    share: Floats  # of each frame, the last one for all later ones; 0..1

    def each(self, given: Tensors) -> list[Floats]:
        """What each of them predicts of the planned actions, [B, K, F]."""
        return [_answer(opinion, given) for opinion in self.opinions]

    def share_of(self, frames: int) -> Floats:
        """[frames]"""
        return self.share[np.minimum(np.arange(frames), len(self.share) - 1)]


def fit_opinions(
    fitting: Fitting, members: Sequence[WorldModel], folds: Sequence[tuple[Ints, Ints]]
) -> tuple[Opinions, ...]:
    """Those worth a share of any frame; none where a member leaves no episode out to judge them by.

    folds: (trained on, left out) of each member.
    """
    if not all(len(left_out) for _, left_out in folds):
        return ()
    judges = [_Judge.of(member, left_out, fitting) for member, (_, left_out) in zip(members, folds, strict=True)]
    found = []
    for opinions, unknowing in _candidates(fitting, members, folds):
        own = [_answer(opinion, judge.given) for opinion, judge in zip(unknowing, judges, strict=True)]
        worth = Opinions(tuple(opinions), _share(judges, own))
        if worth.share.any():
            found.append(worth)
            for judge, answer in zip(judges, own, strict=True):
                judge.said += worth.share[:, None] * (answer - judge.said)
    return tuple(found)


def _candidates(
    fitting: Fitting, members: Sequence[WorldModel], folds: Sequence[tuple[Ints, Ints]]
) -> list[tuple[Sequence[Opinion], Sequence[Opinion]]]:
    """Of each kind, the opinions that dreams are made of, and for each fold one that does not know what is left out."""
    found: list[tuple[Sequence[Opinion], Sequence[Opinion]]] = []
    packed, params, seed = fitting.packed, fitting.params, fitting.seed
    if params.points:
        left_out = [episodes for _, episodes in folds]
        every, state_dim = np.sort(np.concatenate(left_out)), fitting.shape.state_dim
        whole, *partial = fit_gaussian_processes(packed, every, left_out, state_dim, params.points, seed)
        found.append(([whole], partial))
    if params.transition_steps:
        networks = fit_networks(packed, folds, members, params.transition_steps, seed, fitting.device)
        found.append((networks, networks))
    return found


@dataclass
class _Judge:
    """Some windows that one member left out, and what was said of them so far."""

    given: Tensors
    said: Floats  # [B, K, F]

    @staticmethod
    def of(member: WorldModel, left_out: Ints, fitting: Fitting) -> "_Judge":
        unseen = fitting.windows_of(left_out)
        unseen = unseen.every(max(1, len(unseen) // JUDGED))
        given = to_device(unseen.take(np.arange(len(unseen))), fitting.device)
        return _Judge(given, _answer(member, given))


def _share(judges: Sequence[_Judge], own: Sequence[Floats]) -> Floats:
    """The least-squares share of each frame [K] that a further opinion has of what is said."""
    along, across = np.zeros(own[0].shape[1]), np.zeros(own[0].shape[1])
    for judge, answer in zip(judges, own, strict=True):
        logged, weight = judge.given.features.cpu().numpy(), judge.given.weight.cpu().numpy()
        apart = (answer - judge.said) * weight[..., None]
        along += (apart * (logged - judge.said)).sum(axis=(0, 2))
        across += np.square(apart).sum(axis=(0, 2))
    return np.clip(along / np.maximum(across, np.finfo(np.float32).tiny), 0, 1).astype(np.float32)


def _answer(opinion: WorldModel | Opinion, given: Tensors) -> Floats:
    if isinstance(opinion, GaussianProcess):
        return opinion.rollout(given.history[:, -1].cpu().numpy(), given.planned_actions.cpu().numpy())
    with torch.no_grad():
        features: Floats = opinion(given.history, given.past_actions, given.planned_actions).features.cpu().numpy()
    return features
