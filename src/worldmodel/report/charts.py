"""The charts of the page, one function each."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby

import numpy as np
from markupsafe import Markup

from worldmodel.arrays.scaler import Scaler
from worldmodel.report.canvas import AGENT_COLORS, HIGH, LOW, PANEL, SQUARE, WIDE, Canvas
from worldmodel.report.collect import ReportData, Rows
from worldmodel.report.dreamed import Dreamed, Pair
from worldmodel.report.latents import Latents
from worldmodel.report.wording import number, percent

SERIES_COLORS = {"model": "model", "ridge": "ridge", "hold-last": "hold", "train": "ridge", "val": "model"}
LOSSES = {"train": "train windows, dreams among them", "val": "val windows, observed"}
PIECES = 6  # predictions of an episode, at most: those beside each other that were predicted worst
FEATURES = 2  # of each dream


def horizon(data: ReportData) -> Markup:
    """Errors that validate wrote, with intervals where these can be computed."""
    series = data.series("horizon", "frame", "mse")
    canvas, values = Canvas("frames ahead", "mean squared error, standardized units (log scale)"), list[float]()
    for name, (xs, ys) in series.items():
        values += [*ys, *_band(canvas, data, name, xs)]
        canvas.line(xs, ys, SERIES_COLORS.get(name, "hold"), name)
    canvas.logarithmic("y", values)
    canvas.axes.margins(x=0)
    ends = [f"{name} {number(ys[0])} at first, {number(ys[-1])} at the end" for name, (_, ys) in series.items()]
    title = "Error along the horizon" + ("; shaded: 95 % intervals over test episodes" if data.scored else "")
    return canvas.figure(title, f"Line chart of errors along the horizon: {'; '.join(ends)}.")


def coverage(data: ReportData) -> Markup:
    series = data.series("coverage", "frame", "coverage")
    canvas, (xs, held) = Canvas("frames ahead", "share of features within the interval", LOW), series["held"]
    _band(canvas, data, "held", xs)
    canvas.line(xs, held, "model", "held by the predicted 90 % intervals")
    canvas.line(*series["asked for"], "hold", "asked for")
    canvas.axes.update_datalim([(xs[0], 0.8), (xs[0], 1.0)])
    canvas.axes.autoscale_view()
    canvas.axes.margins(x=0)
    held_between = f"between {percent(min(held))} and {percent(max(held))}"
    return canvas.figure("Calibration", f"Line chart: the 90 % intervals hold {held_between} of the features.")


def _band(canvas: Canvas, data: ReportData, series: str, xs: Sequence[float]) -> list[float]:
    """95 % intervals of the series; returns their ends."""
    if data.scored is None:
        return []
    means = data.scored.intervals[series]
    low, high = means.low[:-1].tolist(), means.high[:-1].tolist()
    canvas.band(xs, low, high, SERIES_COLORS.get(series, "model"))
    return [*low, *high]


def against_baseline(tests: Rows, column: str, name: str) -> Markup:
    """Each test episode's error of the model against that of a baseline."""
    model, baseline = ([float(row[key]) for row in tests] for key in ("model", column))
    better = sum(own < other for own, other in zip(model, baseline, strict=True))
    canvas = Canvas(f"error of {name} (log scale)", "error of the model (log scale)", SQUARE)
    x_ends, y_ends = canvas.logarithmic("x", baseline), canvas.logarithmic("y", model)
    both = max(x_ends[0], y_ends[0]), min(x_ends[1], y_ends[1])
    if both[0] < both[1]:
        canvas.line(both, both, "hold", "equally good")
    points = np.stack([np.clip(baseline, *x_ends), np.clip(model, *y_ends)], axis=1)
    canvas.dots(points, "model", "an episode", width=7, gid="titled")
    titles = [
        f"{row['agent_id']}, {row['episode']}: model {number(own)}, {name} {number(other)}"
        for row, own, other in zip(tests, model, baseline, strict=True)
    ]
    description = f"Scatter plot: the model is better than {name} on {better} of {len(tests)} test episodes."
    return canvas.figure(f"Each test episode: better than {name} on {better} of {len(tests)}", description, titles)


def predicted(rows: Rows) -> Iterator[Markup]:
    """The features of an episode that were predicted worst, where the first of them was."""
    shown = _worst_pieces(rows)
    for feature, group in groupby(rows, lambda row: row["feature"]):
        canvas = Canvas("frame of the episode", "raw units", WIDE)
        pieces = [list(piece) for _, piece in groupby(group, lambda row: int(row["piece"]))]
        columns = [_columns(piece) for piece in pieces if int(piece[0]["piece"]) in shown]
        values = np.concatenate([piece[key] for piece in columns for key in ("real", "predicted")])
        margin = 0.15 * float(np.ptp(values)) or 1.0
        ends = float(values.min()) - margin, float(values.max()) + margin
        for place, piece in enumerate(columns):
            labels = ("90 % interval", "real", "predicted") if place == 0 else (None,) * 3
            low, high = (np.clip(piece[key], *ends) for key in ("low", "high"))
            canvas.band(piece["frame"], low, high, "model", labels[0])
            canvas.line(piece["frame"], piece["real"], "real", labels[1])
            canvas.line(piece["frame"], piece["predicted"], "model", labels[2])
        canvas.axes.set_ylim(ends)
        canvas.axes.margins(x=0)
        yield canvas.figure(feature, f"Line chart of {feature}: real, predicted and its 90 % interval.")


def _worst_pieces(rows: Rows) -> range:
    """By the feature that was predicted worst, which comes first."""
    errors = Counter[int]()
    for row in rows:
        if row["feature"] == rows[0]["feature"]:
            errors[int(row["piece"])] += (float(row["predicted"]) - float(row["real"])) ** 2  # type: ignore[assignment]
    firsts = range(max(1, len(errors) - PIECES + 1))
    first = max(firsts, key=lambda piece: sum(errors[other] for other in range(piece, piece + PIECES)))
    return range(first, first + PIECES)


def _columns(rows: Rows) -> Mapping[str, Sequence[float]]:
    return {key: [float(row[key]) for row in rows] for key in ("frame", "real", "predicted", "low", "high")}


def most_seen(latents: Latents) -> list[str]:
    """The agents with most windows, by name; each has a color of its own."""
    return sorted(agent for agent, _ in Counter(sorted(latents.agents)).most_common(len(AGENT_COLORS)))


def by_agent(latents: Latents) -> Markup:
    canvas, names = _latent_canvas(latents), most_seen(latents)
    others = np.array([agent not in names for agent in latents.agents])
    if others.any():
        canvas.dots(latents.held_out[others], "hold", "other agents")
    for agent, color in zip(names, AGENT_COLORS, strict=False):
        canvas.dots(latents.held_out[_of(latents, agent)], color)
    description = f"Scatter plot of test windows, those of {len(names)} agents in colors of their own."
    return canvas.figure("Test windows, by agent", description, agents=names)


def by_source(latents: Latents) -> Markup:
    canvas = _latent_canvas(latents)
    canvas.dots(latents.observed, "model", "observed")
    canvas.dots(latents.dreamed, "dream", "dreamed")
    windows = f"{len(latents.observed)} observed and {len(latents.dreamed)} dreamed train windows"
    return canvas.figure("Train windows, by source", f"Scatter plot of {windows}.")


def one_agent(latents: Latents, agent: str) -> Markup:
    canvas, own = Canvas("", "", PANEL), latents.held_out[_of(latents, agent)]
    canvas.axes.set_axis_off()
    canvas.dots(latents.held_out[:: 1 + len(latents.held_out) // 500], "faint")
    canvas.dots(own, AGENT_COLORS[most_seen(latents).index(agent)])
    return canvas.figure(agent, f"The {len(own)} windows of {agent} among those of all test episodes.")


def _latent_canvas(latents: Latents) -> Canvas:
    x, y = (
        f"principal direction {n + 1} ({percent(share, 0)} of the variance)"
        for n, share in enumerate(latents.explained)
    )
    canvas = Canvas(x, y, SQUARE)
    canvas.axes.update_datalim(np.concatenate([latents.held_out, latents.observed, latents.dreamed]))
    return canvas


def _of(latents: Latents, agent: str) -> list[int]:
    return [place for place, each in enumerate(latents.agents) if each == agent]


def realism(data: ReportData) -> Markup | None:
    series = data.series("realism", "score", "windows")
    if not any(count for _, counts in series.values() for count in counts):
        return None
    canvas = Canvas("score: real about \N{MINUS SIGN}1, dreamed about 1", "windows", SQUARE)
    for name, (middles, counts) in series.items():
        half = (middles[1] - middles[0]) / 2
        edges = [middles[0] - half, *(middle + half for middle in middles)]
        canvas.histogram(edges, counts, {"real": "real"}.get(name, "dream"), name)
    description = "Histogram of the classifier's scores: the more real and dreamed overlap, the more alike they are."
    return canvas.figure("Dreams among real windows", description)


def changes(comparison: Dreamed) -> Markup:
    """How much each feature changes from frame to frame, in dreams and in reality."""
    real, dreamed = comparison.observed_change, comparison.dreamed_change
    canvas = Canvas("real, standardized units (log scale)", "dreamed, standardized units (log scale)", SQUARE)
    x_ends, ends = (canvas.logarithmic(axis, [*real, *dreamed]) for axis in "xy")
    canvas.line(x_ends, ends, "hold", "alike")
    canvas.dots(np.clip(np.stack([real, dreamed], axis=1), *ends), "dream", "a feature", width=7, gid="titled")
    titles = [
        f"feature {n}: real {number(a)}, dreamed {number(b)}"
        for n, (a, b) in enumerate(zip(real, dreamed, strict=True))
    ]
    calmer = f"{(dreamed < real).sum()} of {len(real)} features"
    description = f"Scatter plot: {calmer} change less from frame to frame in dreams than in reality."
    return canvas.figure("How much features change from frame to frame", description, titles)


def beside_the_log(pair: Pair, scaler: Scaler, history: int) -> Iterator[Markup]:
    for feature, real, dream in pair.most_variable(scaler, FEATURES):
        canvas, frames = Canvas("frame of the logged episode", "raw units", LOW), pair.begin + np.arange(len(real))
        canvas.line(
            [frames[history - 1]] * 2,
            [min(real.min(), dream.min()), max(real.max(), dream.max())],
            "hold",
            "end of the history",
        )
        canvas.line(frames, real, "real", "real")
        canvas.line(frames, dream, "dream", "dreamed")
        canvas.axes.margins(x=0)
        yield canvas.figure(
            f"feature {feature}", f"Line chart of feature {feature}: the log, and the dream that began with it."
        )


def loss(data: ReportData) -> Markup:
    series = data.series("loss", "step", "loss")
    canvas = Canvas("optimizer step", "mean squared error, standardized units (log scale)", HIGH)
    ends = canvas.logarithmic("y", [value for _, ys in series.values() for value in ys])
    if step := (data.manifest.get("selected") or {}).get("step"):
        canvas.line([step, step], ends, "hold", "weights kept")
    for name, (xs, ys) in series.items():
        canvas.line(xs, ys, SERIES_COLORS.get(name, "hold"), LOSSES.get(name, name))
    canvas.axes.set_xlim(left=0)
    spans = ", ".join(f"{name} ({number(ys[0])} to {number(ys[-1])})" for name, (_, ys) in series.items())
    return canvas.figure("Loss", f"Line chart of the loss on {spans}.")


def rho(data: ReportData) -> Markup:
    series = data.series("rho", "step", "rho")
    canvas = Canvas("optimizer step", "rho: share of dreams among the windows")
    for name, (xs, ys) in sorted(series.items(), reverse=True):
        canvas.line(xs, ys, *(("faint", name, 6) if name == "scheduled" else ("model", name)))
    shares = [share for _, ys in series.values() for share in ys]
    canvas.axes.set(xlim=(0, None), ylim=(0, 1.05 * max(0.1, *shares)))
    span = f"between {number(min(shares))} and {number(max(shares))}"
    return canvas.figure("Rho", f"Line chart: rho {span}, as scheduled and as drawn.")
