"""The CSV files behind validate's plots."""

from collections.abc import Iterator, Sequence
from dataclasses import astuple
from pathlib import Path
from typing import TypeVar

import numpy as np

from worldmodel.metrics import Agent, Scores
from worldmodel.realism import Realism
from worldmodel.scoring import Predictors, predict_raw, raw_inputs
from worldmodel.tables import write_csv
from worldmodel.windows import Packed, windows

EDGE, BINS = 2.0, 40  # scores beyond the edge count in the last bin; real ones lie around -1, dreamed ones around 1
Item = TypeVar("Item")
Row = tuple[object, ...]


def write_horizon(path: Path, scores: Scores) -> None:
    """Mean squared error at each frame of the horizon, of the model and of both floors."""
    columns = [scores.by_frame(values).tolist() for values in (scores.model, scores.linear, scores.persistence)]
    rows = [(frame, *errors) for frame, errors in enumerate(zip(*columns, strict=True), start=1)]
    write_csv(path, ("frame", "model", "ridge", "hold-last"), rows)


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
    write_csv(path, ("score", "real", "dream"), zip(middles, *counts, strict=True))


def write_trajectories(path: Path, predictors: Predictors, packed: Packed, scores: Scores) -> None:
    """Real and predicted features, raw units, of the hardest, a middling and the easiest test episode.

    Each prediction is open loop over one horizon and begins anew where the one before ends.
    """
    error = scores.by_episode(scores.model)
    chosen = _hard_middling_easy(sorted(error, key=lambda episode: -error[episode]))
    rows = [row for episode in chosen for row in _trajectory(predictors, packed, episode, scores.model.shape[1])]
    write_csv(path, ("episode", "feature", "frame", "series", "value"), rows)


def _trajectory(predictors: Predictors, packed: Packed, episode: int, horizon: int) -> Iterator[Row]:
    history = predictors.model.history
    every = windows(packed, np.array([episode]), history, horizon).every(horizon)
    batch = every.take(np.arange(len(every)))
    inputs = raw_inputs(batch, predictors.scaler)
    predicted = predict_raw(predictors.model, *inputs).features
    real = predictors.scaler.features.inverse(batch.features)
    exists = batch.weight > 0
    frames = (every.first - packed.starts[episode])[:, None] + np.arange(history, history + horizon)
    wrong = (np.abs(predicted - real) / predictors.scaler.features.scale)[exists].mean(axis=0)
    name = f"{packed.labels.agents[episode]} {packed.labels.names[episode]}"
    for feature in _hard_middling_easy([int(index) for index in np.argsort(-wrong)]):
        for series, values in (("real", real), ("predicted", predicted)):
            for frame, value in zip(frames[exists], values[exists][:, feature], strict=True):
                yield name, f"feature {feature}", int(frame), series, float(value)


def _hard_middling_easy(hardest_first: list[Item]) -> list[Item]:
    """The first, the middle and the last, as far as they differ."""
    places = sorted({0, len(hardest_first) // 2, len(hardest_first) - 1})
    return [hardest_first[place] for place in places]
