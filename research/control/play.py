"""Closed loops in the simulator: policies that need no model, and what any policy earns from given starts."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any, Protocol

import numpy as np

from examples.collect_gymnasium import AGENTS, KNOWN, Env, Recording, behave, choose
from worldmodel.control.floors import Hold, Random
from worldmodel.control.simulator import reset, space_of, step, width
from worldmodel.core.typing import Doubles

DRAWN = 8  # what a random stream is for, beside those of the recording and of the starts


class Policy(Protocol):
    def reset(self) -> None: ...
    def act(self, observation: Doubles) -> Any: ...


@dataclass(frozen=True)
class Played:
    returns: list[float]  # of each start
    frames: int  # of all of them
    seconds: float  # of the processor, for decisions


def play(env: Env, policy: Policy, starts: Sequence[int], steps: int) -> Played:
    """From each start, up to so many steps."""
    returns, frames, seconds = list[float](), 0, 0.0
    for start in starts:
        seen = reset(env, start)
        policy.reset()
        total = 0.0
        for _ in range(steps):
            begin = time.process_time()
            action = policy.act(seen)
            seconds += time.process_time() - begin
            frame = step(env, action)
            seen, total, frames = frame.features, total + frame.reward, frames + 1
            if frame.stopped:
                break
        returns.append(total)
    return Played(returns, frames, seconds)


@dataclass
class Reactive:
    """`draw` makes what it does in an episode, from the episode's number."""

    draw: Callable[[int], Callable[[Doubles], Any]]
    episode: int = -1

    def reset(self) -> None:
        self.episode += 1
        self.act = self.draw(self.episode)


def hold(env: Env) -> Reactive:
    return Reactive(lambda episode: Hold(space_of(env)).act)


def random(env: Env, seed: int) -> Reactive:
    return Reactive(lambda episode: Random(space_of(env), None, np.random.default_rng([seed, DRAWN, episode])).act)


def logged(env: Env, recording: Recording, agent: str) -> Reactive:
    """An agent of the recording, in the episodes that would have come next."""
    turns = len(recording.agents or AGENTS)
    first = next(each for each in count(recording.episodes) if KNOWN[recording.agent(each)].name == agent)
    space, shape = space_of(env), env.observation_space.shape
    assert shape is not None

    def drawn(episode: int) -> Callable[[Doubles], Any]:
        act = behave(recording, first + turns * episode, width(space), shape[0])
        return lambda observation: choose(space, act(observation), recording.decimals)

    return Reactive(drawn)
