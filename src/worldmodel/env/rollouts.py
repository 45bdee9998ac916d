"""Episodes in the model, several at once, each with chances of its own: numpy alone.

B episodes at once, F features, A actions, C context, Z latent.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypedDict

import numpy as np
from numpy.random import Generator
from numpy.typing import ArrayLike, NDArray

from worldmodel.client import WorldModel
from worldmodel.core.typing import Doubles, Floats, Reals
from worldmodel.env.starts import Begin, Starts

Reward = Callable[[Reals, Floats], ArrayLike]  # features [B, F] that actions [B, A] led to, raw units -> [B]
Flags = NDArray[np.bool_]


class Settings(TypedDict, total=False):
    """Of both environments; what is not given is as in brackets."""

    steps: int  # frames after which an episode is truncated [100]
    reward: Reward | None  # (features [B, F], actions [B, A]) -> [B], in place of the predicted one
    begin: Begin  # "anywhere" in a logged episode, or at its "beginning" [anywhere]
    caution: float  # what a frame pays for each unit of disagreement, in units of the reward [0]
    max_disagreement: float | None  # where an episode is truncated [1, or what is usual in the logs if that is more]
    noise: bool  # observations drawn from what is predicted, instead of its mean [False]
    low: ArrayLike | None  # of the actions, [A] or one number [the logs' range]
    high: ArrayLike | None


@dataclass(frozen=True)
class Rules:
    """What an episode earns and when it ends."""

    steps: int  # frames after which it is truncated
    reward: Reward | None  # None: what the model predicts
    caution: float  # paid for each unit of disagreement
    max_disagreement: float  # beyond it an episode is truncated
    noise: bool  # whether observations are drawn from what is predicted, instead of its mean


class Outcome(NamedTuple):
    """Of one step of all episodes, [B] each."""

    observation: Reals  # [B, F]
    reward: Doubles
    terminated: Flags
    truncated: Flags
    disagreement: Floats | None


class Rollouts:
    """B episodes in the model. An episode that has ended goes on until another one is begun in its place."""

    def __init__(
        self, model: WorldModel, starts: Starts, rules: Rules, bounds: tuple[Reals, Reals], count: int
    ) -> None:
        self.model, self.starts, self.rules = model, starts, rules
        self.low, self.high = bounds  # of the observation, [F]
        self.z = np.zeros((count, model.z_dim), np.float32)
        self.frame = np.zeros(count, np.int64)  # steps since the start
        self.last = np.full(count, rules.steps)  # step with which it is truncated
        self.alive, self.chance = np.ones(count), np.zeros(count)
        self.context = np.zeros((count, rules.steps, model.context_count), np.float32)

    def begin(self, which: Sequence[int], generators: Sequence[Generator]) -> Reals:
        """Begin episodes in the place of `which`; their first observations [len(which), F]."""
        chosen = [self.starts.draw(generators[index]) for index in which]
        self.z[which], features = self.starts.encode(chosen)
        self.frame[which], self.alive[which], self.last[which] = 0, 1.0, self.rules.steps
        self.chance[which] = [generators[index].random() for index in which]
        for index, start in zip(which, chosen, strict=True):
            known = self.starts.context(start, self.rules.steps)
            if known is not None:
                self.last[index] = len(known)
                self.context[index, : len(known)] = known
        return features.astype(self.low.dtype)

    def step(self, actions: Floats, generators: Sequence[Generator]) -> Outcome:
        """All episodes one frame on, by actions [B, A].

        The model's endings are drawn: an episode ends as soon as the probability that it has not ended yet falls to a
        number that was drawn for it when it began.
        """
        now = np.minimum(self.frame, self.rules.steps - 1)
        context = self.context[np.arange(len(now)), now] if self.model.context_count else None
        self.z, found = self.model.step(self.z, actions, context)
        self.frame += 1
        if found.termination is not None:
            self.alive *= 1.0 - found.termination
        seen = self._noisy(found.features, found.std, generators) if self.rules.noise else found.features
        observation = np.clip(seen, self.low, self.high).astype(self.low.dtype)
        truncated = (self.frame >= self.last) | (found.features < self.low).any(1) | (found.features > self.high).any(1)
        reward = self._earned(found.features, actions, found.reward)
        if found.disagreement is not None:
            truncated |= found.disagreement > self.rules.max_disagreement
            reward = reward - self.rules.caution * found.disagreement
        return Outcome(observation, reward, self.alive < self.chance, truncated, found.disagreement)

    def _earned(self, features: Reals, actions: Floats, predicted: Floats | None) -> Doubles:
        if self.rules.reward is None:
            if predicted is None:
                raise ValueError("the bundle predicts no reward, its logs held none; give reward=, a function of yours")
            return predicted.astype(np.float64)
        reward = np.asarray(self.rules.reward(features, actions), np.float64)
        if reward.shape != features.shape[:1]:
            raise ValueError(f"reward returned {list(reward.shape)}, expected [{len(features)}], one for each episode")
        return reward

    def _noisy(self, mean: Reals, std: Floats, generators: Iterable[Generator]) -> Reals:
        """Drawn from the predicted distribution, each episode by its own generator."""
        degrees, size = self.model.degrees_of_freedom, mean.shape[1]
        if np.isinf(degrees):
            drawn = np.stack([rng.standard_normal(size) for rng in generators])
        else:  # a Student's t of so many degrees has a variance above 1
            drawn = np.stack([rng.standard_t(degrees, size) for rng in generators]) * np.sqrt((degrees - 2) / degrees)
        return np.asarray(mean + std * drawn)
