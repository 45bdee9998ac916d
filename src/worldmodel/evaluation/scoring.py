"""The bundle and the floors on held-out windows: raw units through the client, errors in standard deviations of the
observed train frames.

Dimension key: B batch, H history, K horizon, F features, G their standardized columns.
"""

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from tempfile import TemporaryFile
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from worldmodel.arrays.mapped import mapped
from worldmodel.arrays.moments import Moments
from worldmodel.arrays.scaler import MIN_SPREAD, Scaler
from worldmodel.arrays.windows import Batch, Packed, Windows, windows
from worldmodel.client import Future, WorldModel
from worldmodel.core.student_t import half_width, log_density
from worldmodel.core.typing import Doubles, Floats, Ints, Reals
from worldmodel.evaluation.metrics import Scores, over_features
from worldmodel.model.baselines import FLOORS, LinearModel, last_change, linear_baseline, persistence, train_moments
from worldmodel.model.selection import subsample

CHUNK = 512  # windows predicted at once
TAIL = 10.0  # standard deviations
MARGIN = 0.05  # of the range of the train frames, which a reading may be beyond
GROUPS = 256  # of held-out episodes, which errors are told apart by; one each where there are no more
LEAST_STD = 1e-3  # of a floor, in standard deviations of the train frames


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
    linear: LinearModel
    train: Moments  # of the observed train frames, standardized

    @staticmethod
    def fitted(model: WorldModel, scaler: Scaler, packed: Packed) -> "Predictors":
        """The model, and floors fitted on the observed train episodes."""
        unit = np.concatenate([part.unit for part in (scaler.features, scaler.actions, scaler.context)])
        return Predictors(model, scaler, linear_baseline(packed, unit), train_moments(packed))

    def future(self, batch: Batch) -> Future:
        """What `control` would get for this batch, raw units."""
        return predict_raw(self.model, raw_inputs(batch, self.scaler))

    def real(self, batch: Batch) -> Reals:
        """The frames to predict [B, K, F], raw units, NaN where a reading is missing."""
        return self.scaler.features.inverse(masked(batch.features, batch.present))

    def floor(self, name: str, batch: Batch) -> Reals:
        """What one of FLOORS predicts, [B, K, F] raw units; a reading that is missing is the last known one."""
        features, last, horizon = self.scaler.features, batch.history[:, -1], batch.features.shape[1]
        if name == "linear":
            return features.inverse(self.linear.rollout(last, batch.planned_actions))
        if name == "persistence":
            return features.inverse(persistence(last, horizon))
        if name == "mean":
            return np.broadcast_to(features.inverse(self.train.mean), (len(last), horizon, features.width))
        before, now = np.moveaxis(features.inverse(batch.history[:, [max(batch.history.shape[1] - 2, 0), -1]]), 1, 0)
        return last_change(now, np.where(self.graded, features.residual(now, before) * features.spread, 0), horizon)

    @property
    def graded(self) -> NDArray[np.bool_]:
        """Which features are more than right or wrong: those that are no categories, [F]."""
        columns = self.scaler.features.columns
        return np.array([each.kind != "category" for each in columns] or [True] * self.scaler.features.width)

    def spreads(self, train: Windows) -> dict[str, Doubles]:
        """Floor -> root of its mean squared error at each frame, [K, F], on about a thousand of the train windows.

        Where none of them has a reading, that of the frame before; 1 where there is none.
        """
        none = np.zeros((train.horizon, self.scaler.features.width))
        summed, count = dict.fromkeys(FLOORS, none), none
        for batch in chunks(subsample(train)):
            real = self.real(batch)
            there = (batch.weight[..., None] > 0) & ~np.isnan(real)
            count = count + there.sum(axis=0)
            for name in FLOORS:
                error = np.square(self.scaler.features.residual(self.floor(name, batch), real))
                summed[name] = summed[name] + np.where(there, error, 0).sum(axis=0)
        return {name: _filled(np.sqrt(each / np.maximum(count, 1)), count) for name, each in summed.items()}


def _filled(spread: Doubles, count: Doubles) -> Doubles:
    last = np.ones_like(spread[0])
    for row, found in zip(spread, count, strict=True):
        row[:] = last = np.where(found, np.maximum(row, LEAST_STD), last)
    return spread


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
    packed = held_out.packed
    spreads = predictors.spreads(windows(packed, packed.where("train"), held_out.history, held_out.horizon))
    sums, counts = defaultdict[str, Any](int), defaultdict[str, Any](int)
    _, group = np.unique(held_out.episode, return_inverse=True)
    shape = (min(GROUPS, int(group.max(initial=0)) + 1), predictors.scaler.features.width)
    grouped = {name: np.zeros(shape) for name in ("readings", "covered", "model", *FLOORS)}
    with ExitStack() as stack:
        files, kinds = dict[str, Any](), dict[str, np.dtype[Any]]()
        for numbers in _numbers(held_out):
            batch = held_out.take(numbers)
            future = predictors.future(batch)
            told = _told(future, batch)
            columns: dict[str, Any] = {"episode": held_out.at(numbers).episode} | told
            for name, values, there in _measured(predictors, spreads, batch, future):
                columns[name] = over_features(values, there)
                known = np.where(there, values, 0)
                sums[name] += known.sum(axis=(0, 1))
                counts[name] += there.sum(axis=(0, 1))
                if name in grouped:
                    np.add.at(grouped[name], group[numbers] % GROUPS, known.sum(axis=1))
                if name == "model":
                    columns["weight"] = there.mean(axis=2, dtype=np.float32)
                    np.add.at(grouped["readings"], group[numbers] % GROUPS, there.sum(axis=1))
            for name, array in columns.items():
                files[name] = files.get(name) or stack.enter_context(TemporaryFile())
                files[name].write(np.ascontiguousarray(array).data)
                kinds[name] = array.dtype
        shapes = {name: (len(held_out), held_out.horizon) for name in files} | {"episode": (len(held_out),)}
        arrays = {name: mapped(files[name], kinds[name], shapes[name]) for name in files}
    features = {name: np.where(counts[name], sums[name] / np.maximum(counts[name], 1), np.nan) for name in sums}
    parts, of_frames = ({name: arrays[name] for name in names} for names in (sums, told))
    return Scores(parts, arrays["weight"], arrays["episode"], features, grouped, of_frames)


def _told(future: Future, batch: Batch) -> dict[str, Floats]:
    """What the bundle says of each frame, [B, K]: `disagreement`; and where tasks end, `termination`, its probability,
    and `ended`, whether one did, NaN where the frame does not exist.
    """
    told = {} if future.disagreement is None else {"disagreement": future.disagreement}
    if future.termination is None or batch.ended is None:
        return told
    ended = np.where(batch.weight > 0, batch.ended, np.float32(np.nan))
    return told | {"termination": future.termination, "ended": ended}


def _measured(
    predictors: Predictors, spreads: Mapping[str, Doubles], batch: Batch, future: Future
) -> Iterator[tuple[str, Doubles, NDArray[np.bool_]]]:
    """The parts of Scores for each feature, and which of these count, [B, K, F] each; one at a time.

    An interval holds a category that is predicted right; its likelihood is nothing that a density could tell.
    """
    features, real = predictors.scaler.features, predictors.real(batch)
    there, residual = (batch.weight[..., None] > 0) & ~np.isnan(real), features.residual(future.features, real)
    graded, degrees = predictors.graded, predictors.model.degrees_of_freedom
    std, off = np.where(graded, future.std / features.spread, np.float32(1)), np.abs(residual)
    yield "log_likelihood", log_density(residual, std, degrees), there & graded
    yield "covered", np.where(graded, off <= half_width(degrees) * std, residual == 0).astype(np.float64), there
    yield "beyond", (off > TAIL * std).astype(np.float64), there & graded
    yield "model", np.square(residual), there
    for name in FLOORS:
        residual = features.residual(predictors.floor(name, batch), real)
        yield name, np.square(residual), there
        yield f"log_likelihood.{name}", log_density(residual, spreads[name][: real.shape[1]], math.inf), there & graded


def outside(predictors: Predictors, packed: Packed, split: str = "test") -> tuple[float, Doubles]:
    """Share of the frames of a split in which a feature is outside of the range of the observed train frames by more
    than MARGIN of that range, and share of the readings of each feature, [F].
    """
    train, sources = predictors.train, predictors.scaler.features.sources
    margin, first = MARGIN * (train.high - train.low) + MIN_SPREAD, np.unique(sources, return_index=True)[1]
    frames, beyond, readings = 0, 0, 0
    anywhere = 0
    for rows in packed.each(packed.features, packed.where(split)):
        off = np.logical_or.reduceat((rows < train.low - margin) | (rows > train.high + margin), first, axis=1)
        frames, anywhere = frames + len(rows), anywhere + int(off.any(axis=1).sum())
        beyond, readings = beyond + off.sum(axis=0), readings + (~np.isnan(rows[:, first])).sum(axis=0)
    return anywhere / max(frames, 1), beyond / np.maximum(readings, 1)
