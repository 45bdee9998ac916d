"""The bundle and the baselines on held-out windows: raw units through the client, scores in standardized units."""

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, fields
from tempfile import TemporaryFile
from typing import Any

import numpy as np

from worldmodel.arrays.mapped import mapped
from worldmodel.arrays.scaler import Scaler
from worldmodel.arrays.windows import Batch, Windows
from worldmodel.client import Future, WorldModel
from worldmodel.core.typing import Floats, Ints
from worldmodel.evaluation.metrics import Scores, covered, log_likelihood, squared_error
from worldmodel.model.baselines import LinearModel, persistence

CHUNK = 1024  # windows predicted at once


@dataclass(frozen=True)
class Predictors:
    model: WorldModel
    scaler: Scaler
    linear_model: LinearModel

    def future(self, batch: Batch) -> Future:
        """What `control` would get for this batch, raw units."""
        return predict_raw(self.model, *raw_inputs(batch, self.scaler))

    def predicted(self, batch: Batch) -> tuple[Floats, Floats]:
        """features and std [B, K, F], standardized units."""
        future = self.future(batch)
        return self.scaler.features.transform(future.features), future.std / self.scaler.features.scale

    def linear(self, batch: Batch) -> Floats:
        """What the linear model predicts, through raw float32 as the model's answer: a large offset rounds both."""
        features = self.scaler.features
        return features.transform(
            features.inverse(self.linear_model.rollout(batch.history[:, -1], batch.planned_actions))
        )


def raw_inputs(batch: Batch, scaler: Scaler) -> tuple[Floats, Floats, Floats]:
    """history, past and planned actions in raw units."""
    actions = scaler.actions
    return (
        scaler.features.inverse(batch.history),
        actions.inverse(batch.past_actions),
        actions.inverse(batch.planned_actions),
    )


def predict_raw(model: WorldModel, history: Floats, past: Floats, planned: Floats) -> Future:
    """Encode and predict; a model without actions predicts its whole horizon, which is cut to the plan's length."""
    if not model.action_count:
        future = model.predict(model.encode(history))
        length = planned.shape[1]
        reward = None if future.reward is None else future.reward[:, :length]
        return Future(future.features[:, :length], future.std[:, :length], reward)
    return model.predict(model.encode(history, past if past.size else None), planned)


def chunks(held_out: Windows) -> Iterator[Batch]:
    for numbers in _numbers(held_out):
        yield held_out.take(numbers)


def _numbers(held_out: Windows) -> Iterator[Ints]:
    for begin in range(0, len(held_out), CHUNK):
        yield np.arange(begin, min(begin + CHUNK, len(held_out)))


def score(predictors: Predictors, held_out: Windows) -> Scores:
    """Every held-out window; the scores wait in files without a name, which are gone with them."""
    with ExitStack() as stack:
        files = {column.name: stack.enter_context(TemporaryFile()) for column in fields(Scores)}
        kinds = dict[str, np.dtype[Any]]()
        for numbers in _numbers(held_out):
            columns = _scores(predictors, held_out.take(numbers)) | {"episode": held_out.at(numbers).episode}
            for name, array in columns.items():
                files[name].write(np.ascontiguousarray(array).data)
                kinds[name] = array.dtype
        shapes = {name: (len(held_out), held_out.horizon) for name in files} | {"episode": (len(held_out),)}
        return Scores(**{name: mapped(files[name], kinds[name], shapes[name]) for name in files})


def _scores(predictors: Predictors, batch: Batch) -> dict[str, Any]:
    """The fields of Scores, [B, K] each."""
    last, real = batch.history[:, -1], batch.features
    predicted, std = predictors.predicted(batch)
    linear = predictors.linear(batch)
    return {
        "model": squared_error(predicted, real),
        "persistence": squared_error(persistence(last, real.shape[1]), real),
        "linear": squared_error(linear, real),
        "log_likelihood": log_likelihood(predicted, std, real),
        "covered": covered(predicted, std, real),
        "weight": batch.weight,
    }
