"""The bundle and the baselines on held-out episodes, as validate has them, with intervals.

Dimension key: W windows, K horizon, N episodes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from worldmodel.arrays.packing import PackedData
from worldmodel.arrays.scaler import Scaler
from worldmodel.arrays.windows import Packed, Windows, windows
from worldmodel.client import WorldModel
from worldmodel.core.tables import read_csv
from worldmodel.core.temporary import temporary_folder
from worldmodel.core.typing import Doubles
from worldmodel.evaluation import metrics, plots
from worldmodel.evaluation.intervals import Means, means
from worldmodel.evaluation.metrics import Episode, Scores
from worldmodel.evaluation.scoring import Predictors, score
from worldmodel.model.artifact import read_compute
from worldmodel.model.baselines import FLOORS
from worldmodel.numerics.setup import configure

# Series -> part of Scores
SERIES = {"model": "model", "held": "covered"} | {name: floor for floor, name in FLOORS.items()}


@dataclass(frozen=True)
class Scored:
    predictors: Predictors
    packed: Packed
    held_out: Windows
    scores: Scores
    episodes: Sequence[Episode]  # worst first

    @cached_property
    def intervals(self) -> Mapping[str, Means]:
        """Series of validate's plots -> its mean at each frame of the horizon, and last over all of them."""
        weight = self.scores.weight.astype(float)
        reached = int((weight.sum(axis=0) > 0).cumprod().sum())
        weights = self._sums(weight, reached)
        return {
            series: means(self._sums(self.scores[part] * weight, reached), weights) for series, part in SERIES.items()
        }

    def _sums(self, values: Doubles, reached: int) -> Doubles:
        """[W, K] -> sums within each episode at each frame that is reached, and over all of them, [N, reached + 1]"""
        episodes, row = np.unique(self.scores.episode, return_inverse=True)
        summed: NDArray[np.float64] = np.zeros((len(episodes), values.shape[1]))
        np.add.at(summed, row, values)
        return np.concatenate([summed[:, :reached], summed.sum(axis=1, keepdims=True)], axis=1)

    def predicted(self, episode: Episode) -> list[dict[str, str]]:
        """Rows as validate writes them for its one episode."""
        with temporary_folder() as folder:
            path = folder / "predicted.csv"
            plots.write_predicted(path, self.predictors, self.held_out, episode)
            return read_csv(path.read_text(encoding="utf-8"))


def score_bundle(bundle: Path, data: PackedData, horizon: int | None) -> Scored | None:
    """None where no test episode is long enough. Raises ValueError where the arrays have other scales."""
    configure(read_compute(bundle))
    model, scaler = WorldModel.load(bundle), Scaler.read(bundle / "normalizer.json")
    data.require_scales(scaler, bundle / "normalizer.json")
    packed = data.packed
    held_out = windows(packed, packed.where("test"), model.history, horizon or model.horizon)
    if not len(held_out):
        return None
    predictors = Predictors.fitted(model, scaler, packed)
    scores = score(predictors, held_out)
    episodes = sorted(metrics.episodes(scores, packed.labels), key=lambda row: -row.model)
    return Scored(predictors, packed, held_out, scores, episodes)
