"""Closed loop: an episode of a policy in the simulator, frame by frame."""

from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np

from worldmodel.client import Future, WorldModel
from worldmodel.control.cloning import Cloned
from worldmodel.control.floors import Hold, Policy, Random, Reactive
from worldmodel.control.oracle import Oracle
from worldmodel.control.simulator import Env, make, reset, space_of, step
from worldmodel.core.typing import Doubles
from worldmodel.planner import Planner

PLANNER, POLICY, ORACLE = "planner", "policy alone", "oracle"
RANDOM, HOLD, CLONED = "random", "hold", "behaviour cloning"


class Played(NamedTuple):
    """T frames; fewer than asked for where the task has ended."""

    features: Doubles  # [T + 1, F]
    actions: list[Any]  # [T]
    rewards: Doubles  # [T]
    decided_s: Doubles  # [T], what each decision took
    expected: list[Future]  # [T] of K frames each, what a planner expects of its plan, where it is traced

    @property
    def returned(self) -> float:
        return float(self.rewards.sum())


@dataclass(frozen=True)
class Case:
    """All that an episode depends on, but its row and start."""

    model: WorldModel
    env: str
    env_kwargs: Mapping[str, Any]
    steps: int
    planner: Mapping[str, Any]  # settings that are not its defaults
    seed: int
    cloned: Cloned | None = None

    def made(self, **settings: Any) -> Env:
        return make(self.env, max_episode_steps=self.steps, **self.env_kwargs, **settings)

    def planning_in(self, dynamics: Any) -> Planner:
        """The same planner in the model or in the simulator, which is too slow for a budget of time."""
        left_out = () if dynamics is self.model else ("budget_ms",)
        settings = {name: value for name, value in self.planner.items() if name not in left_out}
        return Planner(dynamics, **settings, seed=self.seed)


def play(case: Case, row: str, seed: int, traced: bool = False) -> Played:
    """An episode of a row's policy from the start of that seed: the same bits again, but for the clock."""
    with closing(case.made()) as env:
        features, taken, rewards, decided = [reset(env, seed)], list[Any](), list[float](), list[float]()
        policy, expected = POLICIES[row](case, env, seed), list[Future]()
        for _ in range(case.steps):
            begin = perf_counter()
            action = policy.act(features[-1])
            decided.append(perf_counter() - begin)
            if traced and isinstance(policy, Planner) and policy.plan:
                expected.append(policy.plan.future)
            frame = step(env, action)
            features.append(frame.features)
            taken.append(action)
            rewards.append(frame.reward)
            if frame.stopped:
                break
    return Played(np.stack(features), taken, np.array(rewards), np.array(decided), expected)


def _oracle(case: Case, env: Env, seed: int) -> Policy:
    model = case.model
    told = model.horizon, model.feature_count, model.action_count, model.discrete, model.action_range
    return case.planning_in(Oracle(env, *told))


def _cloned(case: Case, env: Env, seed: int) -> Policy:
    assert case.cloned, "a row that is played only where the logs were cloned"
    return Reactive(case.model, case.cloned)


POLICIES: Mapping[str, Callable[[Case, Env, int], Policy]] = {
    PLANNER: lambda case, env, seed: case.planning_in(case.model),
    ORACLE: _oracle,
    RANDOM: lambda case, env, seed: Random(
        space_of(env), case.model.action_range, np.random.default_rng([case.seed, seed])
    ),
    HOLD: lambda case, env, seed: Hold(space_of(env)),
    POLICY: lambda case, env, seed: Reactive(case.model, case.model.prior),
    CLONED: _cloned,
}
