"""Charts that fit any width: the drawing is stretched, its lines keep their breadth, and its text is the page's own.

Colours and dashes are the style sheet's: a mark names what it shows (model, ridge, real, dream, ...).
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Protocol

from worldmodel.report.axis import Axis
from worldmodel.report.markup import Html, join, tag

SIZE = 1000  # of a drawing, both ways


class Mark(Protocol):
    @property
    def name(self) -> str | None:
        """In the legend; None where it needs no word."""

    @property
    def look(self) -> str: ...

    def draw(self, x: Axis, y: Axis) -> Html: ...


@dataclass(frozen=True)
class Line:
    """Broken where a number is not finite."""

    xs: Sequence[float]
    ys: Sequence[float]
    look: str
    name: str | None = None

    def draw(self, x: Axis, y: Axis) -> Html:
        return tag("path", class_=f"line {self.look}", d=_path(_points(self.xs, self.ys, x, y)))


@dataclass(frozen=True)
class Band:
    xs: Sequence[float]
    low: Sequence[float]
    high: Sequence[float]
    look: str
    name: str | None = None

    def draw(self, x: Axis, y: Axis) -> Html:
        there, back = (_points(self.xs, ys, x, y) for ys in (self.low, self.high))
        pieces = []
        for known, group in groupby(zip(there, back, strict=True), lambda pair: None not in pair):
            pairs = list(group)
            if known:
                pieces.append(_path([low for low, _ in pairs] + [high for _, high in reversed(pairs)]) + "z")
        return tag("path", class_=f"band {self.look}", d="".join(pieces))


@dataclass(frozen=True)
class Dots:
    xs: Sequence[float]
    ys: Sequence[float]
    look: str
    name: str | None = None
    titles: Sequence[str] | None = None  # shown where a pointer rests; one a dot

    def draw(self, x: Axis, y: Axis) -> Html:
        spots = [_spot(point) for point in _points(self.xs, self.ys, x, y)]
        if self.titles is None:
            return tag("path", class_=f"dots {self.look}", d="".join(spots))
        named = zip(spots, self.titles, strict=True)
        return join(tag("path", tag("title", title), class_=f"dots {self.look}", d=spot) for spot, title in named)


@dataclass(frozen=True)
class Steps:
    """A histogram: counts between edges, one fewer than these."""

    edges: Sequence[float]
    counts: Sequence[float]
    look: str
    name: str | None = None

    def draw(self, x: Axis, y: Axis) -> Html:
        outline = [(self.edges[0], 0.0)]
        for left, right, count in zip(self.edges[:-1], self.edges[1:], self.counts, strict=True):
            outline += [(left, count), (right, count)]
        outline.append((self.edges[-1], 0.0))
        drawn = _path(_points([px for px, _ in outline], [py for _, py in outline], x, y))
        return join(
            (tag("path", class_=f"band {self.look}", d=drawn), tag("path", class_=f"line {self.look}", d=drawn))
        )


@dataclass(frozen=True)
class Chart:
    title: str
    says: str  # for who cannot see it
    x: Axis
    y: Axis
    marks: Sequence[Mark]
    shape: str = "high"  # high | low | square

    def render(self) -> Html:
        drawn = tag(
            "svg",
            _grid(self.x, self.y),
            *(mark.draw(self.x, self.y) for mark in self.marks),
            viewBox=f"0 0 {SIZE} {SIZE}",
            preserveAspectRatio="none",
            aria_hidden="true",
        )
        plot = tag(
            "div",
            tag("div", self.y.label, class_="y-label"),
            tag("div", drawn, *_tick_labels(self.x, "x"), *_tick_labels(self.y, "y"), class_=f"canvas {self.shape}"),
            tag("div", self.x.label, class_="x-label"),
            class_="plot",
            role="img",
            aria_label=self.says,
        )
        return tag("figure", tag("figcaption", self.title), _legend(self.marks), plot, class_="chart")


def charts(drawn: Iterable[Chart]) -> Html:
    """Beside each other where there is room."""
    return tag("div", *(each.render() for each in drawn), class_="charts")


def stacked(drawn: Iterable[Chart]) -> Html:
    """Below each other, as broad as the page."""
    return tag("div", *(each.render() for each in drawn), class_="stacked")


def _legend(marks: Iterable[Mark]) -> Html:
    entries = [
        tag("li", tag("span", class_=f"swatch {type(mark).__name__.lower()} {mark.look}"), tag("bdi", mark.name))
        for mark in marks
        if mark.name
    ]
    return tag("div", tag("ul", *entries) if entries else "", class_="legend")


def _grid(x: Axis, y: Axis) -> Html:
    upright = [f"M{_units(x.place(tick))} 0V{SIZE}" for tick in x.ticks]
    level = [f"M0 {_units(1 - y.place(tick))}H{SIZE}" for tick in y.ticks]
    return tag("path", class_="grid", d="".join(upright + level))


def _tick_labels(axis: Axis, side: str) -> list[Html]:
    edge = "left" if side == "x" else "bottom"
    return [
        tag("span", axis.text(tick), class_=f"tick {side}", style=f"{edge}:{100 * axis.place(tick):.2f}%")
        for tick in axis.ticks
    ]


Point = tuple[str, str] | None  # None: there is nothing to draw


def _points(xs: Sequence[float], ys: Sequence[float], x: Axis, y: Axis) -> list[Point]:
    """In the drawing's units, as text."""
    return [
        (_units(x.place(px)), _units(1 - y.place(py))) if math.isfinite(px) and math.isfinite(py) else None
        for px, py in zip(xs, ys, strict=True)
    ]


def _units(share: float) -> str:
    return f"{round(SIZE * share, 1) + 0.0:g}"


def _path(points: Sequence[Point]) -> str:
    pieces, pen = [], "M"
    for point in points:
        pieces.append("" if point is None else f"{pen}{point[0]} {point[1]}")
        pen = "M" if point is None else "L"
    return "".join(pieces)


def _spot(point: Point) -> str:
    """A line of no length, whose round ends are a dot."""
    return "" if point is None else f"M{point[0]} {point[1]}h0"
