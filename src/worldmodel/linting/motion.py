"""Remarks on what leads from frame to frame."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Self

import numpy as np

from worldmodel.core.typing import Doubles, Floats, Reals
from worldmodel.linting.jumps import FEWEST
from worldmodel.linting.remark import Remark
from worldmodel.linting.remarks import LintedLogs

CLEAR, OWN = 0.008, 1.4  # share of variance that another action explains beyond so many times what its own does
REACTION = 0.95  # of an action that is known, where it answers a frame
RIDGE = 1e-3


def teleport(logs: LintedLogs) -> Iterator[Remark]:
    """Jumps in most features at once, and frames that are suddenly where episodes begin."""
    jumps = logs.jumps
    if jumps.first:
        yield jumps.first.remark(
            "teleport",
            f"{jumps.count} times most features jump at once, or back to where episodes begin: likely a reset that "
            "nothing marks, and it is learned as motion; name the episodes (meta.episode), or mark their ends "
            "(meta.terminal, meta.truncated)",
            jumps.count,
        )


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
    around = {f"action {shift}": actions[inner + shift] for shift in (-1, 0, 1)}
    fits = Fits.of({"frame": features[inner], "next": features[inner + 1], "moves": moves, **around})
    without = fits.explained(["frame"], "moves")
    own, earlier, later = (fits.explained(["frame", f"action {shift}"], "moves") - without for shift in (0, -1, 1))
    leak, cause = fits.explained(["next"], "action 1"), fits.explained(["frame", "next"], "action 1")
    for gain, shift, row in ((earlier, "an earlier", -1), (later, "a later", 1)):
        reaction = row == 1 and leak > REACTION * cause  # a later action that answers what the step led to
        if gain > CLEAR + OWN * own and not reaction:
            yield Remark(
                "action-shift",
                f"steps are explained by the action of {shift} frame ({gain:.0%} of their variance) and not by their "
                f"own ({own:.0%}); action[t] must be what is done at features[t], which leads to features[t+1]",
                len(inner),
            )


@dataclass(frozen=True)
class Fits:
    """Ridge regressions among parts of the same frames, by the products of all columns with each other."""

    columns: Mapping[str, slice]
    products: tuple[Doubles, Doubles]  # [D, D] of each half of the frames; the last column is 1
    frames: tuple[int, int]

    @classmethod
    def of(cls, parts: Mapping[str, Floats]) -> Self:
        ends = np.cumsum([0, *(part.shape[1] for part in parts.values())])
        whole = np.hstack([*parts.values(), np.ones((len(next(iter(parts.values()))), 1), np.float32)])
        halves = np.split(whole.astype(np.float64), [len(whole) // 2])
        one, other = ((half.T @ half, len(half)) for half in halves)
        columns = {name: slice(*bounds) for name, bounds in zip(parts, pairwise(ends.tolist()), strict=True)}
        return cls(columns, (one[0], other[0]), (one[1], other[1]))

    def explained(self, known: Sequence[str], wanted: str) -> float:
        """Share of variance on the half that nothing was fitted on, a mean over columns."""
        x, y = np.r_[*(self.columns[name] for name in known), -1], self.columns[wanted]
        (fitted, held), (_, frames) = self.products, self.frames
        weights = np.linalg.solve(fitted[np.ix_(x, x)] + RIDGE * self.frames[0] * np.eye(len(x)), fitted[x, y])
        squares = held[y, y].diagonal()
        left = squares - 2 * (weights * held[x, y]).sum(axis=0) + (weights * (held[np.ix_(x, x)] @ weights)).sum(axis=0)
        variance = squares / frames - (held[-1, y] / frames) ** 2
        return float(np.mean(1 - left / frames / np.maximum(variance, 1e-12)))


def _standardized(values: Reals) -> Floats:
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
