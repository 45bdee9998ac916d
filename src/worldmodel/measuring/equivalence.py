"""Does the ONNX bundle say what the torch model says? Compared in standardized units."""

import math
from collections.abc import Iterator

import numpy as np
import torch

from worldmodel.bundle.graph import RawEncoder, RawPredictor
from worldmodel.client import Future, WorldModel
from worldmodel.data.scaler import Floats, Scaler
from worldmodel.data.windows import Windows
from worldmodel.learning import model as torch_model
from worldmodel.measuring.scoring import chunks, predict_raw, raw_inputs

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


def _inputs(shape: torch_model.Shape, scaler: Scaler, held_out: Windows, seed: int) -> Iterator[Inputs]:
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
    scales = [scaler.features.scale, scaler.features.scale]
    if scaler.rewards is not None:
        scales.append(scaler.rewards.scale)
    found = [part for part in future if part is not None]
    differences = [
        float((np.abs(onnx - answer.numpy()[:, : onnx.shape[1]]) / scale).max())
        for onnx, answer, scale in zip(found, answers, scales, strict=True)
    ]
    return float(np.max(differences))


def _rounded_up(value: float) -> float:
    if value == 0 or not math.isfinite(value):
        return value
    unit = 10.0 ** math.floor(math.log10(value))
    return float(f"{math.ceil(value / unit) * unit:.1g}")
