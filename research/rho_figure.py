"""The figure of a study: test error against that of rho 0, by rho, one line for each log size; the same bytes again."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from research.rho_report import size_name
from research.rho_results import BASE, Line
from worldmodel.core.atomic import replacing
from worldmodel.evaluation.intervals import Change

COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#000000")  # Okabe and Ito
MARKERS = ("o", "s", "^", "D", "v", "P", "X")


def draw(path: Path, found: Sequence[Line], title: str) -> None:
    with mpl.rc_context({"font.size": 10, "axes.spines.top": False, "axes.spines.right": False}):
        figure = Figure(figsize=(8, 4.5), dpi=150, layout="constrained")
        axes = figure.subplots()
        shares = sorted({line.rho for line in found if line.arm.startswith("rho") and line.rho is not None})
        others = [arm for arm in ("default", "repeat", "teacher") if any(line.arm == arm for line in found)]
        step = (shares[-1] - shares[0]) / max(len(shares) - 1, 1) or 0.5
        places = {f"rho {rho:g}": rho for rho in shares}
        places |= {arm: shares[-1] + step * (number + 1) for number, arm in enumerate(others)}
        sizes = list(dict.fromkeys(line.size for line in found))
        for number, size in enumerate(sizes):
            offset = step * 0.09 * (number - (len(sizes) - 1) / 2)
            _draw_size(axes, [line for line in found if line.size == size], places, offset, number)
        axes.axhline(0, color="grey", linewidth=0.8, zorder=0)
        axes.axvline(shares[-1] + step / 2, color="lightgrey", linewidth=0.8, zorder=0)
        axes.set_xticks(list(places.values()), [_name(arm, found) for arm in places])
        axes.set_xlabel("share of dreams in a batch (rho); right: what it is compared with")
        axes.set_ylabel("test error against rho 0, %")
        axes.set_title(f"{title}: what dreams change (95 % intervals)", fontsize=11)
        axes.legend(title="train episodes", frameon=False)
        with replacing(path) as temporary:
            figure.savefig(temporary, format="png", metadata={"Software": None})


def _draw_size(axes: Axes, own: Sequence[Line], places: dict[str, float], offset: float, number: int) -> None:
    color, marker = COLORS[number % len(COLORS)], MARKERS[number % len(MARKERS)]
    points = [(places[line.arm] + offset, _interval(line), line.arm.startswith("rho")) for line in own]
    drawn = [(x, interval, by_rho) for x, interval, by_rho in points if interval is not None]
    for by_rho in (True, False):
        chosen = [(x, interval) for x, interval, kind in drawn if kind == by_rho]
        axes.errorbar(
            [x for x, _ in chosen],
            [100 * each.value for _, each in chosen],
            yerr=[
                [max(0.0, 100 * (each.value - each.low)) for _, each in chosen],
                [max(0.0, 100 * (each.high - each.value)) for _, each in chosen],
            ],
            color=color,
            marker=marker,
            linestyle="-" if by_rho else "none",
            markerfacecolor=color if by_rho else "white",
            capsize=3,
            label=size_name(own[0].size) if by_rho else None,
        )


def _interval(line: Line) -> Change | None:
    return Change(0.0, 0.0, 0.0) if line.arm == BASE else line.test_change


def _name(arm: str, found: Sequence[Line]) -> str:
    rho = next(line.rho for line in found if line.arm == arm)
    if arm.startswith("rho"):
        return f"{rho:g}"
    if rho is None:
        return "teacher\nitself"
    return f"params.yaml\nrho {rho:g}" if arm == "default" else f"repeated\nlogs, rho {rho:g}"
