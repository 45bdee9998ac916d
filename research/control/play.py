"""Closed loops in the simulator: policies that need no model, and what any policy earns from given starts."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any, Protocol

import numpy as np
from gymnasium.spaces import Box

from examples.collect_gymnasium import AGENTS, KNOWN, Actions, Env, Recording, applied, behave, choose
from research.plans import width
from worldmodel.core.typing import Reals

DRAWN = 8  # what a random stream is for, beside those of the recording and of the starts


class Policy(Protocol):
    def reset(self) -> None: ...
    def act(self, observation: Reals) -> Any: ...


@dataclass(frozen=True)
class Played:
    returns: list[float]  # of each start
    frames: int  # of all of them
    seconds: float  # of the processor, for decisions


def play(env: Env, policy: Policy, starts: Sequence[int], steps: int) -> Played:
    """From each start, up to so many steps."""
    returns, frames, seconds = list[float](), 0, 0.0
    for start in starts:
        seen, _ = env.reset(seed=start)
        policy.reset()
        total = 0.0
        for _ in range(steps):
            begin = time.process_time()
            action = policy.act(seen)
            seconds += time.process_time() - begin
            seen, reward, terminated, truncated, _ = env.step(applied(_space(env), action))
            total, frames = total + float(reward), frames + 1
            if terminated or truncated:
                break
        returns.append(total)
    return Played(returns, frames, seconds)


@dataclass
class Reactive:
    """`draw` makes what it does in an episode, from the episode's number."""

    draw: Callable[[int], Callable[[Reals], Any]]
    episode: int = -1

    def reset(self) -> None:
        self.episode += 1
        self.act = self.draw(self.episode)


def hold(env: Env) -> Reactive:
    """The middle of what can be done, or action 0, all the time."""
    space = _space(env)
    middle: Any = 0
    if isinstance(space, Box):
        middle = (space.low.astype(np.float64) + space.high) / 2
    return Reactive(lambda episode: lambda seen: middle)


def random(env: Env, seed: int) -> Reactive:
    """Uniform over all that can be done."""
    space = _space(env)

    def draw(episode: int) -> Callable[[Reals], Any]:
        rng = np.random.default_rng([seed, DRAWN, episode])
        if isinstance(space, Box):
            return lambda seen: rng.uniform(space.low, space.high)
        return lambda seen: int(rng.integers(space.n))

    return Reactive(draw)


def logged(env: Env, recording: Recording, agent: str) -> Reactive:
    """An agent of the recording, in the episodes that would have come next."""
    turns = len(recording.agents or AGENTS)
    first = next(each for each in count(recording.episodes) if KNOWN[recording.agent(each)].name == agent)
    space, shape = _space(env), env.observation_space.shape
    assert shape is not None

    def drawn(episode: int) -> Callable[[Reals], Any]:
        act = behave(recording, first + turns * episode, width(space), shape[0])
        return lambda observation: choose(space, act(observation.astype(np.float64)), recording.decimals)

    return Reactive(drawn)


def _space(env: Env) -> Actions:
    space: Actions = env.action_space  # type: ignore[assignment]
    return space
