"""The bundle and the baselines on held-out windows: raw units through the client, scores in standardized units."""

from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from tempfile import TemporaryFile
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from worldmodel.arrays.mapped import mapped
from worldmodel.arrays.scaler import Scaler
from worldmodel.arrays.windows import Batch, Windows
from worldmodel.client import Future, WorldModel
from worldmodel.core.typing import Doubles, Floats, Ints, Reals
from worldmodel.evaluation.metrics import Scores, covered, log_likelihood, over_features
from worldmodel.model.baselines import LinearModel, persistence

CHUNK = 512  # windows predicted at once


class RawInputs(NamedTuple):
    """What the bundle is asked about, raw units; K planned frames."""

    history: Reals  # [B, H, F], NaN where a reading is missing
    past_actions: Reals  # [B, H-1, A]
    planned_actions: Reals  # [B, K, A]
    past_context: Reals  # [B, H-1, C]
    planned_context: Reals  # [B, K, C]

    @property
    def past(self) -> dict[str, Reals]:
        """Named as the encoder names them; what the logs do not have is absent."""
        return _given(self.past_actions, self.past_context)

    @property
    def planned(self) -> dict[str, Reals]:
        return _given(self.planned_actions, self.planned_context)


def _given(actions: Reals, context: Reals) -> dict[str, Reals]:
    return {name: array for name, array in (("actions", actions), ("context", context)) if array.size}


@dataclass(frozen=True)
class Predictors:
    model: WorldModel
    scaler: Scaler
    linear_model: LinearModel

    def future(self, batch: Batch) -> Future:
        """What `control` would get for this batch, raw units."""
        return predict_raw(self.model, raw_inputs(batch, self.scaler))

    def real(self, batch: Batch) -> Reals:
        """The frames to predict [B, K, F], raw units, NaN where a reading is missing."""
        return self.scaler.features.inverse(masked(batch.features, batch.present))

    def linear(self, batch: Batch) -> Reals:
        """What the linear model predicts, raw units."""
        return self.scaler.features.inverse(self.linear_model.rollout(batch.history[:, -1], batch.planned_actions))

    def persistence(self, batch: Batch) -> Reals:
        """The last known readings, raw units."""
        return self.scaler.features.inverse(persistence(batch.history[:, -1], batch.features.shape[1]))


def masked(values: Floats, there: Floats | None) -> Floats:
    """With NaN where nothing is there."""
    return values if there is None else np.where(there > 0, values, np.float32(np.nan))


def raw_inputs(batch: Batch, scaler: Scaler) -> RawInputs:
    actions, context = scaler.actions, scaler.context
    taken = len(actions.center)
    return RawInputs(
        scaler.features.inverse(masked(batch.history, batch.known)),
        actions.inverse(batch.past_actions[..., :taken]),
        actions.inverse(batch.planned_actions[..., :taken]),
        context.inverse(batch.past_actions[..., taken:]),
        context.inverse(batch.planned_actions[..., taken:]),
    )


def predict_raw(model: WorldModel, inputs: RawInputs) -> Future:
    """Encode and predict; a model of nothing but states predicts its whole horizon, which is cut to the plan's."""
    length = inputs.planned_actions.shape[1]
    future = model.predict(model.encode(inputs.history, **inputs.past), **inputs.planned)
    return Future._make(None if part is None else part[:, :length] for part in future)


def chunks(held_out: Windows) -> Iterator[Batch]:
    for numbers in _numbers(held_out):
        yield held_out.take(numbers)


def _numbers(held_out: Windows) -> Iterator[Ints]:
    for begin in range(0, len(held_out), CHUNK):
        yield np.arange(begin, min(begin + CHUNK, len(held_out)))


def score(predictors: Predictors, held_out: Windows) -> Scores:
    """Every held-out window; the scores wait in files without a name, which are gone with them."""
    sums, counts = defaultdict[str, Any](int), defaultdict[str, Any](int)
    with ExitStack() as stack:
        files, kinds = dict[str, Any](), dict[str, np.dtype[Any]]()
        for numbers in _numbers(held_out):
            columns: dict[str, Any] = {"episode": held_out.at(numbers).episode}
            for name, values, there in _measured(predictors, held_out.take(numbers)):
                columns[name] = over_features(values, there)
                columns["weight"] = there.mean(axis=2, dtype=np.float32)
                sums[name] += np.where(there, values, 0).sum(axis=(0, 1))
                counts[name] += there.sum(axis=(0, 1))
            for name, array in columns.items():
                files[name] = files.get(name) or stack.enter_context(TemporaryFile())
                files[name].write(np.ascontiguousarray(array).data)
                kinds[name] = array.dtype
        shapes = {name: (len(held_out), held_out.horizon) for name in files} | {"episode": (len(held_out),)}
        features = {name: sums[name] / np.maximum(counts[name], 1) for name in sums}
        return Scores(**{name: mapped(files[name], kinds[name], shapes[name]) for name in files}, features=features)


def _measured(predictors: Predictors, batch: Batch) -> Iterator[tuple[str, Doubles, NDArray[np.bool_]]]:
    """The first five fields of Scores for each feature, and which of these count, [B, K, F] each; one at a time.

    An interval holds a category that is predicted right; its likelihood is nothing that a normal could tell.
    """
    features, future, real = predictors.scaler.features, predictors.future(batch), predictors.real(batch)
    there, residual = (batch.weight[..., None] > 0) & ~np.isnan(real), features.residual(future.features, real)
    graded = np.array([each.kind != "category" for each in features.columns] or [True] * features.width)
    std = np.where(graded, future.std / features.spread, np.float32(1))
    yield "log_likelihood", log_likelihood(residual, std), there & graded
    yield "covered", np.where(graded, covered(residual, std), residual == 0), there
    yield "model", np.square(residual), there
    yield "persistence", np.square(features.residual(predictors.persistence(batch), real)), there
    yield "linear", np.square(features.residual(predictors.linear(batch), real)), there
