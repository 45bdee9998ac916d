"""The worst held-out episodes: what was predicted against what came."""

import csv
import math
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from tempfile import TemporaryDirectory

from worldmodel.evaluation import plots as curves
from worldmodel.report.axis import frames, linear
from worldmodel.report.chart import Band, Chart, Line, stacked
from worldmodel.report.markup import Html, Section, join, missing, name, paragraph, tag
from worldmodel.report.material import Material
from worldmodel.report.outputs import Rows
from worldmodel.report.scored import Scored
from worldmodel.report.wording import number

SHOWN = 3  # episodes
PIECES = 6  # predictions of an episode, at most: those beside each other that were predicted worst
NOTE = (
    "The three features that were predicted worst, where the first of them was. Each prediction is open loop over one "
    "horizon and begins anew from what really came where the one before ends. Intervals that leave a picture are cut."
)


def worst(material: Material) -> Section:
    return Section("worst", "Worst episodes, predicted against real", _body(material))


def _body(material: Material) -> Html:
    if material.scored:
        told = [(row.agent_id, row.name, row.model) for row in material.scored.episodes[:SHOWN]]
        rows = [_predicted(material.scored, rank) for rank in range(len(told))]
    else:
        committed = material.outputs.plots.get("predicted")
        if not committed:
            return missing("artifacts/plots/predicted.csv", "dvc repro validate")
        told, rows = [(committed[0]["agent"], committed[0]["episode"], math.nan)], [committed]
    parts = [paragraph(NOTE, class_="note")]
    for (agent, episode, error), each in zip(told, rows, strict=True):
        parts += [_heading(agent, episode, error), stacked(_charts(each))]
    if not material.scored:
        parts.append(missing("More episodes (they need the bundle and the packed arrays)", "dvc pull", "make repro"))
    return join(parts)


def _heading(agent: str, episode: str, error: float) -> Html:
    known = f": error {number(error)}" if math.isfinite(error) else ""
    return tag("h3", name(episode), " of ", name(agent), known)


def _predicted(scored: Scored, rank: int) -> Rows:
    """As validate writes them for its one episode."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "predicted.csv"
        curves.write_predicted(path, scored.predictors, scored.held_out, scored.episodes[rank])
        return list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))


def _charts(rows: Rows) -> Iterator[Chart]:
    shown = _worst_pieces(rows)
    for feature, group in groupby(rows, lambda row: row["feature"]):
        yield _chart(feature, [row for row in group if int(row["piece"]) in shown])


def _worst_pieces(rows: Rows) -> range:
    """By the feature that was predicted worst, which comes first."""
    wrong: dict[int, float] = {}
    for row in rows:
        if row["feature"] == rows[0]["feature"]:
            error = (float(row["predicted"]) - float(row["real"])) ** 2
            wrong[int(row["piece"])] = wrong.get(int(row["piece"]), 0.0) + error
    begins = range(max(1, len(wrong) - PIECES + 1))
    begin = max(begins, key=lambda first: sum(wrong[piece] for piece in sorted(wrong)[first : first + PIECES]))
    return range(begin, begin + PIECES)


def _chart(feature: str, rows: Rows) -> Chart:
    xs = _broken([float(row["frame"]) for row in rows], rows)
    real, predicted, low, high = (
        _broken([float(row[key]) for row in rows], rows) for key in ("real", "predicted", "low", "high")
    )
    axis = frames("frame of the episode", int(float(rows[0]["frame"])), int(float(rows[-1]["frame"])))
    marks = (
        Band(xs, low, high, "model", "90 % interval"),
        Line(xs, real, "real", "real"),
        Line(xs, predicted, "model", "predicted"),
    )
    y = linear("raw units", [*real, *predicted], margin=0.15)
    return Chart(feature, f"Line chart of {feature}: real, predicted and its 90 % interval.", axis, y, marks, "low")


def _broken(values: Sequence[float], rows: Rows) -> list[float]:
    """With a gap where a new prediction begins."""
    found: list[float] = []
    for place, (value, row) in enumerate(zip(values, rows, strict=True)):
        if place and row["piece"] != rows[place - 1]["piece"]:
            found.append(math.nan)
        found.append(value)
    return found
