"""The charts of the page, one function each."""

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import groupby

import numpy as np
from markupsafe import Markup

from worldmodel.arrays.affine import Affine
from worldmodel.core.typing import Doubles
from worldmodel.evaluation.plots import named_from, names_of
from worldmodel.report.canvas import AGENTS, HIGH, LOW, PANEL, SQUARE, WIDE, Canvas
from worldmodel.report.collect import ReportData, Rows
from worldmodel.report.dreamed import Dreamed, Pair
from worldmodel.report.latents import Latents
from worldmodel.report.wording import count, number, percent

SERIES_COLORS = {"model": "model", "ridge": "ridge", "hold-last": "hold", "train": "ridge", "val": "model"}
SERIES_COLORS |= {"mean": "agent-2", "last change": "agent-3"}
DRAWN = ("model", "ridge", "hold-last")  # along the horizon, and the best floor
LOSSES = {"train": "train windows, dreams among them", "val": "val windows, observed"}
COLUMNS = ("frame", "real", "predicted", "low", "high")
PIECES = 6  # predictions of an episode, at most: those beside each other that were predicted worst
FEATURES = 2  # of each dream


def horizon(data: ReportData) -> Markup:
    """Errors that validate wrote, with intervals where these can be computed."""
    series = data.series("horizon", "frame", "mse")
    best = min((name for name in series if name != "model"), key=lambda name: sum(series[name][1]))
    series = {name: series[name] for name in series if name in DRAWN or name == best}
    canvas, values = Canvas("frames ahead", "mean squared error, standard deviations (log scale)"), list[float]()
    for name, (xs, ys) in series.items():
        values += [*ys, *_band(canvas, data, name, xs)]
        canvas.line(xs, ys, SERIES_COLORS.get(name, "hold"), name)
    canvas.logarithmic(values, "y")
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


def termination(data: ReportData) -> Markup | None:
    """How often the task ended where the model said how probable that is; None where it says nothing of endings."""
    canvas = Canvas("predicted probability that a frame ends the task", "share of such frames that did")
    canvas.line([0, 1], [0, 1], "hold", "as predicted")
    return _bins(canvas, data.plots.get("termination", ()), "predicted", "observed", "Endings")


def disagreement(data: ReportData) -> Markup | None:
    """Errors of windows by their disagreement; None where the model tells of none."""
    rows = data.plots.get("disagreement", ())
    canvas = Canvas("disagreement (log scale)", "mean squared error, standard deviations (log scale)")
    canvas.logarithmic([float(row["disagreement"]) for row in rows], "x")
    canvas.logarithmic([float(row["error"]) for row in rows], "y")
    return _bins(canvas, rows, "disagreement", "error", "Error by disagreement")


def _bins(canvas: Canvas, rows: Rows, x: str, y: str, title: str) -> Markup | None:
    """A dot for each, and a line that joins them."""
    if not rows:
        return None
    points = np.array([[float(row[key]) for key in (x, y)] for row in rows])
    told = [f"{y} {number(came)} where {x} is {number(said)}" for said, came in points.tolist()]
    titles = [f"{each}: {count(int(row['windows']))} of them" for each, row in zip(told, rows, strict=True)]
    canvas.line(points[:, 0], points[:, 1], "model")
    canvas.dots(points, "model", width=7, titles=titles)
    return canvas.figure(title, f"Line chart: {told[0]}, {told[-1]}.")


def against_baseline(tests: Rows, column: str, name: str) -> Markup:
    """Each test episode's error of the model against that of a baseline."""
    model, baseline = (np.array([float(row[key]) for row in tests]) for key in ("model", column))
    titles = [
        f"{row['agent_id']}, {row['episode']}: model {number(own)}, {name} {number(other)}"
        for row, own, other in zip(tests, model, baseline, strict=True)
    ]
    canvas = Canvas(f"error of {name} (log scale)", "error of the model (log scale)", SQUARE)
    _compare(canvas, baseline, model, "model", ("equally good", "an episode"), titles)
    better = f"better than {name} on {(model < baseline).sum()} of {len(tests)}"
    return canvas.figure(f"Each test episode: {better}", f"Scatter plot: the model is {better} test episodes.")


def changes(comparison: Dreamed, features: Affine) -> Markup:
    """How much each feature changes from frame to frame, in dreams and in reality."""
    real, dreamed = comparison.observed_change, comparison.dreamed_change
    canvas = Canvas("real, standard deviations (log scale)", "dreamed, standard deviations (log scale)", SQUARE)
    rows = zip(names_of(features), real, dreamed, strict=True)
    titles = [f"{name}: real {number(own)}, dreamed {number(other)}" for name, own, other in rows]
    _compare(canvas, real, dreamed, "dream", ("alike", "a feature"), titles)
    calmer = f"{(dreamed < real).sum()} of {len(real)} features"
    description = f"Scatter plot: {calmer} change less from frame to frame in dreams than in reality."
    return canvas.figure("How much features change from frame to frame", description)


def _compare(
    canvas: Canvas, xs: Doubles, ys: Doubles, color: str, labels: tuple[str, str], titles: Sequence[str]
) -> None:
    """A dot for each pair, on axes of one scale; what is 0 lies at their ends."""
    ends = canvas.logarithmic(np.concatenate([xs, ys]), "x", "y")
    canvas.line(ends, ends, "hold", labels[0])
    canvas.dots(np.clip(np.stack([xs, ys], axis=1), *ends), color, labels[1], width=7, titles=titles)


def predicted(rows: Rows) -> Iterator[Markup]:
    """The features of an episode that were predicted worst, where the first of them was."""
    shown = _worst_pieces(rows)
    for feature, group in groupby((row for row in rows if int(row["piece"]) in shown), lambda row: row["feature"]):
        canvas = Canvas("frame of the episode", "raw units", WIDE)
        pieces = [list(piece) for _, piece in groupby(group, lambda row: row["piece"])]
        values = [float(row[key]) for piece in pieces for row in piece for key in ("real", "predicted")]
        margin = 0.15 * (max(values) - min(values)) or 1.0
        ends = min(values) - margin, max(values) + margin
        for place, piece in enumerate(pieces):
            labels = ("90 % interval", "real", "predicted") if place == 0 else (None,) * 3
            frames, real, middle, low, high = (np.array([float(row[key]) for row in piece]) for key in COLUMNS)
            canvas.band(frames, np.clip(low, *ends), np.clip(high, *ends), "model", labels[0])
            canvas.line(frames, real, "real", labels[1])
            canvas.line(frames, middle, "model", labels[2])
        canvas.axes.set_ylim(ends)
        canvas.axes.margins(x=0)
        yield canvas.figure(feature, f"Line chart of {feature}: real, predicted and its 90 % interval.")


def _worst_pieces(rows: Rows) -> range:
    """By the feature that was predicted worst, which comes first."""
    first = [row for row in rows if row["feature"] == rows[0]["feature"]]
    errors = np.square([float(row["predicted"]) - float(row["real"]) for row in first])
    by_piece = np.bincount([int(row["piece"]) for row in first], errors)
    begin = int(np.convolve(by_piece, np.ones(min(PIECES, len(by_piece))), "valid").argmax())
    return range(begin, begin + PIECES)


def most_seen(latents: Latents) -> list[str]:
    """The agents with most windows, by name; each has a color of its own."""
    return sorted(agent for agent, _ in Counter(sorted(latents.agents)).most_common(len(AGENTS)))


def by_agent(latents: Latents) -> Markup:
    canvas, names, agents = _latent_canvas(latents), most_seen(latents), np.array(latents.agents, object)
    if (others := ~np.isin(agents, names)).any():
        canvas.dots(latents.held_out[others], "hold", "other agents")
    for agent, color in zip(names, AGENTS, strict=False):
        canvas.dots(latents.held_out[agents == agent], color)
    description = f"Scatter plot of test windows, those of {len(names)} agents in colors of their own."
    return canvas.figure("Test windows, by agent", description, names)


def by_source(latents: Latents) -> Markup:
    canvas = _latent_canvas(latents)
    canvas.dots(latents.observed, "model", "observed")
    canvas.dots(latents.dreamed, "dream", "dreamed")
    windows = f"{len(latents.observed)} observed and {len(latents.dreamed)} dreamed train windows"
    return canvas.figure("Train windows, by source", f"Scatter plot of {windows}.")


def one_agent(latents: Latents, agent: str) -> Markup:
    canvas, own = _latent_canvas(latents, PANEL), latents.held_out[np.array(latents.agents, object) == agent]
    canvas.axes.set_axis_off()
    canvas.axes.set_title("", loc="left")
    canvas.dots(latents.held_out[:: 1 + len(latents.held_out) // 500], "faint")
    canvas.dots(own, AGENTS[most_seen(latents).index(agent)])
    return canvas.figure(agent, f"The {len(own)} windows of {agent} among those of all test episodes.")


def _latent_canvas(latents: Latents, size: tuple[int, int] = SQUARE) -> Canvas:
    x, y = (f"principal direction {n + 1} ({percent(latents.explained[n], 0)} of the variance)" for n in (0, 1))
    canvas = Canvas(x, y, size)
    canvas.axes.update_datalim(np.concatenate([latents.held_out, latents.observed, latents.dreamed]))
    return canvas


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


def beside_the_log(pair: Pair, features: Affine, history: int) -> Iterator[Markup]:
    frames, names = pair.begin + np.arange(len(pair.real)), names_of(features)
    for feature, real, dream in pair.most_variable(features, FEATURES):
        canvas, (title, origin) = (
            Canvas("frame of the logged episode", "raw units", LOW),
            named_from(names[feature], real),
        )
        real, dream = real - origin, dream - origin
        ends = [np.fmin.reduce([*real, *dream]), np.fmax.reduce([*real, *dream])]
        canvas.line([frames[history - 1]] * 2, ends, "hold", "end of the history")
        canvas.line(frames, real, "real", "real")
        canvas.line(frames, dream, "dream", "dreamed")
        canvas.axes.margins(x=0)
        yield canvas.figure(title, f"Line chart of {title}: what was logged, and the dream that began with it.")


def loss(data: ReportData) -> Markup:
    series = data.series("loss", "step", "loss")
    canvas = Canvas("optimizer step", f"mean squared error, {data.unit} (log scale)", HIGH)
    ends = canvas.logarithmic([value for _, ys in series.values() for value in ys], "y")
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
