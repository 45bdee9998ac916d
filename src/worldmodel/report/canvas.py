"""Drawings as SVG that lies in the page: its colors are the style sheet's, so that they go with light and dark.

matplotlib draws with placeholders for colors. No text of a user's or a log's gets into a drawing, but into titles.
"""

import io
import re
from collections.abc import Sequence

import numpy as np
from markupsafe import Markup, escape
from matplotlib.figure import Figure
from matplotlib.patches import PathPatch
from matplotlib.path import Path
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator
from numpy.typing import ArrayLike

from worldmodel.report.wording import MINUS

AGENTS = tuple(f"agent-{number}" for number in range(8))
COLORS = ("quiet", "rule", "real", "model", "ridge", "hold", "dream", "faint", *AGENTS)  # of style.css
PLACEHOLDERS = {name: f"#fe00{number:02x}" for number, name in enumerate(COLORS)}
DASHES = {"ridge": (0, (5, 2.5)), "hold": (0, (1, 1.5)), "dream": (0, (4, 2))}
STYLE = {  # whatever matplotlibrc says
    "svg.fonttype": "none",
    "svg.hashsalt": "worldmodel",
    "text.parse_math": False,
    "path.simplify": False,
    "lines.solid_capstyle": "butt",
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": "medium",
    "axes.edgecolor": PLACEHOLDERS["quiet"],
    "grid.color": PLACEHOLDERS["rule"],
    "legend.frameon": False,
} | dict.fromkeys(("text.color", "axes.labelcolor", "xtick.color", "ytick.color"), PLACEHOLDERS["quiet"])
METADATA = dict.fromkeys(("Date", "Creator", "Format", "Type"))  # none
NEEDLESS = r'(?s)<(defs|metadata)>.*?</\1>| (?:id|clip-path|transform)="[^"]*"|font-family: [^;"]*;?'
FIGURE = Markup(
    '<figure>\n<figcaption><bdi>{title}</bdi></figcaption>\n<ul class="legend">{legend}</ul>\n<div class="scroll">'
    '<svg class="s{0}" viewBox="0 0 {0} {1}" role="img" aria-label="{description}">{svg}</svg></div>\n</figure>\n'
)
LEGEND = Markup('<li style="--dot: var(--{})"><bdi>{}</bdi></li>')
HIGH, LOW, WIDE, SQUARE, PANEL = (360, 260), (360, 200), (800, 190), (360, 370), (160, 160)  # width and height, px


class Canvas:
    def __init__(self, x_label: str, y_label: str, size: tuple[int, int] = HIGH) -> None:
        self.size = size
        self._titles: Sequence[str] = ()
        self._figure = Figure((size[0] / 72, size[1] / 72), layout="constrained")
        self.axes = self._figure.subplots()
        self.axes.set_xlabel(x_label, loc="right")
        self.axes.set_title(y_label, loc="left")
        self.axes.tick_params(length=0)
        for axis in (self.axes.xaxis, self.axes.yaxis):
            axis.set(major_locator=MaxNLocator(5, steps=[1, 2, 5, 10]), major_formatter=FuncFormatter(_tick))

    def line(self, xs: ArrayLike, ys: ArrayLike, color: str, label: str | None = None, width: float = 1.75) -> None:
        """Of one point alone: a dot."""
        if np.size(xs) == 1:
            return self.dots(np.reshape([xs, ys], (1, 2)), color, label, width=5)
        drawn, dashes = PLACEHOLDERS[color], DASHES.get(color, "-")
        self.axes.plot(xs, ys, label=label, color=drawn, linestyle=dashes, linewidth=width)

    def band(self, xs: ArrayLike, low: ArrayLike, high: ArrayLike, color: str, label: str | None = None) -> None:
        there_and_back = np.concatenate([xs, np.flip(xs)]), np.concatenate([low, np.flip(high)])
        self.axes.fill(*there_and_back, color=PLACEHOLDERS[color], label=label, alpha=0.2, linewidth=0)

    def dots(
        self, points: ArrayLike, color: str, label: str | None = None, width: float = 3, titles: Sequence[str] = ()
    ) -> None:
        """[N, 2], as lines of no length with round ends, a few bytes each; a title appears where a pointer rests."""
        path = Path(np.repeat(points, 2, axis=0), [Path.MOVETO, Path.LINETO] * len(np.asarray(points)))
        style = {"edgecolor": PLACEHOLDERS[color], "capstyle": "round", "linewidth": width, "alpha": 0.65}
        self.axes.add_patch(PathPatch(path, facecolor="none", gid="titled" if titles else None, **style))
        self.axes.fill([], [], color=PLACEHOLDERS[color], label=label)
        self.axes.autoscale_view()
        self._titles = titles or self._titles

    def histogram(self, edges: ArrayLike, counts: ArrayLike, color: str, label: str) -> None:
        drawn, dashes = PLACEHOLDERS[color], DASHES.get(color, "-")
        self.axes.stairs(counts, edges, label=label, color=drawn, linestyle=dashes, linewidth=1.75)
        self.axes.stairs(counts, edges, color=drawn, fill=True, alpha=0.2)

    def logarithmic(self, values: ArrayLike, *axes: str) -> tuple[float, float]:
        """Let axes (x, y) hold these values; returns their ends. They stay linear where no value is above 0."""
        positive = np.asarray(values)[np.asarray(values) > 0]
        low, high = (float(positive.min() / 1.15), float(positive.max() * 1.15)) if len(positive) else (0.0, 1.0)
        decades = np.log10(high / low) if low else 0
        for axis in axes if low else ():
            locator = LogLocator(subs=(1, 2, 5) if decades < 2 else (1, 3) if decades < 3 else (1,))
            self.axes.set(**{f"{axis}scale": "log"})
            getattr(self.axes, f"{axis}axis").set(major_locator=locator, major_formatter=FuncFormatter(_tick))
            self.axes.minorticks_off()
        self.axes.set(**{f"{axis}lim": (low, high) for axis in axes})
        return low, high

    def figure(self, title: str, description: str, agents: Sequence[str] = ()) -> Markup:
        """The description is for who cannot see it; the agents are a legend, in the order of their colors."""
        handles, labels = self.axes.get_legend_handles_labels()
        if labels:
            columns = len(labels) if sum(map(len, labels)) < self.size[0] / 8 else 1
            self._figure.legend(handles, labels, loc="outside upper left", ncols=columns)
        file = io.StringIO()
        self._figure.savefig(file, format="svg", metadata=METADATA, transparent=True)
        svg = re.sub(r"(?s)^.*?<svg[^>]*>|</svg>\s*$", "", file.getvalue())
        svg = re.sub(' d="([^"]*)"', lambda match: f' d="{_shortened(match[1])}"', svg)
        svg = re.sub(r'(?<=id="titled">)\s*<path d="(.*?)"(.*?)/>', self._titled, svg)
        svg = re.sub("#fe00(..)", lambda match: f"var(--{COLORS[int(match[1], 16)]})", re.sub(NEEDLESS, "", svg))
        legend = Markup().join(LEGEND.format(*pair) for pair in zip(AGENTS, agents, strict=False))
        drawing = Markup(re.sub(r"\s*\n\s*", "\n", svg))
        return FIGURE.format(*self.size, title=title, description=description, legend=legend, svg=drawing)

    def _titled(self, match: re.Match[str]) -> str:
        """A path for each dot."""
        dots = zip(match[1].split("M")[1:], self._titles, strict=True)
        return "".join(f'<path d="M{dot}"{match[2]}><title>{escape(title)}</title></path>' for dot, title in dots)


def _tick(value: float, _: int) -> str:
    return f"{value:,.10g}".replace("-", MINUS)


def _shortened(path: str) -> str:
    """To a tenth of a pixel."""
    compact = re.sub(r"\s*([MLCQz])\s*", r"\1", re.sub(r"(\.\d)\d+", r"\1", path)).strip()
    return re.sub(r"M([^MLCQz]+)L\1(?=M|$)", r"M\1h0", compact)
