"""Student's t scaled to a standard deviation of 1, for degrees of freedom above 2; infinitely many: the normal."""

import math
from functools import cache

import numpy as np

from worldmodel.core.typing import Doubles, Reals

DEGREES = (2.1, 2.25, 2.5, 3.0, 4.0, 5.0, 8.0, 15.0, math.inf)  # to choose from
POINTS = 4096  # of the integral: far more than six digits need


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


@cache
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
    """Chance of being within -width..width: with t = sqrt(degrees) tan(x) it is an integral of cos(x)^(degrees - 1)."""
    if math.isinf(degrees):
        return math.erf(width / math.sqrt(2))
    end = math.atan(width / math.sqrt(degrees - 2))
    middles = (np.arange(POINTS) + 0.5) * (end / POINTS)
    area = float((np.cos(middles) ** (degrees - 1)).sum()) * end / POINTS
    return 2 * area * math.exp(math.lgamma((degrees + 1) / 2) - math.lgamma(degrees / 2)) / math.sqrt(math.pi)
