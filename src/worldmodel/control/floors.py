"""What one would use without a planner, frame by frame: anything, nothing, or what the agents of the logs would do."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from gymnasium.spaces import Discrete

from worldmodel.bundle import Range
from worldmodel.client import WorldModel
from worldmodel.control.simulator import Actions, width
from worldmodel.core.typing import Doubles, Floats, Reals


class Policy(Protocol):
    def act(self, observation: Doubles) -> Any:
        """The action, as it is logged, at a frame [F]."""


@dataclass(frozen=True)
class Random:
    """Uniform over the actions that the environment takes; where it sets no bounds, over those of the logs."""

    space: Actions
    logged: Range | None
    rng: np.random.Generator

    def act(self, observation: Doubles) -> Any:
        if isinstance(self.space, Discrete):
            return int(self.rng.integers(self.space.n))
        low, high = self.logged or (-np.ones(width(self.space)), np.ones(width(self.space)))
        bounds = [
            np.where(np.isfinite(own), own, of_logs)
            for own, of_logs in ((self.space.low, low), (self.space.high, high))
        ]
        return self.rng.uniform(*bounds).astype(np.float32)


@dataclass(frozen=True)
class Hold:
    """An action of zeros; the first one where actions are discrete."""

    space: Actions

    def act(self, observation: Doubles) -> Any:
        return 0 if isinstance(self.space, Discrete) else np.zeros(width(self.space), np.float32)


@dataclass
class Reactive:
    """What a function decides on by z [Z] alone: an action [A], one-hot where actions are discrete."""

    model: WorldModel
    decide: Callable[[Floats], Floats]
    frames: list[Reals] = field(default_factory=list)
    taken: list[Floats] = field(default_factory=list)

    def act(self, observation: Reals) -> Any:
        self.frames = [*self.frames, observation][-self.model.history :]
        past = self.taken[len(self.taken) + 1 - len(self.frames) :]
        found = self.decide(self.model.encode(np.stack(self.frames), np.stack(past) if past else None))
        self.taken = [*self.taken, found][-self.model.history :]
        return int(found.argmax()) if self.model.discrete else found
