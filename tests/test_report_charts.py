"""The charts of the report: what is drawn is the data."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from matplotlib import style

from test_model_report import lay_out, write_run
from worldmodel.report import charts, control_charts
from worldmodel.report.canvas import STYLE
from worldmodel.report.collect import collect
from worldmodel.report.dreamed import Pair


@pytest.fixture
def data(project, tmp_path, monkeypatch):
    monkeypatch.chdir(lay_out(project, tmp_path))
    with style.context(STYLE, after_reset=True):
        yield collect()


def paths(figure: str, color: str) -> list[np.ndarray]:
    """Points of each path that is drawn in the color, [N, 2], y upwards."""
    drawn = re.findall(rf'<path d="([^"]*)"[^>]*var\(--{color}\)', figure)
    pairs = [re.findall(r"[ML](-?[\d.]+) (-?[\d.]+)", path) for path in drawn]
    return [np.array(each, float) * (1, -1) for each in pairs]


def dots(figure: str, color: str) -> np.ndarray:
    """Those that are a path each."""
    return np.concatenate([path for path in paths(figure, color) if len(path) == 1])


def alike(path: np.ndarray, points: np.ndarray) -> bool:
    """But for scale and offset of x and y, for a tenth of a pixel, and for points that are drawn once for twice."""
    path, points = (each[np.abs(each - np.roll(each, -1, axis=0)).max(axis=1) > 0] for each in (path, points))
    if len(path) != len(points):
        return False
    path, points = (((each - each.min(axis=0)) / np.ptp(each, axis=0).clip(1e-9)) for each in (path, points))
    return bool(np.abs(path - points).max() < 0.005)


def drawn(figure: str, color: str, xs, ys) -> bool:
    return any(alike(path, np.stack([xs, ys], axis=1).astype(float)) for path in paths(figure, color))


def test_lines_are_the_columns_of_the_files(data):
    for chart, plot, x, y, colors, scale in (
        (charts.horizon, "horizon", "frame", "mse", {"model": "model", "ridge": "ridge", "hold-last": "hold"}, np.log),
        (charts.coverage, "coverage", "frame", "coverage", {"held": "model"}, np.asarray),
        (charts.loss, "loss", "step", "loss", {"train": "ridge", "val": "model"}, np.log),
        (charts.rho, "rho", "step", "rho", {"drawn": "model"}, np.asarray),
    ):
        series = data.series(plot, x, y)
        for name, color in colors.items():
            assert drawn(chart(data), color, series[name][0], scale(series[name][1])), (plot, name)


def test_bands_are_the_intervals(data):
    for figure, series, color, scale in (
        (charts.horizon(data), "ridge", "ridge", np.log),
        (charts.coverage(data), "held", "model", np.asarray),
    ):
        low, high = data.scored.intervals[series].low[:-1], data.scored.intervals[series].high[:-1]
        frames = [*range(len(low)), *reversed(range(len(low)))]
        assert drawn(figure, color, frames, scale([*low, *reversed(high)])), series


def test_worst_pieces_of_an_episode_are_shown_as_validate_wrote_them(data):
    rows = data.plots["predicted"]
    feature = [row for row in rows if row["feature"] == rows[0]["feature"]]
    figure, *_ = charts.predicted(rows)
    for piece in {row["piece"] for row in feature}:
        for key, color in (("real", "real"), ("predicted", "model")):
            columns = ([float(row[name]) for row in feature if row["piece"] == piece] for name in ("frame", key))
            assert drawn(figure, color, *columns), (piece, key)
    errors = {str(piece): "2" if piece in (7, 8) else "1" for piece in range(12)}
    many = [rows[0] | {"piece": piece, "predicted": error, "real": "0"} for piece, error in errors.items()]
    assert {7, 8} < set(charts._worst_pieces(many)) < set(range(12))


def test_dots_are_the_data(data):
    figure = charts.against_baseline(data.tests, "linear", "ridge")
    errors = np.log([[float(row[key]) for key in ("linear", "model")] for row in data.tests])
    assert alike(dots(figure, "model"), errors)
    assert all(f"<title>{row['agent_id']}, {row['episode']}: model " in figure for row in data.tests)
    changes = np.log([data.dreamed.observed_change, data.dreamed.dreamed_change]).T
    assert alike(dots(charts.changes(data.dreamed, data.scaler.features), "dream"), changes)
    latents, agents = data.latents, charts.most_seen(data.latents)
    own = latents.held_out[np.array(latents.agents) == agents[1]]
    assert drawn(charts.by_source(latents), "model", *latents.observed.T)
    assert drawn(charts.by_source(latents), "dream", *latents.dreamed.T)
    assert drawn(charts.by_agent(latents), "agent-1", *own.T)
    assert drawn(charts.one_agent(latents, agents[1]), "agent-1", *own.T)


def test_what_the_model_says_of_itself_is_drawn_as_validate_wrote_it_and_not_at_all_where_it_says_nothing(data):
    bins = [(0.04, 0.01, 1234), (0.37, 0.5, 10), (0.96, 0.9, 1)]
    for chart, (said, came), scale, title in (
        (
            charts.termination,
            ("predicted", "observed"),
            np.asarray,
            "observed 0.0100 where predicted is 0.0400: 1,234 ",
        ),
        (charts.disagreement, ("disagreement", "error"), np.log, "error 0.500 where disagreement is 0.370: 10 "),
    ):
        rows = [{said: str(one), came: str(other), "windows": str(n)} for one, other, n in bins]
        figure = chart(replace(data, plots={chart.__name__: rows}))
        points = scale([[one, other] for one, other, _ in bins])
        assert drawn(figure, "model", *points.T)
        assert alike(dots(figure, "model"), points)
        assert f"<title>{title}" in figure
        assert chart(replace(data, plots={chart.__name__: []})) is None
        chart(replace(data, plots={chart.__name__: [rows[0] | {said: "0", came: "0"}]}))


def test_a_histogram_has_the_counts(data):
    counts = {"real": [0, 3, 1, 0], "dreamed": [1, 0, 0, 2]}
    rows = [
        {"score": str(score), "series": name, "windows": str(count)}
        for name, column in counts.items()
        for score, count in zip((-1.5, -0.5, 0.5, 1.5), column, strict=True)
    ]
    figure = charts.realism(replace(data, plots={"realism": rows}))
    for name, color in (("real", "real"), ("dreamed", "dream")):
        steps = np.repeat([-2, -1, 0, 1, 2], 2), np.concatenate([[0], np.repeat(counts[name], 2), [0]])
        assert drawn(figure, color, *steps), name


def test_dreams_are_laid_beside_the_log(data):
    real, dream = np.random.default_rng(0).normal(size=(2, 6, 2)).astype(np.float32)
    pair, features = Pair("agent-0", "dream-0", 5, real, dream, 1.0), data.scaler.features
    for figure, (_, *columns) in zip(
        charts.beside_the_log(pair, features, 3), pair.most_variable(features, 2), strict=True
    ):
        for color, column in zip(("real", "dream"), columns, strict=True):
            assert drawn(figure, color, range(6), column)


def test_a_run_in_a_simulator_is_drawn_as_it_went_beside_what_was_predicted(data):
    write_run(Path.cwd())
    run = collect().controlled[0]
    trace, along = run.trace, "".join(control_charts.return_along(run))
    for color, values in (("real", trace.reward), ("model", trace.predicted_reward)):
        assert drawn(along, color, range(6), values)
        assert drawn(along, color, range(6), np.cumsum(values))
    assert drawn(control_charts.disagreement_along(run), "model", range(6), trace.disagreement)
    plan, came = trace.plans[0], np.array(trace.features)
    for feature, figure in enumerate(control_charts.plan_and_came(run, plan, (0, 1))):
        expected, std = (np.array(each)[:, feature] for each in (plan.features, plan.std))
        assert drawn(figure, "model", range(3), expected)
        assert drawn(figure, "model", [0, 1, 2, 2, 1, 0], [*(expected - std), *(expected + std)[::-1]])
        assert drawn(figure, "real", range(1, 6), came[1:6, feature])
    silent = replace(run, trace=replace(trace, disagreement=None, predicted_reward=None))
    assert control_charts.disagreement_along(silent) is None
    assert not paths("".join(control_charts.return_along(silent)), "model")


def test_a_line_of_one_frame_is_a_dot(data):
    plots = {"horizon": [row for row in data.plots["horizon"] if row["frame"] == "1"]}
    figure = charts.horizon(replace(data, plots=plots, scored=None))
    assert all(len(dots(figure, color)) == 1 for color in ("model", "ridge", "hold"))


@pytest.mark.parametrize("errors", [("0", "10"), ("0", "0")])
def test_an_error_of_0_lies_within_the_picture(errors, data):
    tests = [{"agent_id": "a", "episode": error, "model": error, "linear": error} for error in errors]
    points = dots(charts.against_baseline(tests, "linear", "ridge"), "model")
    assert ((points > (0, -370)) & (points < (360, 0))).all()
