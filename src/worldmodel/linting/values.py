"""Remarks on the numbers of single features."""

import math
import warnings
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from worldmodel.core.typing import Doubles, Floats, Reals
from worldmodel.linting.remarks import LintedLogs, Placed, Remark, columns
from worldmodel.linting.sample import MANY_VALUES, Extremes

STAND_INS = (-1.0, 99.0, 999.0, 9999.0, 99999.0, 999999.0, 32767.0, 32768.0, 65535.0, 2147483647.0)  # and negative
HUGE = 1e15  # beyond it nothing that is measured
APART = 3.0  # so many times the width of all other values away from them
AT_LIMIT, FEWEST = 0.05, 20  # share and number of frames that make a limit one
PERIODS = {360.0: "degrees", 2 * math.pi: "radians"}
SHARED = 3  # features with one limit
COARSE = 8.0  # a usual step is so few steps of float32, or fewer


def constant(logs: LintedLogs) -> Iterator[Remark]:
    limits = logs.extremes
    found = np.flatnonzero(limits.low == limits.high).tolist()
    if found and limits.frames > 1:
        yield Remark(
            "constant",
            f"{columns(found)} never change: they teach nothing, and a later change will be unlike anything learned; "
            "leave them out, or look why they stand still",
            len(found),
        )


def saturated(logs: LintedLogs) -> Iterator[Remark]:
    """Measurements that stay at their own lowest or highest value."""
    limits = logs.extremes
    measured = (logs.sample.distinct > MANY_VALUES) & ~_stand_ins(limits.low, logs) & ~_stand_ins(limits.high, logs)
    share = np.maximum(limits.at_low, limits.at_high) / limits.frames
    stuck = (share >= AT_LIMIT) & (share * limits.frames >= FEWEST) & measured
    found = [number for number in np.flatnonzero(stuck).tolist() if not _designed(number, limits)]
    if found:
        worst = max(found, key=lambda number: float(share[number]))
        yield Remark(
            "saturated",
            f"{columns(found)}: up to {share[worst]:.0%} of the frames have just the lowest or highest value (feature "
            f"{worst}); a sensor at its limit hides what moves: widen its range, or cut these frames out",
            int(share[worst] * limits.frames),
        )


def _designed(number: int, limits: Extremes) -> bool:
    """Whether several features end at just this limit: whoever made them cut them there."""
    limit = abs(limits.low if limits.at_low[number] > limits.at_high[number] else limits.high)[number]
    return bool(((limits.high == limit) | (limits.low == -limit)).sum() >= SHARED)


def sentinel(logs: LintedLogs) -> Iterator[Remark]:
    """Numbers that stand for no number."""
    count, first, values = 0, None, dict[float, set[int]]()
    suspects = _suspects(logs)
    for each in logs.placed if len(suspects) else ():
        features = each.episode.table().features
        rows, numbers = np.nonzero(_is_stand_in(features) & suspects[None, :])
        if len(rows):
            count, first = count + len(rows), first or each
            for value, number in zip(features[rows, numbers].tolist(), numbers.tolist(), strict=True):
                values.setdefault(value, set()).add(number)
    if first:
        shown = ", ".join(f"{value:g} in {columns(sorted(found), 3)}" for value, found in sorted(values.items())[:4])
        yield first.remark(
            "sentinel",
            f"{count} readings look like a stand-in for a missing one: {shown}; they are learned as values: leave "
            "these frames out, or fill the readings in",
            count,
        )


def _suspects(logs: LintedLogs) -> NDArray[np.bool_]:
    """[F] features of which a limit is a stand-in."""
    limits = logs.extremes
    return _stand_ins(limits.low, logs) | _stand_ins(limits.high, logs)


def _is_stand_in(values: Reals) -> NDArray[np.bool_]:
    found: NDArray[np.bool_] = np.isin(np.abs(values), np.array(STAND_INS, np.float32)) | (np.abs(values) >= HUGE)
    return found


def _stand_ins(values: Floats, logs: LintedLogs) -> NDArray[np.bool_]:
    """[F] whether these are stand-ins, and far from what is usual."""
    if not _is_stand_in(values).any():
        return np.zeros(len(values), bool)
    low, high = _usual(logs)
    width = np.maximum(high - low, 1e-9)
    far = (values < low - APART * width) | (values > high + APART * width)
    return _is_stand_in(values) & far


def _usual(logs: LintedLogs) -> tuple[Doubles, Doubles]:
    """[F] range of what is no stand-in."""
    features = logs.sample.features.astype(np.float64)
    features[_is_stand_in(logs.sample.features)] = np.nan
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a column of stand-ins alone
        return np.nanquantile(features, 0.01, axis=0), np.nanquantile(features, 0.99, axis=0)


def float32_loss(logs: LintedLogs) -> Iterator[Remark]:
    """Changes as small as the steps of float32 at that size."""
    sample = logs.sample
    size = np.abs(sample.features).max(axis=0)
    moves = np.where(sample.steps == 0, np.nan, np.abs(sample.steps))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a constant column
        usual = np.nanmedian(moves, axis=0) if len(moves) else np.full(len(size), np.nan)
    size = np.where(size < HUGE, size, 0)
    lost = (usual <= COARSE * np.spacing(size)) & (size > 1)
    found = np.flatnonzero(lost).tolist()
    if found:
        worst = max(found, key=lambda number: float(np.spacing(size[number]) / usual[number]))
        yield Remark(
            "float32-loss",
            f"{columns(found)}: a usual change is {usual[worst]:.3g} at values of {size[worst]:.6g}, where numbers are "
            f"kept in steps of {np.spacing(size[worst]):.3g}; subtract an origin before logging",
            len(found),
        )


def angle(logs: LintedLogs) -> Iterator[Remark]:
    """Features that jump by a turn."""
    found, turns = dict[int, str](), dict[int, int]()
    first: Placed | None = None
    limits, usual = logs.extremes, logs.sample.usual_step
    for period, unit in PERIODS.items():
        width = limits.high - limits.low
        whole = (width <= 1.001 * period) & (width >= 0.9 * period) & (np.abs(limits.low) <= 1.001 * period)
        for number in np.flatnonzero(whole & (usual < 0.2 * period)).tolist():
            for each in logs.placed:
                jumps = int((np.abs(np.diff(each.episode.table().features[:, number])) > 0.8 * period).sum())
                if jumps:
                    first, found[number] = first or each, unit
                    turns[number] = turns.get(number, 0) + jumps
    if first:
        shown = ", ".join(f"feature {number} ({unit}, {turns[number]} times)" for number, unit in found.items())
        yield first.remark(
            "angle",
            f"{shown}: wraps around, and a jump by a turn is learned as motion; log its sine and cosine instead",
            sum(turns.values()),
        )
