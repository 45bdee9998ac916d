"""Floors that a model must beat, and the ridge that it starts from. Standardized units; float64 inside."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from worldmodel.arrays.moments import moments
from worldmodel.arrays.windows import Packed
from worldmodel.core.typing import Doubles, Floats
from worldmodel.model.world_model import FARTHEST, LinearStart

RIDGE_PENALTY = 1e-3  # of the number of transitions, on inputs of about unit variance
STOP_FRAMES = 10  # at the least or greatest value, for that to be a stop
STOP_RATIO = 2  # and more than so many times as many as at the value next to it
PRODUCT_ROWS = 1 << 18  # frames multiplied at once


@dataclass(frozen=True)
class Ridge:
    """change = weight @ [state, action] + bias"""

    weight: Doubles  # [F, F + A]
    bias: Doubles  # [F]

    def rollout(self, last: Floats, actions: Floats) -> Floats:
        """last frame [B, F], planned actions [B, K, A] -> open-loop prediction [B, K, F], bounded as the model's is"""
        state, frames = last.astype(np.float64), []
        for action in np.moveaxis(actions, 1, 0):
            moved = state + np.concatenate([state, action], axis=1) @ self.weight.T + self.bias
            state = np.clip(moved, -FARTHEST, FARTHEST)
            frames.append(state)
        return np.stack(frames, axis=1).astype(np.float32)


def persistence(last: Floats, horizon: int) -> Floats:
    """Hold the last frame [B, F] -> [B, K, F]"""
    return np.repeat(last[:, None], horizon, axis=1)


def fit_ridge(features: Iterable[Floats], actions: Iterable[Floats]) -> Ridge:
    """Least squares with a small penalty, on (features, action) -> change, over episodes [T, F] and [T, A]."""
    return _ridge(_transitions(features, actions))


def _ridge(transitions: Iterable[tuple[Doubles, Doubles]]) -> Ridge:
    """Of inputs [T, D] -> change [T, F]."""
    gram, cross, count = _moments(transitions)
    penalty = np.full(len(gram), RIDGE_PENALTY * max(count, 1))
    penalty[-1] = 1e-9  # the bias is free
    solution = np.linalg.solve(gram + np.diag(penalty), cross).T.astype(np.float64)
    return Ridge(solution[:, :-1], solution[:, -1])


def train_ridge(packed: Packed) -> Ridge:
    """Ridge of the observed train episodes."""
    episodes = packed.where("train")
    return fit_ridge(packed.each(packed.features, episodes), packed.each(packed.actions, episodes))


def linear_starts(
    features: Iterable[Floats], actions: Iterable[Floats], state_dim: int, motions: Sequence[bool] = (False,)
) -> list[LinearStart]:
    """Ridges in the coordinates of z's state part, fitted on episodes [T, F] and [T, A], gone over several times.

    motions: for each ridge, whether the last change, in units of its usual size, is among its inputs, between state and
    action.
    """
    projection = _projection(features, state_dim)

    def states() -> Iterator[Floats]:
        return ((episode @ projection.T).astype(np.float32) for episode in features)

    state, change = moments(states), moments(lambda: (np.diff(each.astype(np.float64), axis=0) for each in states()))
    assert state is not None
    spread = np.zeros(state_dim) if change is None else change.std
    beyond = np.where(state.low < state.high, 0, FARTHEST)  # a constant has no range to leave
    lower_stop, upper_stop = stops(states(), state_dim)
    ridges = [_ridge(_transitions(states(), actions, spread if motion else None)) for motion in motions]
    return [
        LinearStart(
            projection=projection,
            weight=ridge.weight.astype(np.float32),
            bias=ridge.bias.astype(np.float32),
            change_std=spread.astype(np.float32),
            lower_stop=lower_stop,
            upper_stop=upper_stop,
            lowest=(state.low - beyond).astype(np.float32),
            highest=(state.high + beyond).astype(np.float32),
        )
        for ridge in ridges
    ]


def stops(episodes: Iterable[Floats], width: int) -> tuple[Floats, Floats]:
    """Least and greatest value [F] where readings [T, F] of that width run up against it, else -FARTHEST and FARTHEST.

    A sensor saturates, a speed is limited, a queue is empty: the frames at the last value are then many, where those of
    a tail are few.
    """
    nothing = _Edge(np.empty((0, width), np.float32), np.empty((0, width), np.int64))
    lower, upper = nothing, nothing
    for readings in episodes:
        lower, upper = lower.with_frames(-readings), upper.with_frames(readings)
    return -lower.stop(), upper.stop()


@dataclass(frozen=True)
class _Edge:
    """The greatest value of each feature and the one next to it, and how many frames are at each; [2, F]."""

    values: Floats
    frames: NDArray[np.int64]

    def with_frames(self, readings: Floats) -> "_Edge":
        values = np.concatenate([self.values, readings])
        frames = np.concatenate([self.frames, np.ones(readings.shape, np.int64)])
        greatest = values.max(axis=0)
        ends = np.stack([greatest, np.where(values < greatest, values, -np.inf).max(axis=0)])
        return _Edge(ends, np.stack([np.where(values == end, frames, 0).sum(axis=0) for end in ends]))

    def stop(self) -> Floats:
        """[F], FARTHEST where the frames at the greatest value are few, or all."""
        at, below = self.frames
        runs_up = (at >= STOP_FRAMES) & (at > STOP_RATIO * below) & (below > 0)
        return np.where(runs_up, self.values[0], FARTHEST).astype(np.float32)


def _transitions(
    features: Iterable[Floats], actions: Iterable[Floats], spread: Doubles | None = None
) -> Iterator[tuple[Doubles, Doubles]]:
    """Inputs (state, last change in units of its spread where one is given, action) and change of each episode."""
    for states, moves in zip(features, actions, strict=True):
        change = np.diff(states.astype(np.float64), axis=0)
        if spread is None:
            yield np.concatenate([states[:-1], moves[:-1]], axis=1, dtype=np.float64), change
        else:
            last = np.divide(change[:-1], spread, out=np.zeros_like(change[:-1]), where=spread > 0)
            yield np.concatenate([states[1:-1], last, moves[1:-1]], axis=1, dtype=np.float64), change[1:]


def _moments(transitions: Iterable[tuple[Doubles, Doubles]]) -> tuple[Doubles, Doubles, int]:
    gram: Doubles = np.zeros(1)
    cross: Doubles = np.zeros(1)
    count = 0
    for given, change in transitions:
        inputs = np.concatenate([given, np.ones((len(given), 1))], axis=1)
        gram, cross, count = gram + inputs.T @ inputs, cross + inputs.T @ change, count + len(inputs)
    return gram, cross, count


def _projection(episodes: Iterable[Floats], state_dim: int) -> Floats:
    """Principal directions [S, F] of all frames where S < F, else the identity.

    A direction in which nothing varies is 0: what trains its place in z can then never move a constant feature.
    """
    width = next(iter(episodes)).shape[1]
    if state_dim == width:
        return np.eye(width, dtype=np.float32)
    spread, directions = np.linalg.eigh(_mean_square(episodes))
    varies = spread > width * np.finfo(np.float32).eps ** 2 * spread[-1]
    leading = (directions * varies)[:, ::-1][:, :state_dim].T
    signs = np.sign(leading[np.arange(state_dim), np.abs(leading).argmax(axis=1)])
    projection: Floats = (leading * signs[:, None]).astype(np.float32)
    return projection


def _mean_square(episodes: Iterable[Floats]) -> Doubles:
    """Of each feature with each other one over all frames, [F, F]."""
    total: Doubles = np.zeros(1)
    count = 0
    for block in _joined(episodes):
        wide = block.astype(np.float64)
        total, count = total + wide.T @ wide, count + len(wide)
    return total / count


def _joined(episodes: Iterable[Floats]) -> Iterator[Floats]:
    """The same frames, about PRODUCT_ROWS at a time."""
    waiting, rows = list[Floats](), 0
    for episode in episodes:
        waiting.append(episode)
        rows += len(episode)
        if rows >= PRODUCT_ROWS:
            yield np.concatenate(waiting)
            waiting, rows = [], 0
    if waiting:
        yield np.concatenate(waiting)
