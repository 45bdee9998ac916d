"""Plans that no agent of a log would make, beside some that one would, executed in the simulator that made the log.

Dimension key: N starts, S samples, H history, K frames of a plan, F features, A actions (one-hot where discrete).
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from gymnasium.spaces import Box
from numpy.random import Generator
from numpy.typing import NDArray

from examples.collect_gymnasium import AGENTS, RESET, Action, Recording, behave, choose
from worldmodel.client import Future, WorldModel
from worldmodel.control.simulator import Actions, Env, applied, space_of, width
from worldmodel.core.typing import Doubles, Floats, Ints

START, PLAN = 3, 4  # what a random stream is for, beside those of the recording
SAMPLES, ROUNDS, ELITES = 64, 4, 8  # of the cross-entropy method
PATIENCE = 20  # episodes for each start
SWITCH = 0.2  # chance that a dimension of a bang-bang plan changes its side with a frame


class Executed(NamedTuple):
    """What the simulator made of K actions; frame k is what actions 0..k led to."""

    frames: Doubles  # [K, F]; after the task has ended, the last one again
    ended: NDArray[np.bool_]  # [K], with the frame or before it

    @property
    def valid(self) -> NDArray[np.bool_]:
        """[K], up to the frame that ended the task."""
        return ~np.concatenate([[False], self.ended[:-1]])


@dataclass(frozen=True)
class Start:
    """A frame that an agent of the logs reached in an episode which the logs do not hold."""

    episode: int  # of the recording, had it gone on
    reached: int  # frames before it
    frames: Doubles  # [T + 1, F], of the whole episode
    actions: Floats  # [T, A]

    @property
    def agent(self) -> int:
        return self.episode % len(AGENTS)

    def onwards(self, length: int) -> Floats:
        """What the agent did next, [K, A]."""
        return self.actions[self.reached : self.reached + length]


def histories(starts: Sequence[Start], length: int) -> tuple[Floats, Floats]:
    """Frames [N, H, F] up to the starts and the actions [N, H-1, A] between them."""
    frames = [each.frames[each.reached + 1 - length : each.reached + 1] for each in starts]
    actions = [each.actions[each.reached + 1 - length : each.reached] for each in starts]
    return np.stack(frames).astype(np.float32), np.stack(actions)


@dataclass(frozen=True)
class Simulator:
    """The environment of a recording, and its agents in the episodes that would have come next."""

    env: Env
    recording: Recording

    @property
    def space(self) -> Actions:
        return space_of(self.env)

    def starts(self, number: int, history: int, horizon: int) -> list[Start]:
        """The agents in turn, at random frames with a whole history before them and `horizon` actions after.

        Raises ValueError where episodes are too short for that.
        """
        found: list[Start] = []
        begin = self.recording.episodes
        for episode in range(begin, begin + PATIENCE * number):
            first, actions, executed = self.played(episode, self.recording.steps + horizon)
            alive = min(int(executed.valid.sum()), self.recording.steps)
            if alive > history:
                reached = int(self.recording.stream(START, episode).integers(history, alive))
                found.append(Start(episode, reached, np.concatenate([first[None], executed.frames]), actions))
            if len(found) == number:
                return found
        raise ValueError(
            f"{self.recording.env}: {len(found)} of {PATIENCE * number} episodes last more than {history} frames, "
            f"expected {number}; ask for fewer starts, or lower train.history"
        )

    def played(self, episode: int, steps: int) -> tuple[Doubles, Floats, Executed]:
        """First frame [F], actions [T, A] of the episode's agent and what they led to."""
        first, taken = self.reset(episode), list[Floats]()
        act = behave(self.recording, episode, width(self.space), len(first))

        def decide(frame: Doubles) -> Floats:
            taken.append(vector(self.space, choose(self.space, act(frame), self.recording.decimals)))
            return taken[-1]

        executed = self.go_on(first, decide, steps)
        return first, np.stack(taken), executed

    def execute(self, start: Start, plan: Floats) -> Executed:
        """The plan [K, A] for real; the simulator comes into the start's state on the way that the agent went."""
        script = iter(np.concatenate([start.actions[: start.reached], plan]))
        frames, ended = self.go_on(self.reset(start.episode), lambda _: next(script), start.reached + len(plan))
        return Executed(frames[start.reached :], ended[start.reached :])

    def reset(self, episode: int) -> Doubles:
        """As the recording does."""
        first: Doubles = self.env.reset(seed=int(self.recording.stream(RESET, episode).integers(2**31)))[0]
        return first

    def go_on(self, frame: Doubles, act: Callable[[Doubles], Floats], steps: int) -> Executed:
        frames, ended = list[Doubles](), [False]
        for _ in range(steps):
            action, over = act(frame), ended[-1]
            if not over:
                taken = action if isinstance(self.space, Box) else int(action.argmax())
                frame, _, over, *_ = self.env.step(applied(self.space, taken))
            frames.append(frame)
            ended.append(over)
        return Executed(np.stack(frames).astype(np.float64), np.array(ended[1:]))


def vector(space: Actions, action: Action) -> Floats:
    """As the model takes it, [A]."""
    return np.asarray(action, np.float32) if isinstance(action, list) else one_hot(space, np.asarray(action))


def acted(space: Actions, commands: Doubles) -> Floats:
    """Commands [..., A] of -1..1 as actions over the whole space."""
    if isinstance(space, Box):
        low, high = space.low.astype(np.float64), space.high.astype(np.float64)
        return (low + (commands + 1) / 2 * (high - low)).astype(np.float32)
    return one_hot(space, commands.argmax(axis=-1))


def one_hot(space: Actions, actions: Ints) -> Floats:
    """[...] -> [..., A]"""
    found: Floats = np.eye(width(space), dtype=np.float32)[actions]
    return found


def plans(
    simulator: Simulator, model: WorldModel, starts: Sequence[Start], horizon: int
) -> Iterator[tuple[str, Floats]]:
    """Kinds of plans, each with one for every start, [N, K, A].

    logged: what the start's own agent does next; other: what another agent does elsewhere; full: full throttle;
    switching: one extreme or the other; noise: anything; optimized: for the predicted reward; steered: for a high or
    low prediction of one feature at the end.
    """
    space, rng = simulator.space, simulator.recording.stream(PLAN, 0)
    number, shape = len(starts), (len(starts), horizon, width(space))
    yield "logged", np.stack([start.onwards(horizon) for start in starts])
    yield "other", np.stack([stranger(starts, at).onwards(horizon) for at in range(number)])
    commands = rng.uniform(-1, 1, (number, 1, shape[2]))
    extreme = np.sign(commands) if isinstance(space, Box) else commands
    yield "full", acted(space, np.broadcast_to(extreme, shape))
    sides = np.where(rng.random(shape) < SWITCH, -1, 1).cumprod(axis=1)
    yield "switching", acted(space, extreme * sides)
    yield "noise", acted(space, rng.uniform(-1, 1, shape))
    z = model.encode(*histories(starts, model.history))
    which, sign = rng.integers(model.feature_count, size=number), rng.choice([-1, 1], number)
    yield "optimized", optimized(model, z, space, shape, Future.returns, rng)
    yield "steered", optimized(model, z, space, shape, steering(which, sign), rng)


def stranger(starts: Sequence[Start], at: int) -> Start:
    """The next start that another agent has reached."""
    return next(each for each in [*starts[at + 1 :], *starts] if each.agent != starts[at].agent)


Score = Callable[[Future], Floats]  # of N x S plans


def steering(which: Ints, sign: Ints) -> Score:
    """How high, or low, each start's feature is at the end."""
    which, sign = which.repeat(SAMPLES), sign.repeat(SAMPLES)
    return lambda future: sign * future.features[np.arange(len(which)), -1, which]


def optimized(
    model: WorldModel, z: Floats, space: Actions, shape: tuple[int, int, int], score: Score, rng: Generator
) -> Floats:
    """The best plans [N, K, A] that the cross-entropy method finds in the model."""
    number, *plan = shape
    mean, spread = np.zeros(shape), np.ones(shape)
    for _ in range(ROUNDS):
        drawn = mean[:, None] + spread[:, None] * rng.standard_normal((number, SAMPLES, *plan))
        commands = np.clip(drawn, -1, 1)
        actions = acted(space, commands)
        scores = score(model.predict(z.repeat(SAMPLES, axis=0), actions.reshape(-1, *plan)))
        best = np.argsort(-scores.reshape(number, SAMPLES), axis=1)[:, :ELITES, None, None]
        elite = np.take_along_axis(commands, best, axis=1)
        mean, spread = elite.mean(axis=1), elite.std(axis=1)
    found: Floats = np.take_along_axis(actions, best[:, :1], axis=1)[:, 0]
    return found
