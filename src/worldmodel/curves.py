"""The CSV files behind validate's plots."""

from collections.abc import Iterator, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np

from worldmodel.metrics import Agent, Scores
from worldmodel.realism import Realism
from worldmodel.scoring import Predictors, predict_raw, raw_inputs
from worldmodel.tables import write_csv
from worldmodel.windows import Floats, Ints, Packed, windows

EDGE, BINS = 2.0, 40  # scores beyond the edge count in the last bin; real ones lie around -1, dreamed ones around 1
Item = TypeVar("Item")


def write_horizon(path: Path, scores: Scores) -> None:
    """Mean squared error at each frame of the horizon, of the model and of both floors."""
    errors = {"model": scores.model, "ridge": scores.linear, "hold-last": scores.persistence}
    rows = [
        (frame, name, float(error))
        for name, values in errors.items()
        for frame, error in enumerate(scores.by_frame(values), start=1)
    ]
    write_csv(path, ("frame", "series", "mse"), rows)


def write_agents(path: Path, agents: Sequence[Agent]) -> None:
    """One row an agent, worst first."""
    header = ("agent", "episodes", "model", "ridge", "hold-last", "worst_episode", "worst_episode_model")
    write_csv(path, header, (astuple(agent) for agent in agents))


def write_realism(path: Path, found: Realism | None) -> None:
    """How many real and dreamed windows get which score; more means: more like a dream. All 0 without dreams."""
    scores = [np.zeros(0), np.zeros(0)] if found is None else [found.real, found.dream]
    edges = np.linspace(-EDGE, EDGE, BINS + 1)
    counts = [np.histogram(np.clip(each, -EDGE, EDGE), edges)[0].tolist() for each in scores]
    middles = ((edges[:-1] + edges[1:]) / 2).tolist()
    rows = [
        (middle, name, count)
        for name, column in zip(("real", "dreamed"), counts, strict=True)
        for middle, count in zip(middles, column, strict=True)
    ]
    write_csv(path, ("score", "series", "windows"), rows)


def write_trajectories(path: Path, predictors: Predictors, packed: Packed, scores: Scores) -> None:
    """Real and predicted features, raw units: the hardest, a middling and the easiest test episode, features likewise.

    Each piece of a prediction is open loop over one horizon and begins anew where the one before ends.
    """
    error = scores.by_episode(scores.model)
    episodes = _hard_middling_easy(sorted(error, key=lambda episode: -error[episode]))
    horizon = scores.model.shape[1]
    shown = [_trajectory(predictors, packed, episode, horizon) for episode in episodes]
    wrong = np.concatenate([np.abs(each.predicted - each.real) for each in shown]) / predictors.scaler.features.scale
    features = _hard_middling_easy(np.argsort(-wrong.mean(axis=0)).tolist())
    rows = [row for each in shown for feature in features for row in _rows(each, feature)]
    write_csv(path, ("episode", "feature", "frame", "piece", "series", "value"), rows)


@dataclass(frozen=True)
class _Trajectory:
    name: str
    frames: Ints  # [T] numbers within the episode
    pieces: Ints  # [T] which prediction a frame belongs to
    real: Floats  # [T, F] raw units
    predicted: Floats  # [T, F]


def _trajectory(predictors: Predictors, packed: Packed, episode: int, horizon: int) -> _Trajectory:
    history = predictors.model.history
    every = windows(packed, np.array([episode]), history, horizon).every(horizon)
    batch = every.take(np.arange(len(every)))
    exists = batch.weight > 0
    frames = (every.first - packed.starts[episode])[:, None] + np.arange(history, history + horizon)
    return _Trajectory(
        name=f"{packed.labels.agents[episode]} {packed.labels.names[episode]}",
        frames=frames[exists],
        pieces=np.repeat(np.arange(len(every)), horizon).reshape(frames.shape)[exists],
        real=predictors.scaler.features.inverse(batch.features)[exists],
        predicted=predict_raw(predictors.model, *raw_inputs(batch, predictors.scaler)).features[exists],
    )


def _rows(shown: _Trajectory, feature: int) -> Iterator[tuple[object, ...]]:
    for frame, piece, real, predicted in zip(
        shown.frames, shown.pieces, shown.real[:, feature], shown.predicted[:, feature], strict=True
    ):
        yield shown.name, f"feature {feature}", int(frame), 0, "real", float(real)
        yield shown.name, f"feature {feature}", int(frame), int(piece), "predicted", float(predicted)


def _hard_middling_easy(hardest_first: list[Item]) -> list[Item]:
    """The first, the middle and the last, as far as they differ."""
    places = sorted({0, len(hardest_first) // 2, len(hardest_first) - 1})
    return [hardest_first[place] for place in places]
