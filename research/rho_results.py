"""From rows of episodes.csv to one line for each log size and arm, as Markdown, as CSV, and as a figure."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from research.rho_runs import DEFAULT, REPEAT, Run
from worldmodel.core.atomic import replacing
from worldmodel.core.tables import write_csv
from worldmodel.evaluation.intervals import Change
from worldmodel.sweeps.results import Errors, Rows, by_episode, markdown_table, mean_of, number, paired, percent

BASE, TEACHER = "rho 0", "teacher"
HEADER = (
    *("train episodes", "arm", "seeds", "error, val", "error, test", "rarest tenth, test"),
    *("val against rho 0", "test against rho 0", "test against repeat", "realism"),
)
CHANGES = ("val_change", "test_change", "against_repeat")
COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#000000")  # Okabe and Ito
MARKERS = ("o", "s", "^", "D", "v", "P", "X")


@dataclass(frozen=True)
class Measured:
    """What one run left behind."""

    run: Run
    rows: Rows
    rare: float  # error over the rarest test windows
    realism: float | None


@dataclass(frozen=True)
class Line:
    size: int
    arm: str
    rho: float | None  # None where there is no share of dreams to speak of
    seeds: int
    val: float
    test: float
    rare: float | None
    realism: float | None
    val_change: Change | None  # against rho 0
    test_change: Change | None
    against_repeat: Change | None  # on test episodes

    @property
    def constant(self) -> bool:
        return self.arm.startswith("rho")


def lines(measured: Iterable[Measured], teachers: Mapping[str, Rows]) -> list[Line]:
    """Sizes from few logs to all; arms as they were run, then the teacher. `teachers`: rows by Run.dreams."""
    everything = list(measured)
    sizes = sorted({each.run.size for each in everything}, key=lambda size: size or math.inf)
    return [line for size in sizes for line in _of_size(size, [m for m in everything if m.run.size == size], teachers)]


def _of_size(size: int, measured: Sequence[Measured], teachers: Mapping[str, Rows]) -> list[Line]:
    errors: dict[str, dict[object, Errors]] = {}
    for each in measured:
        errors.setdefault(each.run.arm.name, {})[each.run.seed] = by_episode(each.rows)
        if each.run.dreams in teachers:
            errors.setdefault(TEACHER, {})[each.run.seed] = by_episode(teachers[each.run.dreams])
    shares = {each.run.arm.name: each.run.arm.rho for each in measured}
    order = sorted(errors, key=lambda arm: (arm == TEACHER, arm == REPEAT, arm == DEFAULT, shares.get(arm, 0.0)))
    return [
        _line(size, arm, errors, shares.get(arm), [each for each in measured if each.run.arm.name == arm])
        for arm in order
    ]


def _line(
    size: int, arm: str, errors: Mapping[str, Mapping[object, Errors]], rho: float | None, own: Sequence[Measured]
) -> Line:
    realism = [each.realism for each in own if each.realism is not None]

    def against(base: str, split: str) -> Change | None:
        return None if arm == base else paired(errors[arm], errors.get(base, {}), split)

    return Line(
        size,
        arm,
        rho,
        len(errors[arm]),
        mean_of(list(errors[arm].values()), "val"),
        mean_of(list(errors[arm].values()), "test"),
        mean(each.rare for each in own) if own else None,
        mean(realism) if realism else None,
        against(BASE, "val"),
        against(BASE, "test"),
        against(REPEAT, "test"),
    )


def size_name(size: int) -> str:
    return str(size) if size else "all"


def markdown(results: Sequence[Line], title: str, notes: Sequence[str]) -> str:
    table = markdown_table([HEADER, *(_cells(line) for line in results)])
    return "\n".join([f"**{title}**", "", *table, "", *(f"- {note}" for note in notes)])


def _cells(line: Line) -> tuple[str, ...]:
    return (
        size_name(line.size),
        line.arm if line.constant or line.rho is None else f"{line.arm}, rho {line.rho:g}",
        str(line.seeds),
        *(number(value) for value in (line.val, line.test, line.rare)),
        *(percent(getattr(line, name)) for name in CHANGES),
        "-" if line.realism is None else f"{line.realism:.2f}",
    )


def write_lines(path: Path, results: Sequence[Line]) -> None:
    header = ("train_episodes", "arm", "rho", "seeds", "val", "test", "rare")
    write_csv(
        path, (*header, *(f"{name}{edge}" for name in CHANGES for edge in ("", "_low", "_high"))), map(_row, results)
    )


def _row(line: Line) -> list[object]:
    cells: list[object] = [size_name(line.size), line.arm, line.rho, line.seeds, line.val, line.test, line.rare]
    for name in CHANGES:
        change: Change | None = getattr(line, name)
        cells += [None] * 3 if change is None else [change.value, change.low, change.high]
    return cells


def draw(path: Path, results: Sequence[Line], title: str) -> None:
    """Test error against that of rho 0, by rho, one line for each log size; the same bytes again."""
    shares = sorted({line.rho for line in results if line.constant and line.rho is not None})
    step = (shares[-1] - shares[0]) / max(len(shares) - 1, 1) or 0.5
    others = [arm for arm in (DEFAULT, REPEAT, TEACHER) if any(line.arm == arm for line in results)]
    places = {f"rho {rho:g}": rho for rho in shares}
    places |= {arm: shares[-1] + step * place for place, arm in enumerate(others, start=1)}
    names = {line.arm: _name(line) for line in results}
    sizes = list(dict.fromkeys(line.size for line in results))
    with mpl.rc_context({"font.size": 10, "axes.spines.top": False, "axes.spines.right": False}):
        figure = Figure(figsize=(8, 4.5), dpi=150, layout="constrained")
        axes = figure.subplots()
        for place, size in enumerate(sizes):
            offset = step * 0.09 * (place - (len(sizes) - 1) / 2)
            own = [(places[line.arm] + offset, line) for line in results if line.size == size]
            _draw_lines(axes, [point for point in own if point[1].constant], place, size_name(size))
            _draw_lines(axes, [point for point in own if not point[1].constant], place, None)
        axes.axhline(0, color="grey", linewidth=0.8, zorder=0)
        axes.axvline(shares[-1] + step / 2, color="lightgrey", linewidth=0.8, zorder=0)
        axes.set_xticks(list(places.values()), [names[arm] for arm in places])
        axes.set_xlabel("share of dreams in a batch (rho); right: what it is compared with")
        axes.set_ylabel("test error against rho 0, %")
        axes.set_title(f"{title}: what dreams change (95 % intervals)", fontsize=11)
        axes.legend(title="train episodes", frameon=False)
        with replacing(path) as temporary:
            figure.savefig(temporary, format="png", metadata={"Software": None})


def _draw_lines(axes: Axes, points: Sequence[tuple[float, Line]], place: int, label: str | None) -> None:
    """Constant shares have a label and are joined; others are not."""
    zero = Change(0.0, 0.0, 0.0)
    changes = [(x, zero if line.arm == BASE else line.test_change) for x, line in points]
    drawn = [(x, 100 * each.value, 100 * each.low, 100 * each.high) for x, each in changes if each is not None]
    color = COLORS[place % len(COLORS)]
    axes.errorbar(
        [x for x, *_ in drawn],
        [value for _, value, *_ in drawn],
        yerr=[[max(0.0, v - low) for _, v, low, _ in drawn], [max(0.0, high - v) for _, v, _, high in drawn]],
        color=color,
        marker=MARKERS[place % len(MARKERS)],
        linestyle="-" if label else "none",
        markerfacecolor=color if label else "white",
        capsize=3,
        label=label,
    )


def _name(line: Line) -> str:
    if line.rho is None:
        return "teacher\nitself"
    if line.constant:
        return f"{line.rho:g}"
    return f"params.yaml\nrho {line.rho:g}" if line.arm == DEFAULT else f"repeated\nlogs, rho {line.rho:g}"
