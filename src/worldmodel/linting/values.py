"""Remarks on the numbers of single features."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray

from worldmodel.core.typing import Doubles, Reals
from worldmodel.episodes.columns import TURN
from worldmodel.linting.ranges import WHOLE, Ranges
from worldmodel.linting.remark import Remark
from worldmodel.linting.remarks import LintedLogs
from worldmodel.linting.sample import MANY_VALUES
from worldmodel.logs.ingest import FINE

STAND_INS = (-1.0, 99.0, 999.0, 9999.0, 99999.0, 999999.0, 32767.0, 32768.0, 65535.0, 2147483647.0)  # and negative
HUGE = 1e15  # beyond it nothing that is measured
APART = 3.0  # so many times the width of all other values away from them
AT_LIMIT, FEWEST = 0.05, 20  # share and number of frames that make a limit one
SHARED = 3  # features with one limit


def constant(logs: LintedLogs) -> Iterator[Remark]:
    limits = logs.ranges
    found = np.flatnonzero(limits.low == limits.high).tolist()
    if found and limits.count > 1:
        yield Remark(
            "constant",
            f"{logs.features(found)} never change: they teach nothing, and a later change will be unlike anything "
            "learned; leave them out, or look why they stand still",
            len(found),
        )


def saturated(logs: LintedLogs) -> Iterator[Remark]:
    """Measurements that stay at their own lowest or highest value."""
    limits = logs.ranges
    low, high = _stand_ins(logs)
    measured = (logs.sample.distinct > MANY_VALUES) & ~low & ~high
    share = np.maximum(limits.at_low, limits.at_high) / limits.count
    stuck = (share >= AT_LIMIT) & (share * limits.count >= FEWEST) & measured
    found = [number for number in np.flatnonzero(stuck).tolist() if not _designed(number, limits)]
    if found:
        worst = max(found, key=lambda number: float(share[number]))
        most, where = f"{share[worst]:.0%}", ""
        if len(found) > 1:
            most, where = f"up to {most}", f" (feature {logs.named(worst)})"
        yield Remark(
            "saturated",
            f"{logs.features(found)}: {most} of the frames have just the lowest or highest value{where}; a sensor at "
            "its limit hides what moves: widen its range, or cut these frames out",
            int(share[worst] * limits.count),
        )


def _designed(number: int, limits: Ranges) -> bool:
    """Whether several features end at just this limit: whoever made them cut them there."""
    limit = abs(limits.low if limits.at_low[number] > limits.at_high[number] else limits.high)[number]
    return bool(((limits.high == limit) | (limits.low == -limit)).sum() >= SHARED)


def sentinel(logs: LintedLogs) -> Iterator[Remark]:
    """Numbers that stand for no number: they are a feature's lowest or highest value, far from all others."""
    limits, found, places = logs.ranges, dict[float, list[int]](), []
    count = 0
    for side, value, at, suspects in zip(
        ("low", "high"), (limits.low, limits.high), (limits.at_low, limits.at_high), _stand_ins(logs), strict=True
    ):
        for number in np.flatnonzero(suspects).tolist():
            found.setdefault(float(value[number]), []).append(number)
            places.append(limits.first[side, number])
            count += int(at[number])
    if found:
        shown = ", ".join(f"{value:g} in {logs.features(numbers, 3)}" for value, numbers in sorted(found.items())[:4])
        yield min(places).remark(
            "sentinel",
            f"{count} readings look like a stand-in for a missing one: {shown}; they are learned as values: write null "
            "for them and set prepare.missing: mask, or leave these frames out",
            count,
        )


def _stand_ins(logs: LintedLogs) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """[F] whether the lowest, and the highest value is a stand-in, and far from what is usual."""
    limits = logs.ranges
    low, high = _is_stand_in(limits.low), _is_stand_in(limits.high)
    if not (low | high).any():
        return low, high
    features = logs.sample.features.copy()
    features[_is_stand_in(features)] = np.nan
    with _silent():
        usual = np.nanquantile(features, (0.01, 0.99), axis=0)
    width = np.maximum(usual[1] - usual[0], 1e-9)
    return low & (limits.low < usual[0] - APART * width), high & (limits.high > usual[1] + APART * width)


def _is_stand_in(values: Reals) -> NDArray[np.bool_]:
    size = np.abs(values)
    found: NDArray[np.bool_] = np.isin(size, STAND_INS) | ((size >= HUGE) & (size < np.inf))
    return found


@contextmanager
def _silent() -> Iterator[None]:
    """About columns that hold nothing to count."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        yield


def float32_loss(logs: LintedLogs) -> Iterator[Remark]:
    """Changes as small as the steps of float32 at that size."""
    sample = logs.sample
    size = np.abs(sample.features).max(axis=0)
    moves = np.where(sample.steps == 0, np.nan, np.abs(sample.steps))
    with _silent():
        usual = np.nanmedian(moves, axis=0) if len(moves) else np.full(len(size), np.nan)
    size = np.where(size < HUGE, size, 0)
    spacing: Doubles = np.spacing(size.astype(np.float32)).astype(np.float64)
    found = np.flatnonzero((usual <= FINE * spacing) & (size > 1)).tolist()
    if found:
        worst = max(found, key=lambda number: float(spacing[number] / usual[number]))
        yield Remark(
            "float32-loss",
            f"{logs.features(found)}: a usual change is {usual[worst]:.3g} at values of {size[worst]:.6g}, where steps "
            f"of float32 are {spacing[worst]:.3g}; all numbers are kept in float64 then, and whoever calls the model "
            "must give float64 too: if that cannot be, subtract an origin before logging",
            len(found),
        )


def angle(logs: LintedLogs) -> Iterator[Remark]:
    """Features that jump by a turn, and are not said to be angles."""
    limits, wraps = logs.ranges, logs.wraps
    width, known = limits.high - limits.low, logs.columns.features
    units, places, count = dict[int, str](), [], 0
    for (unit, number), jumps in sorted(wraps.counts.items(), key=lambda item: item[0][1]):
        turn = TURN[unit]
        whole = 0.9 * turn <= width[number] <= WHOLE * turn and abs(limits.low[number]) <= WHOLE * turn
        declared = bool(known) and known[number].kind == "angle"
        if whole and not declared and logs.sample.usual_step[number] < 0.2 * turn:
            units[number] = unit
            places.append(wraps.first[unit, number])
            count += jumps
    if units:
        number, unit = next(iter(units.items()))
        name = known[number].name if known and known[number].name else "heading"
        shown = ", ".join(
            f"feature {logs.named(each)} ({own}, {wraps.counts[own, each]} times)" for each, own in units.items()
        )
        yield min(places).remark(
            "angle",
            f"{shown}: wraps around, and a jump by a turn is learned as motion; say so in features.yaml, at its place "
            f"in the list `features`: {{name: {name}, unit: {unit}, kind: angle}}",
            count,
        )
