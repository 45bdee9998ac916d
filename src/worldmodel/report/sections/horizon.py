"""Errors along the horizon, of the model and of both floors."""

from collections.abc import Mapping, Sequence

from worldmodel.evaluation.intervals import Means
from worldmodel.report.axis import frames, linear, logarithmic
from worldmodel.report.chart import Band, Chart, Line, charts
from worldmodel.report.markup import Html, Section, join, missing, paragraph
from worldmodel.report.material import Material
from worldmodel.report.scored import Scored
from worldmodel.report.table import table
from worldmodel.report.wording import interval, listed, number, percent

FLOORS_TOO = ("model", "ridge", "hold-last")
MEANS = {"model": "mse.mean", "ridge": "baseline.linear.mse", "hold-last": "baseline.persistence.mse"}
LOOKS = {"model": "model", "ridge": "ridge", "hold-last": "hold", "held": "model"}
AHEAD = "frames ahead"


def horizon(material: Material) -> Section:
    return Section("horizon", "Along the horizon", _body(material))


def chart(material: Material) -> Chart | None:
    """From the plot that validate wrote, with intervals where these can be computed."""
    found = material.outputs.series("horizon", "frame", "mse")
    if not found:
        return None
    bands = [_band(material.scored, name, xs) for name, (xs, _) in found.items()] if material.scored else []
    values = [value for _, ys in found.values() for value in ys] + [edge for band in bands for edge in _edges(band)]
    lines = [Line(xs, ys, LOOKS.get(name, "hold"), name) for name, (xs, ys) in found.items()]
    last = max(int(xs[-1]) for xs, _ in found.values())
    ends = [f"{name} {number(ys[0])} one frame ahead, {number(ys[-1])} at {last}" for name, (_, ys) in found.items()]
    return Chart(
        "Error along the horizon" + ("; shaded: 95 % intervals over test episodes" if bands else ""),
        f"Line chart: {listed(ends)}.",
        frames(AHEAD, 1, last),
        logarithmic("mean squared error, standardized units (log scale)", values),
        [*bands, *lines],
    )


def _band(scored: Scored, series: str, frames_ahead: Sequence[float]) -> Band:
    means = scored.intervals[series]
    return Band(frames_ahead, means.low[:-1].tolist(), means.high[:-1].tolist(), LOOKS[series])


def _edges(band: Band) -> list[float]:
    return [*band.low, *band.high]


def _body(material: Material) -> Html:
    plots = material.outputs.plots
    if not plots.get("horizon"):
        return missing("artifacts/plots/horizon.csv", "dvc repro validate")
    parts = [_table(material)]
    if material.scored is None:
        parts.append(missing("95 % intervals (they need the bundle and the packed arrays)", "dvc pull", "make repro"))
    if plots.get("coverage"):
        parts.append(_coverage(material))
    return join(parts)


def _table(material: Material) -> Html:
    found = material.outputs.series("horizon", "frame", "mse")
    length, metrics = len(found["model"][0]), material.outputs.metrics
    rows = [
        _row(str(frame), {name: found[name][1][frame - 1] for name in FLOORS_TOO}, material.scored, frame - 1)
        for frame in [1, *(2**power for power in range(1, length.bit_length()) if 2**power <= length)]
    ]
    if set(MEANS.values()) <= set(metrics):
        means = {name: metrics[key] for name, key in MEANS.items()}
        rows.append(_row(f"all {length}", means, material.scored, -1))
    title = "Mean squared error in standardized units" + (", with 95 % intervals" if material.scored else "")
    return table(title, (AHEAD, *FLOORS_TOO, "of ridge's error removed"), rows)


def _row(title: str, values: Mapping[str, float], scored: Scored | None, column: int) -> tuple[str, ...]:
    cells = [
        number(value) + (f" ({_interval(scored.intervals[name], column)})" if scored else "")
        for name, value in values.items()
    ]
    removed = percent(1 - values["model"] / values["ridge"]) if values["ridge"] > 0 else "-"
    return title, *cells, removed


def _interval(found: Means, column: int) -> str:
    return interval(found.low[column], found.high[column])


def _coverage(material: Material) -> Html:
    found = material.outputs.series("coverage", "frame", "coverage")
    xs, held = found["held"]
    bands = [_band(material.scored, "held", xs)] if material.scored else []
    lines = [
        Line(xs, held, "model", "held by the predicted 90 % intervals"),
        Line(*found["asked for"], "hold", "asked for"),
    ]
    values = [*held, 0.8, 1.0, *(edge for band in bands for edge in _edges(band))]
    drawn = Chart(
        "Calibration",
        f"Line chart: the 90 % intervals hold between {percent(min(held))} and {percent(max(held))} of the features.",
        frames(AHEAD, 1, len(held)),
        linear("share of features within the interval", values),
        [*bands, *lines],
        "low",
    )
    note = "An interval that holds less than it promises is too sure of itself; one that holds more, too timid."
    likely = material.outputs.metrics.get("log_likelihood")
    if likely is not None:
        note += f" Log-likelihood of what came: {number(likely)} nats a feature."
    return join((charts([drawn]), paragraph(note, class_="note")))
