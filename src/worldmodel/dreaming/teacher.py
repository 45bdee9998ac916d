"""The teacher behind dreams: independent world models, each fitted on its own share of the observed train episodes."""

from dataclasses import dataclass
from typing import Never

import numpy as np
import torch
from tqdm import tqdm

from worldmodel.config.params import Teacher as TeacherParams
from worldmodel.data.mixing import Mixture
from worldmodel.data.windows import Batch, Ints, Packed, windows
from worldmodel.learning import learner
from worldmodel.learning.model import Floats, Shape, WorldModel

SELECTIONS = 10  # how often a member is compared on the episodes that it does not train on


@dataclass(frozen=True)
class Rollout:
    features: Floats  # [B, K, F], mean over the members
    rewards: Floats | None  # [B, K], mean over the members
    disagreement: Floats  # [B, K], largest so far along the rollout: std over the members, root mean square of features


@dataclass(frozen=True)
class Teacher:
    members: tuple[WorldModel, ...]
    device: torch.device

    def rollout(self, batch: Batch) -> Rollout:
        """Open loop from the batch's history along its planned actions; standardized units."""
        given = learner.to_device(batch, self.device)
        with torch.no_grad():
            answers = [member(given.history, given.past_actions, given.planned_actions) for member in self.members]
        features = torch.stack([answer.features for answer in answers]).cpu().numpy()
        rewards = [answer.rewards.cpu().numpy() for answer in answers if answer.rewards is not None]
        spread = np.sqrt(features.var(axis=0, ddof=1).mean(axis=-1))
        return Rollout(
            features=features.mean(axis=0),
            rewards=np.stack(rewards).mean(axis=0) if rewards else None,
            disagreement=np.maximum.accumulate(spread, axis=1),
        )


def fit_teacher(
    packed: Packed, episodes: Ints, shape: Shape, params: TeacherParams, seed: int, device: torch.device
) -> Teacher:
    """Members differ in seed, in order of windows and in the episodes that they are selected on instead of trained on.

    Raises ValueError where no episode is longer than the history.
    """
    long_enough = episodes[packed.lengths[episodes] > shape.history]
    if not len(long_enough):
        raise ValueError(
            f"a dream needs a train episode of more than train.history = {shape.history} frames, "
            f"the longest of {len(episodes)} has {packed.lengths[episodes].max(initial=0)}"
        )
    shuffled = np.random.default_rng([seed, len(long_enough)]).permutation(long_enough)
    with tqdm(total=params.members * params.steps, desc="teacher", unit="step", mininterval=1.0) as progress:
        members = [
            _fit_member(
                packed, *_fold(shuffled, number, params.members), shape, params, (seed, number), device, progress
            )
            for number in range(params.members)
        ]
    return Teacher(tuple(members), device)


def _fold(episodes: Ints, number: int, members: int) -> tuple[Ints, Ints]:
    """(trained on, selected on); all and none where there are fewer episodes than members."""
    if len(episodes) < members:
        return np.sort(episodes), episodes[:0]
    held_out = np.arange(len(episodes)) % members == number
    return np.sort(episodes[~held_out]), np.sort(episodes[held_out])


def _fit_member(
    packed: Packed,
    trained: Ints,
    held_out: Ints,
    shape: Shape,
    params: TeacherParams,
    seed: tuple[int, int],
    device: torch.device,
    progress: "tqdm[Never]",
) -> WorldModel:
    draws, weights, silenced = np.random.SeedSequence(seed).generate_state(3)
    model = learner.new_model(shape, packed, trained, int(weights), device, params.dropout)
    optimizer = learner.new_optimizer(model)
    observed = windows(packed, trained, shape.history, shape.horizon)
    none = windows(packed, trained[:0], shape.history, shape.horizon)
    mixture = Mixture(observed, none, params.batch_size, np.zeros(params.steps), int(draws), confidence=False)
    unseen = learner.thinned(windows(packed, held_out, shape.history, shape.horizon))
    best = learner.Selected.at(model, unseen, 0, device)
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(int(silenced))  # of dropout
        for t in range(params.steps):
            batch = learner.to_device(mixture.batch(t), device)
            learner.update(model, optimizer, batch, learner.learning_rate(t, params.steps, params.lr))
            if (t + 1) % max(1, params.steps // SELECTIONS) == 0 or t + 1 == params.steps:
                best = best.or_better(learner.Selected.at(model, unseen, t + 1, device))
            progress.update()
    model.load_state_dict(best.weights)
    return model.eval()
