"""Does the ONNX bundle say what the torch model says? Compared in standardized units.

An answer farther than 1 from the mean is compared relative to its size, and raw numbers beside each other in float32
count as equal: a rollout that grows, or a feature with a large offset, holds no more digits.
"""

import math
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch

from worldmodel.arrays.affine import Affine
from worldmodel.arrays.scaler import Scaler
from worldmodel.arrays.windows import Windows
from worldmodel.client import Future, WorldModel
from worldmodel.core.typing import Floats
from worldmodel.evaluation.scoring import chunks, predict_raw, raw_inputs
from worldmodel.export.graph import RawEncoder, RawPredictor
from worldmodel.model import world_model as torch_model
from worldmodel.model.shape import Shape

RANDOM_WINDOWS = 256
Inputs = tuple[Floats, Floats, Floats]  # history, past actions, planned actions; raw units


def largest_difference(
    client: WorldModel, model: torch_model.WorldModel, scaler: Scaler, held_out: Windows, seed: int = 0
) -> float:
    """Over all held-out windows and as many random ones as fit a batch, of features, std and reward.

    Rounded up to one digit: the last bits of a difference are another processor's to choose.
    """
    torch_encoder, torch_predictor = RawEncoder(model, scaler).eval(), RawPredictor(model, scaler).eval()
    differences = []
    for inputs in _inputs(model.shape, scaler, held_out, seed):
        future = predict_raw(client, *inputs)
        with torch.no_grad():
            history, past, planned = (torch.from_numpy(array) for array in inputs)
            answers = torch_predictor(torch_encoder(history, past), planned)
        differences.append(_difference(future, answers, scaler))
    return _rounded_up(float(np.max(differences)))  # NaN where any is


def _inputs(shape: Shape, scaler: Scaler, held_out: Windows, seed: int) -> Iterator[Inputs]:
    rng = np.random.default_rng(seed)

    def noise(frames: int, width: int) -> Floats:
        return rng.standard_normal((RANDOM_WINDOWS, frames, width), np.float32)

    yield (
        scaler.features.inverse(noise(shape.history, shape.features)),
        scaler.actions.inverse(noise(shape.history - 1, shape.actions)),
        scaler.actions.inverse(noise(shape.horizon, shape.actions)),
    )
    for batch in chunks(held_out):
        yield raw_inputs(batch, scaler)


def _difference(future: Future, answers: tuple[torch.Tensor, ...], scaler: Scaler) -> float:
    units = [scaler.features, replace(scaler.features, center=np.zeros_like(scaler.features.center))]
    if scaler.rewards is not None:
        units.append(scaler.rewards)
    raw = [part for part in future if part is not None]
    differences = [
        _apart(onnx, answer.numpy()[:, : onnx.shape[1]], unit)
        for onnx, answer, unit in zip(raw, answers, units, strict=True)
    ]
    return float(np.max(differences))


def _apart(onnx: Floats, answer: Floats, unit: Affine) -> float:
    """Largest difference of raw answers, in standardized units."""
    actual, expected = onnx.astype(np.float64), answer.astype(np.float64)
    beyond_rounding = np.maximum(np.abs(actual - expected) - np.spacing(np.abs(answer)), 0)
    size = np.maximum(np.abs(expected - unit.center) / unit.scale, 1)
    return float((beyond_rounding / unit.scale / size).max())


def _rounded_up(value: float) -> float:
    if value == 0 or not math.isfinite(value):
        return value
    unit = 10.0 ** math.floor(math.log10(value))
    return float(f"{math.ceil(value / unit) * unit:.1g}")
