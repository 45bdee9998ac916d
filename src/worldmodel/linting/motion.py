"""Remarks on what leads from frame to frame."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from worldmodel.core.typing import Floats, Reals
from worldmodel.linting.remarks import LintedLogs, Remark
from worldmodel.linting.sample import HUGEST, Sample

JUMP = 4.0  # times a feature's usual step
MANY, FEATURES = 0.25, 2  # share of the features that jump, and how many at least
SMOOTH = 0.4  # of a feature's range: a usual step is smaller
STARTS = 100  # starts of episodes that are looked at
FAR, AROUND = 3.0, 2.0  # times the distance between starts
LONG = 0.9  # share of steps that are shorter
FEWEST = 200  # steps, to know what is usual
CLEAR, OWN = 0.008, 1.4  # share of variance that another action explains beyond so many times what its own does
REACTION = 0.95  # of an action that is known, where it answers a frame
RIDGE = 1e-3


def teleport(logs: LintedLogs) -> Iterator[Remark]:
    """Jumps in most features at once, and frames that are suddenly where episodes begin."""
    if len(logs.sample.steps) < FEWEST:
        return
    jumps, starts = _Jumps.of(logs.sample), _Starts.of(logs.sample)
    count, first = 0, None
    for each in logs.placed:
        features: Reals = np.clip(each.episode.table().features, -HUGEST, HUGEST)
        back, near = starts.reached(features)
        found = int((jumps.at(features) & near | back).sum())
        count, first = count + found, (first or each) if found else first
    if first:
        yield first.remark(
            "teleport",
            f"{count} times most features jump at once, or back to where episodes begin: likely a reset that nothing "
            "marks, and it is learned as motion; name the episodes (meta.episode), or mark their ends (meta.terminal)",
            count,
        )


@dataclass(frozen=True)
class _Jumps:
    """Of features that move smoothly, or not at all within an episode."""

    smooth: NDArray[np.bool_]  # [F]
    longest: Floats  # [F] of an ordinary step

    @classmethod
    def of(cls, sample: Sample) -> Self:
        low, high = sample.low_high
        usual = sample.usual_step
        return cls((high > low) & (usual < SMOOTH * (high - low)), np.maximum(JUMP * usual, 0.01 * (high - low)))

    def at(self, features: Reals) -> NDArray[np.bool_]:
        """[T-1]"""
        if self.smooth.sum() < FEATURES:
            return np.zeros(len(features) - 1, bool)
        jumps = np.abs(np.diff(features[:, self.smooth], axis=0)) > self.longest[self.smooth]
        found: NDArray[np.bool_] = (jumps.sum(axis=1) >= FEATURES) & (jumps.mean(axis=1) >= MANY)
        return found


@dataclass(frozen=True)
class _Starts:
    """Where episodes begin."""

    scale: Floats  # [F]
    first: Floats  # [S, F] in scales
    near: float  # distance, in scales
    long: float  # length of a step that is a rare one, in scales

    @classmethod
    def of(cls, sample: Sample) -> Self:
        scale = np.maximum(sample.features.std(axis=0, dtype=np.float64), 1e-12).astype(np.float32)
        first = sample.features[sample.starts[:STARTS]] / scale
        if len(first) < 3:
            return cls(scale, first[:0], 0.0, 0.0)
        apart = np.sort(_distances(first, first), axis=1)[:, 1]  # the first is its own
        near = 1.5 * float(np.quantile(apart, 0.9))
        return cls(scale, first, near, float(np.quantile(np.linalg.norm(sample.steps / scale, axis=1), LONG)))

    def reached(self, features: Reals) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """[T-1] whether a long step leads there from far away; whether the next frame is about there."""
        if not len(self.first):
            return np.zeros(len(features) - 1, bool), np.ones(len(features) - 1, bool)
        scaled = features / self.scale
        distance, steps = _distances(scaled, self.first).min(axis=1), np.linalg.norm(np.diff(scaled, axis=0), axis=1)
        found: NDArray[np.bool_] = (distance[1:] <= self.near) & (distance[:-1] > FAR * self.near) & (steps > self.long)
        return found, distance[1:] <= AROUND * self.near


def _distances(one: Reals, other: Reals) -> Floats:
    """[N, M] between rows."""
    squares = (one**2).sum(axis=1)[:, None] + (other**2).sum(axis=1) - 2 * one @ other.T
    found: Floats = np.sqrt(np.maximum(squares, 0))
    return found


def action_shift(logs: LintedLogs) -> Iterator[Remark]:
    """Actions that explain the step before or behind better than their own."""
    sample = logs.sample
    if sample.actions is None:
        return
    before = sample.before
    inner = before[np.isin(before - 1, before) & np.isin(before + 1, before)]
    if len(inner) < FEWEST:
        return
    features, actions = _standardized(sample.features), _encoded(sample.actions)
    moves = _standardized(features[inner + 1] - features[inner])
    own, earlier, later = (_gain(features[inner], actions[inner + shift], moves) for shift in (0, -1, 1))
    leak = _explained(features[inner + 1], actions[inner + 1])
    cause = _explained(np.hstack([features[inner], features[inner + 1]]), actions[inner + 1])
    for gain, shift, row in ((earlier, "an earlier", -1), (later, "a later", 1)):
        reaction = row == 1 and leak > REACTION * cause  # a later action that answers what the step led to
        if gain > CLEAR + OWN * own and not reaction:
            yield Remark(
                "action-shift",
                f"steps are explained by the action of {shift} frame ({gain:.0%} of their variance) and not by their "
                f"own ({own:.0%}); action[t] must be what is done at features[t], which leads to features[t+1]",
                len(inner),
            )


def _gain(features: Floats, actions: Floats, moves: Floats) -> float:
    """Share of the variance of moves that actions explain beyond features."""
    return _explained(np.hstack([features, actions]), moves) - _explained(features, moves)


def _explained(known: Floats, wanted: Floats) -> float:
    """Share of variance that a ridge regression explains on frames that it was not fitted on, a mean over columns."""
    half = len(known) // 2
    x = np.hstack([known, np.ones((len(known), 1), known.dtype)]).astype(np.float64)
    y = wanted.astype(np.float64)
    weights = np.linalg.solve(x[:half].T @ x[:half] + RIDGE * half * np.eye(x.shape[1]), x[:half].T @ y[:half])
    left = ((y[half:] - x[half:] @ weights) ** 2).mean(axis=0)
    return float(np.mean(1 - left / np.maximum(y[half:].var(axis=0), 1e-12)))


def _standardized(values: Floats) -> Floats:
    exact = values.astype(np.float64)
    scale = exact.std(axis=0)
    found: Floats = np.clip((exact - exact.mean(axis=0)) / np.where(scale > 0, scale, 1), -10, 10).astype(np.float32)
    return found


def _encoded(actions: Floats) -> Floats:
    """One-hot where they are few integers."""
    values = np.unique(actions[:, 0]) if actions.shape[1] == 1 else np.empty(0)
    if 1 < len(values) <= 32 and (values == np.round(values)).all():
        found: Floats = (actions == values).astype(np.float32)
        return found
    return _standardized(actions)
