"""The simulator itself for a planner to plan in, as a model without error: what planning could get at best."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike

from worldmodel.bundle import Range
from worldmodel.client import Future
from worldmodel.control.simulator import Env, step
from worldmodel.control.state import State, restore, state_of
from worldmodel.core.typing import Doubles, Floats


@dataclass
class Oracle:
    """Answers as a WorldModel does; z is the number of the state that `encode` has kept, the latest alone.

    The environment is the one that is driven: it is back where it was once an answer is given. Of an environment with
    chances, the plans meet those that will come.
    """

    env: Env
    horizon: int
    feature_count: int
    action_count: int
    discrete: bool
    action_range: Range | None
    history: int = 1
    context_count: int = 0
    number: int = 0
    state: State = field(default=(), repr=False)

    def encode(self, features: ArrayLike, actions: ArrayLike | None = None, context: ArrayLike | None = None) -> Floats:
        """Whatever was seen: the environment's own state is kept."""
        self.state, self.number = state_of(self.env), self.number + 1
        return np.array([self.number], np.float32)

    def predict(self, z: ArrayLike, actions: ArrayLike | None = None, context: ArrayLike | None = None) -> Future:
        """Plans [B, K, A] played for real; one plan [K, A] gives one future. Frames after an end repeat it."""
        assert np.all(np.asarray(z) == self.number), "only of the latest state"
        plans = np.asarray(actions, np.float32)
        if plans.ndim == 2:
            return Future(*(part if part is None else part[0] for part in self.predict(z, plans[None])))  # type: ignore[arg-type]
        shape = plans.shape[:2]
        features, reward, ended = (
            np.empty((*shape, self.feature_count)),
            np.zeros(shape, np.float32),
            np.zeros(shape, np.float32),
        )
        for each, plan in enumerate(plans):
            self._play(plan, features[each], reward[each], ended[each])
        return Future(features, np.zeros(features.shape, np.float32), reward, None, ended)

    def _play(self, plan: Floats, features: Doubles, reward: Floats, ended: Floats) -> None:
        try:
            for k, action in enumerate(plan):
                frame = step(self.env, int(action.argmax()) if self.discrete else action)
                features[k:], reward[k] = frame.features, frame.reward
                if frame.ended:
                    ended[k:] = 1
                    break
        finally:
            restore(self.env, self.state)
