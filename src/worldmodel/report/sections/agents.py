"""Errors by agent and by held-out episode."""

from collections.abc import Mapping, Sequence

from worldmodel.report.axis import logarithmic
from worldmodel.report.chart import Chart, Dots, Line, charts
from worldmodel.report.markup import Html, Section, code, join, missing, name, paragraph
from worldmodel.report.material import Material
from worldmodel.report.outputs import Rows
from worldmodel.report.table import table
from worldmodel.report.wording import count, interval, number, percent

SHOWN = 40  # agents in the table


def agents(material: Material) -> Section:
    return Section("agents", "By agent and episode", _body(material.outputs.plots))


def _body(plots: Mapping[str, Rows]) -> Html:
    tests = [row for row in plots.get("episodes", ()) if row["split"] == "test"]
    if not plots.get("agents") or not tests:
        return missing("artifacts/plots/agents.csv and episodes.csv", "dvc repro validate")
    drawn = [_scatter(tests, column, floor) for column, floor in (("linear", "ridge"), ("persistence", "hold-last"))]
    return join((_table(plots["agents"], tests), charts(drawn)))


def _table(rows: Rows, tests: Rows) -> Html:
    errors: dict[str, list[float]] = {}
    for each in tests:
        errors.setdefault(each["agent_id"], []).append(float(each["model"]))
    cells = [_row(row, errors[row["agent"]]) for row in rows[:SHOWN]]
    header = (
        "agent",
        "test episodes",
        "model",
        "range over episodes",
        "ridge",
        "hold-last",
        "of ridge's error removed",
        "worst episode",
    )
    whole = table("Mean squared error in standardized units, worst agent first", header, cells, (0, 7))
    if len(rows) <= SHOWN:
        return whole
    more = f"And {count(len(rows) - SHOWN)} agents more, which the model predicts better: "
    return join((whole, paragraph(more, code("artifacts/plots/agents.csv"), class_="note")))


def _row(row: Mapping[str, str], errors: Sequence[float]) -> tuple[object, ...]:
    model, ridge = float(row["model"]), float(row["ridge"])
    return (
        name(row["agent"]),
        row["episodes"],
        number(model),
        interval(min(errors), max(errors)) if len(errors) > 1 else "-",
        number(ridge),
        number(float(row["hold-last"])),
        percent(1 - model / ridge) if ridge else "-",
        name(row["worst_episode"]),
    )


def _scatter(tests: Rows, column: str, floor: str) -> Chart:
    """Of the model against a floor."""
    model, floors = ([float(row[key]) for row in tests] for key in ("model", column))
    titles = [
        f"{row['agent_id']}, {row['episode']}: model {number(own)}, {floor} {number(other)}"
        for row, own, other in zip(tests, model, floors, strict=True)
    ]
    better = sum(own < other for own, other in zip(model, floors, strict=True))
    x, y = logarithmic(f"error of {floor} (log scale)", floors), logarithmic("error of the model (log scale)", model)
    low, high = max(x.low, y.low), min(x.high, y.high)
    even = [Line((low, high), (low, high), "hold", "equally good")] if low < high else []
    says = f"Scatter plot: the model is better than {floor} on {better} of {len(tests)} test episodes."
    title = f"Each test episode: better than {floor} on {better} of {len(tests)}"
    return Chart(title, says, x, y, [*even, Dots(floors, model, "model", "an episode", titles)], "square")
