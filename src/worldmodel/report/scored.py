"""The bundle and the floors on held-out episodes, as validate has them, with intervals."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from worldmodel.arrays.packing import PackedData
from worldmodel.arrays.scaler import Scaler
from worldmodel.arrays.windows import Windows, windows
from worldmodel.client import WorldModel
from worldmodel.core.typing import Doubles
from worldmodel.evaluation import metrics
from worldmodel.evaluation.intervals import Means, means
from worldmodel.evaluation.metrics import Episode, Scores
from worldmodel.evaluation.scoring import Predictors, score
from worldmodel.model.artifact import read_compute
from worldmodel.model.baselines import linear_baseline
from worldmodel.numerics import setup
from worldmodel.report.outputs import Outputs

SERIES = {"model": "model", "ridge": "linear", "hold-last": "persistence", "held": "covered"}  # fields of Scores
NEAR = 1e-3  # relative; another processor's last bits are no other model


@dataclass(frozen=True)
class Scored:
    predictors: Predictors
    data: PackedData
    held_out: Windows
    scores: Scores
    episodes: Sequence[Episode]  # worst first

    @cached_property
    def intervals(self) -> Mapping[str, Means]:
        """Series of validate's plots -> its mean at each frame of the horizon, and last over all of them."""
        weight = self.scores.weight.astype(float)
        reached = int((weight.sum(axis=0) > 0).sum())
        below = self._columns(weight, reached)
        return {
            series: means(self._columns(getattr(self.scores, column) * weight, reached), below)
            for series, column in SERIES.items()
        }

    def _columns(self, values: Doubles, reached: int) -> Doubles:
        """[W, K] -> sums within each episode at each frame that is reached, and over all of them, [N, reached + 1]"""
        summed = self._summed(values)
        return np.concatenate([summed[:, :reached], summed.sum(axis=1, keepdims=True)], axis=1)

    def _summed(self, values: Doubles) -> Doubles:
        """[W, K] -> [N, K], one row an episode"""
        which, row = np.unique(self.scores.episode, return_inverse=True)
        total: NDArray[np.float64] = np.zeros((len(which), values.shape[1]))
        np.add.at(total, row, values)
        return total


def score_bundle(outputs: Outputs) -> Scored | None:
    """None where the bundle or the arrays are not here, or no test episode is long enough.

    Raises ValueError where bundle, arrays and plots do not belong together.
    """
    if outputs.bundle is None or outputs.data is None:
        return None
    setup.configure(read_compute(outputs.bundle))
    model, scaler = WorldModel.load(outputs.bundle), Scaler.read(outputs.bundle / "normalizer.json")
    outputs.data.require_scales(scaler, outputs.bundle / "normalizer.json")
    packed = outputs.data.packed
    horizon = min(model.horizon, int(outputs.params.get("validate.horizon", model.horizon)))
    held_out = windows(packed, packed.where("test"), model.history, horizon)
    if not len(held_out):
        return None
    predictors = Predictors(model, scaler, linear_baseline(packed))
    scores = score(predictors, held_out)
    episodes = sorted(metrics.episodes(scores, packed.labels), key=lambda row: -row.model)
    _require_measured(outputs, scores.mean(scores.model))
    return Scored(predictors, outputs.data, held_out, scores, episodes)


def _require_measured(outputs: Outputs, error: float) -> None:
    told = outputs.metrics.get("mse.mean")
    if told is not None and abs(error - told) > NEAR * abs(told):
        raise ValueError(
            f"artifacts/metrics.json: mse.mean is {told:g}, the bundle {outputs.bundle} has {error:g}: they do not "
            "belong together; run `dvc checkout` or `dvc repro validate`"
        )
