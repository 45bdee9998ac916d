"""Raw columns <-> standardized columns: values by center and scale, angles as sine and cosine, categories one-hot.

Dimension key: F raw columns, G standardized ones.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from worldmodel.arrays.moments import Moments
from worldmodel.core.checked import Float
from worldmodel.core.typing import Doubles, Floats, Ints, Reals
from worldmodel.episodes.columns import TURN, Column


@dataclass(frozen=True)
class Coded(Column):
    """A column, and what its standardized columns need to know."""

    classes: tuple[Float, ...] = ()  # of a category: its values, one column each
    least: Float = 0.0  # of an angle: the logs have it from here on, up to a turn more

    @property
    def width(self) -> int:
        """How many standardized columns it has."""
        return {"value": 1, "angle": 2, "category": len(self.classes)}[self.kind]

    @property
    def turn(self) -> float:
        """Of an angle, in its unit."""
        return TURN[self.unit]

    def expand(self, raw: Reals) -> Reals:
        """[...] -> [..., width]"""
        if self.kind == "value":
            return raw[..., None]
        if self.kind == "angle":
            radians = raw * (2 * math.pi / self.turn)
            return np.stack([np.sin(radians), np.cos(radians)], axis=-1)
        hot = (raw[..., None] == np.array(self.classes)).astype(np.float64)
        return np.where(np.isnan(raw)[..., None], np.nan, hot)

    def contract(self, wide: Doubles) -> Doubles:
        """[..., width] -> [...]; the nearest that a raw column may hold."""
        if self.kind == "value":
            return wide[..., 0]
        if self.kind == "angle":
            turned = np.arctan2(wide[..., 0], wide[..., 1]) * (self.turn / (2 * math.pi))
            angle: Doubles = np.where(turned < self.least, turned + self.turn, turned)
            return angle
        chosen: Doubles = np.where(np.isnan(wide[..., 0]), np.nan, np.array(self.classes)[wide.argmax(axis=-1)])
        return chosen

    def apart(self, one: Doubles, other: Doubles) -> Doubles:
        """one - other [...]: the shorter way round of angles, and for two categories what lies between two corners."""
        if self.kind == "category":
            return np.where(np.isnan(one - other), np.nan, (one != other) * math.sqrt(2))
        if self.kind == "angle":
            return (one - other + self.turn / 2) % self.turn - self.turn / 2
        return one - other


@dataclass(frozen=True)
class Affine:
    """standardized = (expanded raw - center) / scale."""

    center: Reals  # [G], float64 where the raw columns need it
    scale: Floats  # [G]
    columns: tuple[Coded, ...] = ()  # [F]; empty where nothing is said: all are values
    std: Floats | None = None  # [G] of what it was fitted on, where that is not the scale
    low: Reals | None = None  # [F] least of what it was fitted on, raw units; 0 where there was no reading
    high: Reals | None = None  # [F] greatest

    @property
    def width(self) -> int:
        """F"""
        return len(self.columns) or len(self.center)

    @property
    def names(self) -> tuple[str, ...]:
        """[F], or none where no column has one."""
        return tuple(column.name for column in self.columns) if any(each.name for each in self.columns) else ()

    def transform(self, raw: Reals) -> Floats:
        """[..., F] raw units -> [..., G] standardized, float32; NaN stays NaN."""
        return ((self._expanded(raw) - self.center) / self.scale).astype(np.float32)

    def inverse(self, standardized: Reals) -> Reals:
        """[..., G] standardized -> [..., F] raw units, float32 or as wide as the center."""
        found = standardized * self.scale + self.center
        if self._coded:
            wide = found.astype(np.float64)
            found = np.stack([each.contract(wide[..., at]) for each, at in self._parts], axis=-1)
        raw: Reals = found.astype(self.center.dtype)
        return raw

    def residual(self, predicted: Reals, real: Reals) -> Doubles:
        """predicted - real, [..., F] raw units -> [..., F] in standard deviations; NaN where one is."""
        one, other = predicted.astype(np.float64), real.astype(np.float64)
        if not self._coded:
            return (one - other) / self.spread
        parts = [each.apart(one[..., at], other[..., at]) for at, each in enumerate(self.columns)]
        return np.stack(parts, axis=-1) / self.spread

    @cached_property
    def spread(self) -> Floats:
        """[F] standard deviation of what it was fitted on, raw units; of a category, corners."""
        std = self.scale if self.std is None else self.std
        if not self._coded:
            return std
        first = np.array([at.start for _, at in self._parts])
        turns = [each.turn / (2 * math.pi) if each.kind == "angle" else 1.0 for each in self.columns]
        spread: Floats = (std[first] * turns).astype(np.float32)
        return spread

    @cached_property
    def unit(self) -> Doubles:
        """[G] standard deviations that a standardized unit is."""
        return self.scale / (self.scale if self.std is None else self.std).astype(np.float64)

    @cached_property
    def sources(self) -> Ints:
        """[G] the raw column that each standardized one is of."""
        return np.repeat(np.arange(self.width), [each.width for each in self.columns] or 1)

    @cached_property
    def _coded(self) -> bool:
        return any(each.kind != "value" for each in self.columns)

    @cached_property
    def _parts(self) -> list[tuple[Coded, slice]]:
        """Each raw column, and its standardized ones."""
        ends = np.cumsum([each.width for each in self.columns]).tolist()
        return [(each, slice(end - each.width, end)) for each, end in zip(self.columns, ends, strict=True)]

    def _expanded(self, raw: Reals) -> Reals:
        return expanded(raw, self.columns) if self._coded else raw


def expanded(raw: Reals, columns: Sequence[Coded]) -> Reals:
    """[..., F] -> [..., G]"""
    if all(each.kind == "value" for each in columns):
        return raw
    return np.concatenate([each.expand(raw[..., at]) for at, each in enumerate(columns)], axis=-1)


def fitted(
    stats: Moments, columns: tuple[Coded, ...], method: str, min_std: float, scalar: type[np.floating[Any]]
) -> Affine:
    """Of the moments of the expanded columns; a column that spreads less than min_std, or than its numbers resolve,
    counts as constant: it is centered, with scale 1 or that resolution if it is larger.

    The columns of an angle or a category have one scale, the root of the sum of their variances.
    """
    center, scale, std = stats.mean, stats.std, stats.std.copy()
    if method == "minmax":
        center, scale = (stats.high + stats.low) / 2, (stats.high - stats.low) / 2
    finest = 2 * float(np.finfo(scalar).eps) * np.maximum(np.abs(stats.low), np.abs(stats.high))
    at = 0
    for each in columns:
        own = slice(at, at := at + each.width)
        if each.kind != "value":
            center[own], scale[own], finest[own] = stats.mean[own], np.sqrt(np.square(stats.std[own]).sum()), 0
            std[own] = scale[own]
    constant = std < np.maximum(min_std, finest)
    known = [np.where(constant, np.maximum(finest, 1), each).astype(np.float32) for each in (scale, std)]
    return Affine(center.astype(scalar), known[0], columns, known[1] if method == "minmax" else None)


def identity(width: int, columns: tuple[Coded, ...] = ()) -> Affine:
    return Affine(np.zeros(width, np.float32), np.ones(width, np.float32), columns)
