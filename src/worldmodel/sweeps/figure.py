"""The picture of a sweep: error on val episodes of each combination, best on top; the same bytes again."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure

from worldmodel.core.atomic import replacing
from worldmodel.sweeps.results import Line

SHOWN = 40  # combinations, at most


def draw(path: Path, lines: Sequence[Line]) -> None:
    shown = lines[:SHOWN]
    with mpl.rc_context(
        {"font.size": 10, "text.parse_math": False, "axes.spines.top": False, "axes.spines.right": False}
    ):
        figure = Figure(figsize=(8, 1.5 + 0.35 * len(shown)), dpi=150, layout="constrained")
        axes = figure.subplots()
        for place, line in enumerate(shown):
            axes.plot(line.errors, [place] * len(line.errors), "o", color="#56b4e9", markersize=4, zorder=1)
            axes.plot(line.interval, [place, place], color="#0072b2", linewidth=1.5, zorder=2)
            axes.plot([line.val], [place], "D", color="#0072b2", markersize=5, zorder=3)
        axes.set_yticks(range(len(shown)), [line.arm for line in shown])
        axes.invert_yaxis()
        axes.set_xlabel("error on val episodes: mean with 95 % interval, and each run")
        with replacing(path) as temporary:
            figure.savefig(temporary, format="png", metadata={"Software": None})
