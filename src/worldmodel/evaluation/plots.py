"""The CSV files behind validate's plots."""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from worldmodel.arrays.affine import Affine
from worldmodel.arrays.windows import Windows, windows
from worldmodel.core.student_t import half_width
from worldmodel.core.tables import write_csv
from worldmodel.core.typing import Reals
from worldmodel.dreams.realism import Realism
from worldmodel.evaluation.metrics import NOMINAL, Agent, Episode, Feature, Scores
from worldmodel.evaluation.reliability import Disagreement, Endings
from worldmodel.evaluation.scoring import Predictors
from worldmodel.evaluation.verdict import Verdict
from worldmodel.model.baselines import FLOORS

EDGE, BINS = 2.0, 40  # scores beyond the edge count in the last bin; real ones lie around -1, dreamed ones around 1
SHOWN = 3  # worst predicted features of an episode
FAR = 1e-3  # values whose range is a smaller share of their size are shown from an origin on


def write_horizon(path: Path, scores: Scores) -> None:
    """Mean squared error at each frame of the horizon, of the model and of the floors."""
    rows = [
        (frame, name, float(error))
        for part, name in {"model": "model", **FLOORS}.items()
        for frame, error in enumerate(scores.by_frame(scores[part]), start=1)
    ]
    write_csv(path, ("frame", "series", "mse"), rows)


def write_coverage(path: Path, scores: Scores) -> None:
    """Share of features within the 90 % intervals at each frame of the horizon and the nominal share."""
    held = scores.by_frame(scores["covered"]).tolist()
    columns = {"held": held, "asked for": [NOMINAL] * len(held)}
    rows = [(frame, name, share) for name, shares in columns.items() for frame, share in enumerate(shares, start=1)]
    write_csv(path, ("frame", "series", "coverage"), rows)


def write_agents(path: Path, agents: Sequence[Agent]) -> None:
    """One row an agent, worst first."""
    header = ("agent", "episodes", "model", *FLOORS.values(), "worst_episode", "worst_episode_model")
    rows = [
        (row.agent_id, row.episodes, row.model, *map(row.floors.__getitem__, FLOORS), row.worst.name, row.worst.model)
        for row in agents
    ]
    write_csv(path, header, rows)


def write_episodes(path: Path, episodes: Sequence[Episode]) -> None:
    """One row an episode, sorted: mean squared errors of the model and of the floors."""
    header = ("split", "agent_id", "episode", "windows", "model", *FLOORS)
    rows = [
        (row.split, row.agent_id, row.name, row.windows, row.model, *map(row.floors.__getitem__, FLOORS))
        for row in episodes
    ]
    write_csv(path, header, sorted(rows))


def write_features(path: Path, features: Sequence[Feature]) -> None:
    """One row a feature, worst first: mean squared errors, the share of readings that the 90 % intervals hold, the
    skill over its best floor, nats, and the share of its readings that are outside of the train range.
    """
    header = ("feature", "model", "ridge", "hold-last", "held", "mean", "last change", "skill", "likelihood", "outside")
    rows = [
        (
            *(row.name, row.model, row.floors["linear"], row.floors["persistence"], row.covered, row.floors["mean"]),
            *(row.floors["last_change"], row.skill, row.log_likelihood, row.outside),
        )
        for row in features
    ]
    write_csv(path, header, rows)


def write_verdict(path: Path, verdict: Verdict) -> None:
    """One row a reason, whether it holds, and what is to be said of it; first whether the model is to be trusted."""
    write_csv(path, ("reason", "holds", "text"), verdict.rows)


def names_of(columns: Affine, what: str = "feature") -> list[str]:
    """Each raw column's name and unit; its number where it has no name, or not one of its own."""
    names = [each.name for each in columns.columns] or [""] * columns.width
    units = [f" ({each.unit})" if each.unit else "" for each in columns.columns] or [""] * columns.width
    return [
        name + unit if name and names.count(name) == 1 else f"{name} {what} {number}{unit}".strip()
        for number, (name, unit) in enumerate(zip(names, units, strict=True))
    ]


def named_from(name: str, values: Reals) -> tuple[str, float]:
    """The name, and what to subtract so that a few digits show how values far from 0 move; the name says so."""
    low, high = float(np.fmin.reduce(values)), float(np.fmax.reduce(values))
    if not 0 < high - low < FAR * max(abs(low), abs(high)):
        return name, 0.0
    unit = 10.0 ** math.ceil(math.log10(high - low))
    origin = math.floor(low / unit) * unit
    return f"{name} minus {origin:.15g}", origin


def write_realism(path: Path, result: Realism | None) -> None:
    """How many real and dreamed windows get which score; more means: more like a dream. All 0 without dreams."""
    scores = [np.zeros(0), np.zeros(0)] if result is None else [result.real, result.dream]
    edges = np.linspace(-EDGE, EDGE, BINS + 1)
    counts = [np.histogram(np.clip(each, -EDGE, EDGE), edges)[0].tolist() for each in scores]
    middles = ((edges[:-1] + edges[1:]) / 2).tolist()
    rows = [
        (middle, name, count)
        for name, column in zip(("real", "dreamed"), counts, strict=True)
        for middle, count in zip(middles, column, strict=True)
    ]
    write_csv(path, ("score", "series", "windows"), rows)


def write_termination(path: Path, found: Endings | None) -> None:
    """For each bin of the probability that a frame ends the task: its mean, the share that did, how many there are."""
    write_csv(path, ("predicted", "observed", "windows"), found.bins if found else ())


def write_disagreement(path: Path, found: Disagreement | None) -> None:
    """For each quantile of the disagreement: its mean, the mean squared error, how many windows there are."""
    write_csv(path, ("disagreement", "error", "windows"), found.bins if found else ())


def write_predicted(path: Path, predictors: Predictors, held_out: Windows, episode: Episode) -> None:
    """An episode's worst predicted features, worst first: real, predicted and the 90 % interval, raw units; no rows for
    readings that are missing.

    Each piece of a prediction is open loop over one horizon and begins anew where the one before ends.
    """
    every = windows(held_out.packed, np.array([episode.number]), held_out.history, held_out.horizon)
    whole = every.every(held_out.horizon)
    batch = whole.take(np.arange(len(whole)))
    future, features, exists = predictors.future(batch), predictors.scaler.features, batch.weight > 0
    begin = whole.first - whole.packed.starts[episode.number] + whole.history
    piece, ahead = np.nonzero(exists)
    real, predicted = predictors.real(batch)[exists], future.features[exists]
    half = half_width(predictors.model.degrees_of_freedom) * future.std[exists]
    columns = np.stack([real, predicted, predicted - half, predicted + half], axis=-1).astype(float)
    there, squared = ~np.isnan(real), np.square(features.residual(predicted, real))
    wrong = np.where(there, squared, 0).sum(axis=0) / np.maximum(there.sum(axis=0), 1)
    names, frames = names_of(features), list(zip((begin[piece] + ahead).tolist(), piece.tolist(), strict=True))
    rows = []
    for feature in np.argsort(-wrong, kind="stable")[:SHOWN].tolist():
        name, origin = named_from(names[feature], real[:, feature])
        for row in np.flatnonzero(there[:, feature]).tolist():
            values = (columns[row, feature] - origin).tolist()
            rows.append((episode.agent_id, episode.name, name, *frames[row], *values))
    write_csv(path, ("agent", "episode", "feature", "frame", "piece", "real", "predicted", "low", "high"), rows)
