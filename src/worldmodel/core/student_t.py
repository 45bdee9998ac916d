"""Student's t scaled to a standard deviation of 1, for whole degrees of freedom above 2; infinitely many: the normal."""

import math

import numpy as np

from worldmodel.core.typing import Doubles, Reals

DEGREES = (3, 4, 5, 6, 8, 10, 15, 30, math.inf)  # to choose from


def log_density(residual: Reals, std: Reals, degrees: float) -> Doubles:
    """Nats of residuals, elementwise; std is the standard deviation, not the scale."""
    wide = std.astype(np.float64)
    ratio = np.square(residual / wide)
    if math.isinf(degrees):
        normal: Doubles = -0.5 * ratio - np.log(wide) - 0.5 * math.log(2 * math.pi)
        return normal
    constant = math.lgamma((degrees + 1) / 2) - math.lgamma(degrees / 2) - 0.5 * math.log(math.pi * (degrees - 2))
    nats: Doubles = constant - np.log(wide) - (degrees + 1) / 2 * np.log1p(ratio / (degrees - 2))
    return nats


def half_width(degrees: float, share: float = 0.9) -> float:
    """Of the central interval that holds the share, in standard deviations."""
    low, high = 0.0, 1.0
    while _inside(high, degrees) < share:
        low, high = high, 2 * high
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if _inside(middle, degrees) < share else (low, middle)
    return high


def _inside(width: float, degrees: float) -> float:
    """Chance of being within -width..width (Abramowitz and Stegun 26.7.3 and 26.7.4)."""
    if math.isinf(degrees):
        return math.erf(width / math.sqrt(2))
    whole = int(degrees)
    angle = math.atan(width / math.sqrt(degrees - 2))  # of t / sqrt(degrees), with t in units of the scale
    sine, squared = math.sin(angle), math.cos(angle) ** 2
    if whole % 2:
        term = total = math.cos(angle)
        for n in range(3, whole - 1, 2):
            term *= squared * (n - 1) / n
            total += term
        return 2 / math.pi * (angle + sine * total)
    term = total = 1.0
    for n in range(2, whole - 1, 2):
        term *= squared * (n - 1) / n
        total += term
    return sine * total
