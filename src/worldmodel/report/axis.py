"""Axes: where a number lies between two ends, and which numbers are written beside it."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

from worldmodel.report.wording import MINUS

TICKS = 5  # about so many


@dataclass(frozen=True)
class Axis:
    label: str  # with its unit
    low: float
    high: float
    ticks: tuple[float, ...]
    logarithmic: bool = False

    def place(self, value: float) -> float:
        """0 at the low end and before it, 1 at the high end and beyond it."""
        low, high = self._scaled(self.low), self._scaled(self.high)
        return min(max((self._scaled(value) - low) / (high - low), 0.0), 1.0)

    def text(self, tick: float) -> str:
        return f"{tick:,.10g}".replace("-", MINUS)

    def _scaled(self, value: float) -> float:
        return math.log10(max(value, self.low)) if self.logarithmic else value


def linear(label: str, values: Iterable[float], margin: float = 0.04) -> Axis:
    """From the least to the greatest finite value, with a margin as a share of the span; none below a least of 0."""
    known = [value for value in values if math.isfinite(value)] or [0.0, 1.0]
    low, high = min(known), max(known)
    pad = margin * (high - low) or abs(high) * margin or margin
    low, high = (low if low == 0 else low - pad), high + (pad or float(high == low))
    step = _step((high - low) / TICKS)
    first = math.ceil(low / step - 1e-9)
    return Axis(label, low, high, tuple(round(step * n, 12) for n in range(first, math.floor(high / step + 1e-9) + 1)))


def frames(label: str, first: int, last: int) -> Axis:
    """Whole numbers, from end to end."""
    last = max(last, first + 1)
    step = max(1, round(_step((last - first) / TICKS)))
    marks = sorted({first, *range(-(-first // step) * step, last + 1, step)})
    crowded = len(marks) > 1 and marks[1] - marks[0] < step / 2
    return Axis(label, first, last, tuple(marks[:1] + marks[2:] if crowded else marks))


def logarithmic(label: str, values: Iterable[float]) -> Axis:
    """A linear one where there is nothing above 0."""
    known = [value for value in values if math.isfinite(value) and value > 0]
    if not known:
        return linear(label, values)
    low, high = min(known) / 1.15, max(known) * 1.15
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for digits in ((1, 2, 5), (1, 3), (1,)):
        ticks = [digit * 10.0**power for power in powers for digit in digits if low <= digit * 10.0**power <= high]
        if len(ticks) <= TICKS + 2:
            break
    few = len(ticks) < 2
    return Axis(label, low, high, linear(label, (low, high), 0).ticks if few else tuple(ticks), logarithmic=True)


def _step(rough: float) -> float:
    """1, 2 or 5 times a power of ten, at least as large."""
    power = 10.0 ** math.floor(math.log10(rough))
    return next(digit * power for digit in (1, 2, 5, 10) if digit * power >= rough * (1 - 1e-9))
