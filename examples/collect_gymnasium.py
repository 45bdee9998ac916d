"""Record any Gymnasium environment as a frame log: eight agents of different habits, one JSON object a line.

    python examples/collect_gymnasium.py Walker2d-v5 --episodes 96 --out my-logs/walker.jsonl.gz
    python examples/collect_gymnasium.py Walker2d-v5 --episodes 96 --agents anything --out my-logs/walker.jsonl.gz

Frame t holds features[t], the action[t] applied there and the reward which that action earned; features[t+1] is what it
led to. The observation after an episode's last action is not logged.
"""

import argparse
import contextlib
import gzip
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import count, repeat
from pathlib import Path
from typing import Any

import numpy as np
from numpy.random import Generator, default_rng
from numpy.typing import NDArray
from tqdm import tqdm

from worldmodel.core.atomic import replacing

try:
    import gymnasium

    from worldmodel.control import simulator
    from worldmodel.control.simulator import Actions, applied, width
except ModuleNotFoundError as missing:
    raise SystemExit(f"{missing.name} is not installed: pip install -r requirements-dev.txt") from missing

EPOCH = 1_700_000_000.0  # first timestamp of every recording, s
TRAITS, CHANCES, RESET = 0, 1, 2  # what a random stream is for: an agent's traits, an episode's chances and start

Env = simulator.Env
Vector = NDArray[np.float64]
Action = int | list[float]  # as logged
Habit = Callable[[Generator, Generator, int], Iterator[Vector]]  # traits, chances, size -> commands [size], about -1..1


class CannotRecord(ValueError):
    """The request or the environment is one that a frame log cannot hold; the message says what was found."""


@dataclass(frozen=True)
class Agent:
    name: str
    habit: Habit  # what the agent does blindly
    feedback: float = 0.0  # weight of the agent's reaction to what it observes


@dataclass(frozen=True)
class Recording:
    env: str
    episodes: int
    steps: int  # most frames an episode
    seed: int
    decimals: int  # of features, actions and rewards
    env_kwargs: dict[str, Any]
    agents: tuple[str, ...] = ()  # their names, in turn; none: the eight

    def agent(self, episode: int) -> int:
        """The episode's, by its place in KNOWN."""
        names = self.agents or tuple(each.name for each in AGENTS)
        return [each.name for each in KNOWN].index(names[episode % len(names)])

    def name(self, episode: int) -> str:
        """Of the episode, whose number is its agent's own."""
        turns = len(self.agents or AGENTS)
        return f"{KNOWN[self.agent(episode)].name}-{self.seed}-{episode // turns:04d}"

    def stream(self, purpose: int, index: int) -> Generator:
        return default_rng([self.seed, purpose, index])


def uniform(traits: Generator, chances: Generator, size: int) -> Iterator[Vector]:
    """Noise without memory."""
    amplitude = chances.uniform(0.7, 1.0)
    while True:
        yield chances.uniform(-amplitude, amplitude, size)


def anything(traits: Generator, chances: Generator, size: int) -> Iterator[Vector]:
    """Noise without memory over all that can be done."""
    while True:
        yield chances.uniform(-1, 1, size)


def smooth(traits: Generator, chances: Generator, size: int) -> Iterator[Vector]:
    """Ornstein-Uhlenbeck noise around a centre of the episode's own."""
    pull, spread = traits.uniform(0.08, 0.12), chances.uniform(0.4, 0.7)
    command = centre = chances.normal(0, 0.2, size)
    while True:
        command = command + pull * (centre - command) + spread * np.sqrt(2 * pull) * chances.normal(size=size)
        yield command


def held(traits: Generator, chances: Generator, size: int) -> Iterator[Vector]:
    """A random command kept for several frames, then another."""
    longest = int(traits.integers(14, 19))
    while True:
        yield from repeat(chances.uniform(-1, 1, size), int(chances.integers(5, longest)))


def weak(traits: Generator, chances: Generator, size: int) -> Iterator[Vector]:
    """A little noise around a fixed posture close to rest."""
    posture = traits.uniform(-0.15, 0.15, size)
    amplitude = chances.uniform(0.1, 0.3)
    while True:
        yield posture + amplitude * chances.normal(size=size)


def bursts(traits: Generator, chances: Generator, size: int) -> Iterator[Vector]:
    """Full throttle one way or the other for a while, then rest."""
    stroke = int(traits.integers(3, 6))
    while True:
        for _ in range(chances.integers(2, 6)):
            yield from repeat(np.sign(chances.uniform(-1, 1, size)), stroke)
        yield from repeat(np.zeros(size), int(chances.integers(8, 25)))


def gait(period: float, lag: float) -> Habit:
    """A sine on every dimension. period in frames a cycle; lag in cycles between one dimension and the next."""

    def habit(traits: Generator, chances: Generator, size: int) -> Iterator[Vector]:
        phases = lag * np.arange(size) + traits.uniform(-0.05, 0.05, size) + chances.uniform()
        pace, amplitude = chances.normal(1, 0.08) / period, chances.uniform(0.5, 0.9)
        for frame in count():
            yield amplitude * np.sin(2 * np.pi * (pace * frame + phases)) + chances.normal(0, 0.1, size)

    return habit


AGENTS = (
    Agent("uniform", uniform),
    Agent("smooth", smooth),
    Agent("held", held),
    Agent("weak", weak),
    Agent("bursts", bursts),
    Agent("slow-gait", gait(period=18, lag=1 / 3)),
    Agent("fast-gait", gait(period=5, lag=-1 / 3)),
    Agent("reactive", gait(period=9, lag=1 / 3), feedback=0.7),
)
KNOWN = (*AGENTS, Agent("anything", anything))


def behave(recording: Recording, episode: int, actions: int, features: int) -> Callable[[Vector], Vector]:
    """An episode's agent, as observation -> command: its habit plus proportional feedback."""
    number = recording.agent(episode)
    traits, agent = recording.stream(TRAITS, number), KNOWN[number]
    gain = agent.feedback * traits.normal(size=(actions, features)) / np.sqrt(features)
    habit = agent.habit(traits, recording.stream(CHANCES, episode), actions)
    return lambda observation: next(habit) + gain @ np.tanh(observation)


def choose(space: Actions, command: Vector, decimals: int) -> Action:
    """The action to log. Box: -1..1 spans the bounds (2 where one is infinite). Discrete: the largest entry, from 0."""
    if isinstance(space, gymnasium.spaces.Discrete):
        return int(np.argmax(command))
    low = np.where(np.isfinite(space.low), space.low, np.where(np.isfinite(space.high), space.high - 2.0, -1.0))
    high = np.where(np.isfinite(space.high), space.high, low + 2.0)
    action = low + (np.clip(command, -1, 1) + 1) / 2 * (high - low)
    return [float(value) + 0.0 for value in np.clip(action.round(decimals), low, high)]  # + 0.0 turns -0.0 into 0.0


def make(recording: Recording) -> Env:
    try:
        return simulator.make(recording.env, **recording.env_kwargs)
    except ValueError as error:
        raise CannotRecord(str(error)) from error


def finite(values: Any, what: str) -> Vector:
    vector = np.asarray(values, np.float64)
    if not np.isfinite(vector).all():
        raise CannotRecord(f"expected finite {what}, found {vector.tolist()}")
    return vector


def play(env: Env, recording: Recording, episode: int, clock: Iterator[float]) -> Iterator[dict[str, Any]]:
    """One episode's frames."""
    space, agent, decimals = simulator.space_of(env), KNOWN[recording.agent(episode)].name, recording.decimals
    meta = {"env": recording.env, "episode": recording.name(episode)}
    seen, _ = env.reset(seed=int(recording.stream(RESET, episode).integers(2**31)))
    act = behave(recording, episode, width(space), len(seen))
    for step in range(1, recording.steps + 1):
        features = finite(seen, f"features in {meta['episode']}")
        action = choose(space, act(features), decimals)
        seen, reward, terminated, truncated, _ = env.step(applied(space, action))
        yield {
            "agent_id": agent,
            "timestamp": next(clock),
            "features": (features.round(decimals) + 0.0).tolist(),
            "action": action,
            "reward": round(float(finite(reward, f"reward in {meta['episode']}")), decimals) + 0.0,
            "meta": meta | ({end: True} if (end := _end(terminated, truncated or step == recording.steps)) else {}),
        }
        if terminated or truncated:
            return


def _end(terminated: bool, stopped: bool) -> str:
    """Whether the task ended with the frame, or only the recording."""
    return "terminal" if terminated else "truncated" if stopped else ""


def record(env: Env, recording: Recording) -> Iterator[str]:
    """All episodes line by line, on one clock, so that no two overlap."""
    dt = float(getattr(env.unwrapped, "dt", 1.0))
    clock = (round(EPOCH + frame * dt, 6) for frame in count())
    for episode in tqdm(range(recording.episodes), unit="episode", desc=recording.env, disable=None):
        for frame in play(env, recording, episode, clock):
            yield json.dumps(frame, separators=(",", ":")) + "\n"


def write(lines: Iterable[str], path: Path) -> None:
    """gzip holds no time and no name, so that bytes are stable."""
    with replacing(path) as partial, partial.open("wb") as raw:
        packed = gzip.GzipFile("", "wb", 9, raw, mtime=0) if path.suffix == ".gz" else contextlib.nullcontext(raw)
        with packed as file:
            file.writelines(line.encode() for line in lines)


def json_object(text: str) -> dict[str, Any]:
    with contextlib.suppress(json.JSONDecodeError):
        if isinstance(value := json.loads(text), dict):
            return value
    raise argparse.ArgumentTypeError(f"expected a JSON object, found {text}")


def names(text: str) -> tuple[str, ...]:
    found, known = tuple(text.split(",")), [each.name for each in KNOWN]
    if set(found) <= set(known) and len(set(found)) == len(found):
        return found
    raise argparse.ArgumentTypeError(f"expected some of {', '.join(known)} with commas between them, found {text}")


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Record any Gymnasium environment as a frame log.")
    parser.add_argument("env", metavar="ENV", help="id of the environment, e.g. HalfCheetah-v5")
    parser.add_argument("--episodes", type=int, required=True, metavar="N", help="episodes in all, the agents in turn")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="FILE.jsonl or FILE.jsonl.gz")
    parser.add_argument("--steps", type=int, default=200, help="most frames an episode (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="default: %(default)s")
    parser.add_argument("--decimals", type=int, default=4, choices=range(16), metavar="0..15", help="default: 4")
    parser.add_argument("--env-kwargs", type=json_object, default={}, metavar="JSON", help="passed to the environment")
    parser.add_argument("--agents", type=names, default=(), metavar="NAME,...", help="default: eight of all habits")
    asked = vars(parser.parse_args(argv))
    for name, least in {"episodes": 1, "steps": 1, "seed": 0}.items():
        if asked[name] < least:
            parser.error(f"--{name} must be at least {least}, found {asked[name]}")
    out, recording = asked.pop("out"), Recording(**asked)
    try:
        with contextlib.closing(make(recording)) as env:
            write(record(env, recording), out)
    except CannotRecord as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
