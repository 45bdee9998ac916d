"""Does the ONNX bundle say what the torch model says? Compared in standard deviations of the train frames.

An answer farther than 1 from the mean is compared relative to its size, and raw numbers beside each other in float32
count as equal: a rollout that grows, or a feature with a large offset, holds no more digits.
"""

import math
from collections.abc import Iterator, Mapping

import numpy as np
import torch

from worldmodel.arrays.affine import Affine
from worldmodel.arrays.scaler import Scaler
from worldmodel.arrays.windows import Windows
from worldmodel.client import Future, WorldModel
from worldmodel.core.typing import Reals
from worldmodel.evaluation.scoring import RawInputs, chunks, predict_raw, raw_inputs
from worldmodel.export.graph import RawEncoder, RawPredictor
from worldmodel.model import world_model as torch_model
from worldmodel.model.shape import Shape

RANDOM_WINDOWS = 256
MISSING = 0.2  # share of the readings of random windows, where the logs miss some


def largest_difference(
    client: WorldModel, model: torch_model.WorldModel, scaler: Scaler, held_out: Windows, seed: int = 0
) -> float:
    """Over all held-out windows and as many random ones as fit a batch, of features, std and reward.

    Rounded up to one digit: the last bits of a difference are another processor's to choose.
    """
    torch_encoder, torch_predictor = RawEncoder(model, scaler).eval(), RawPredictor(model, scaler).eval()
    differences = []
    for inputs in _inputs(model.shape, scaler, held_out, seed):
        future = predict_raw(client, inputs)
        with torch.no_grad():
            z = torch_encoder(torch.from_numpy(inputs.history), **_tensors(inputs.past))
            answers = torch_predictor(z, **_tensors(inputs.planned))
        differences.append(_difference(future, answers, scaler))
    return _rounded_up(float(np.max(differences)))  # NaN where any is


def _tensors(arrays: Mapping[str, Reals]) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(array) for name, array in arrays.items()}


def _inputs(shape: Shape, scaler: Scaler, held_out: Windows, seed: int) -> Iterator[RawInputs]:
    rng = np.random.default_rng(seed)

    def noise(frames: int, unit: Affine) -> Reals:
        return unit.inverse(rng.standard_normal((RANDOM_WINDOWS, frames, len(unit.center)), np.float32))

    history = noise(shape.history, scaler.features)
    ahead = [
        noise(frames, unit)
        for unit in (scaler.actions, scaler.context)
        for frames in (shape.history - 1, shape.horizon)
    ]
    if held_out.packed.missing:
        history = np.where(rng.random(history.shape) < MISSING, np.nan, history)
    yield RawInputs(history, *ahead)
    for batch in chunks(held_out):
        yield raw_inputs(batch, scaler)


def _difference(future: Future, answers: tuple[torch.Tensor, ...], scaler: Scaler) -> float:
    spread = scaler.features.spread
    units = [scaler.features, Affine(np.zeros_like(spread), spread)]
    if scaler.rewards is not None:
        units.append(scaler.rewards)
    raw = [part for part in (future.features, future.std, future.reward) if part is not None]
    differences = [
        _apart(onnx, answer.numpy()[:, : onnx.shape[1]], unit)
        for onnx, answer, unit in zip(raw, answers, units, strict=True)
    ]
    return float(np.max(differences))


def _apart(onnx: Reals, answer: Reals, unit: Affine) -> float:
    """Largest difference of raw answers, in standard deviations."""
    middle = unit.inverse(np.zeros_like(unit.scale))
    beyond_rounding = np.maximum(np.abs(unit.residual(onnx, answer)) - np.spacing(np.abs(answer)) / unit.spread, 0)
    size = np.maximum(np.abs(unit.residual(answer, middle)), 1)
    return float((beyond_rounding / size).max())


def _rounded_up(value: float) -> float:
    if value == 0 or not math.isfinite(value):
        return value
    unit = 10.0 ** math.floor(math.log10(value))
    return float(f"{math.ceil(value / unit) * unit:.1g}")
