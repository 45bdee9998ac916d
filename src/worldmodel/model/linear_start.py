"""LinearStart: what training starts from, fitted in the coordinates of z's state part. Standardized units.

Dimension key: T frames of an episode, F features, A actions, S state part of z.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import add

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from worldmodel.arrays.moments import moments
from worldmodel.core.typing import Doubles, Floats
from worldmodel.model.filling import fill_in
from worldmodel.model.ridge import summed, transitions
from worldmodel.model.shape import MEMORY, STATE_CLAMP, room

LIMIT_FRAMES = 10  # at the least or greatest value, for that to be the sensor's limit
LIMIT_RATIO = 2  # and more than so many times as many as at the value next to it
LOST = 1e-3  # mean square of a standardized feature that z need not hold
MOST = 4096  # numbers of z
PRODUCT_ROWS = 1 << 18  # frames multiplied at once


@dataclass(frozen=True)
class LinearStart:
    """change = weight @ [state, last change in units of delta_std if it takes part, action] + bias"""

    projection: Floats  # [S, F], rows orthonormal, or 0 where nothing varies; the identity where S = F
    weight: Floats  # [S, S + A], or [S, 2S + A] with the last change
    bias: Floats  # [S]
    delta_std: Floats  # [S], of one-step changes
    sensor_min: Floats  # [S], which no reading is below (see sensor_limits)
    sensor_max: Floats  # [S], which none is above
    train_min: Floats  # [S], of the train states
    train_max: Floats  # [S]
    train_mean: Floats  # [S]
    damping: Floats  # [S], of the velocity outside of train_min..train_max, per squared unit

    def of_velocity(self) -> tuple[Tensor, Tensor]:
        """Weight and bias of the change in units of delta_std: nothing where nothing changes."""
        divisor = np.where(self.delta_std > 0, self.delta_std, np.inf).astype(np.float32)
        return torch.from_numpy(self.weight / divisor[:, None]), torch.from_numpy(self.bias / divisor)


def linear_starts(
    features: Iterable[Floats], actions: Iterable[Floats], state_dim: int, with_velocity: Sequence[bool] = (False,)
) -> list[LinearStart]:
    """Ridge regressions on episodes [T, F] and [T, A], which are gone over several times.

    One for each of with_velocity: whether the last change is among its inputs. Missing readings are filled in.
    """
    return [start for start, *_ in ridge_starts(features, actions, state_dim, with_velocity, folds=1)]


def ridge_starts(
    features: Iterable[Floats], actions: Iterable[Floats], state_dim: int, with_velocity: Sequence[bool], folds: int
) -> list[list[LinearStart]]:
    """As `linear_starts`; each followed by those that do not know every folds-th episode, from the first, second, ...

    These share all but weight and bias with it; there are none with one fold.
    """
    features = fill_in(features, actions)
    projection = _projection(features, state_dim)

    def states() -> Iterator[Floats]:
        return ((episode @ projection.T).astype(np.float32) for episode in features)

    state, change = moments(states), moments(lambda: (np.diff(each.astype(np.float64), axis=0) for each in states()))
    assert state is not None
    delta_std = np.zeros(state_dim) if change is None else change.std
    beyond = np.where(state.low < state.high, 0, STATE_CLAMP)  # a constant has no range to leave
    sensor_min, sensor_max = sensor_limits(states(), state_dim)
    starts = []
    for velocity in with_velocity:
        parts = summed(transitions(states(), actions, delta_std if velocity else None), folds)
        whole = reduce(add, parts)
        without = [whole - part for part in parts] if folds > 1 else []
        solutions = [each.solve() for each in (whole, *without)]
        starts.append(
            [
                LinearStart(
                    projection=projection,
                    weight=weight.astype(np.float32),
                    bias=bias.astype(np.float32),
                    delta_std=delta_std.astype(np.float32),
                    sensor_min=sensor_min,
                    sensor_max=sensor_max,
                    train_min=(state.low - beyond).astype(np.float32),
                    train_max=(state.high + beyond).astype(np.float32),
                    train_mean=state.mean.astype(np.float32),
                    damping=np.zeros(state_dim, np.float32),
                )
                for weight, bias in solutions
            ]
        )
    return starts


def sensor_limits(episodes: Iterable[Floats], width: int) -> tuple[Floats, Floats]:
    """Least and greatest value [S] where readings [T, S] run up against it, else -STATE_CLAMP and STATE_CLAMP.

    A sensor saturates, a speed is limited, a queue is empty: the frames at the last value are then many, where those of
    a tail are few.
    """
    nothing = _Edge(np.empty((0, width), np.float32), np.empty((0, width), np.int64))
    lower, upper = nothing, nothing
    for readings in episodes:
        lower, upper = lower.with_frames(-readings), upper.with_frames(readings)
    return -lower.limit(), upper.limit()


@dataclass(frozen=True)
class _Edge:
    """The greatest value of each feature and the one next to it, and how many frames are at each; [2, S]."""

    values: Floats
    frames: NDArray[np.int64]

    def with_frames(self, readings: Floats) -> "_Edge":
        values = np.concatenate([self.values, readings])
        frames = np.concatenate([self.frames, np.ones(readings.shape, np.int64)])
        greatest = values.max(axis=0)
        ends = np.stack([greatest, np.where(values < greatest, values, -np.inf).max(axis=0)])
        return _Edge(ends, np.stack([np.where(values == end, frames, 0).sum(axis=0) for end in ends]))

    def limit(self) -> Floats:
        """[S], STATE_CLAMP where the frames at the greatest value are few, or all."""
        at, below = self.frames
        limited = (at >= LIMIT_FRAMES) & (at > LIMIT_RATIO * below) & (below > 0)
        return np.where(limited, self.values[0], STATE_CLAMP).astype(np.float32)


def _projection(episodes: Iterable[Floats], state_dim: int) -> Floats:
    """Principal directions [S, F] of all frames where S < F, else the identity.

    A direction in which nothing varies is 0: what trains its place in z can then never move a constant feature.
    """
    width = next(iter(episodes)).shape[1]
    if state_dim == width:
        return np.eye(width, dtype=np.float32)
    variance, directions = np.linalg.eigh(_mean_square(episodes))
    varies = variance > width * np.finfo(np.float32).eps ** 2 * variance[-1]
    leading = (directions * varies)[:, ::-1][:, :state_dim].T
    signs = np.sign(leading[np.arange(state_dim), np.abs(leading).argmax(axis=1)])
    projection: Floats = (leading * signs[:, None]).astype(np.float32)
    return projection


def roomy(z_dim: int, episodes: Iterable[Floats]) -> int:
    """The size of z, at least z_dim, whose state part leaves out no more than LOST of the frames [T, F]; NaN is 0."""
    width = next(iter(episodes)).shape[1]
    if width <= room(z_dim):
        return z_dim
    variance = np.linalg.eigvalsh(_mean_square(np.nan_to_num(each) for each in episodes)).clip(min=0)
    left_out = variance.cumsum()[::-1] / width  # of the 0, 1, ... most important directions alone
    state = int((left_out > LOST).sum())
    return min(max(z_dim, -(-4 * state // 3), state + MEMORY + 1), MOST)


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
