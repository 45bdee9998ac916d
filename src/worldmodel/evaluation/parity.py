"""Does the ONNX bundle say what the torch model says? Compared in standard deviations of the train frames.

An answer farther than 1 from the mean is compared relative to its size, and raw numbers beside each other in float32
count as equal: a rollout that grows, or a feature with a large offset, holds no more digits.
"""

import math
from collections.abc import Iterable, Iterator, Mapping

import numpy as np
import torch

from worldmodel.arrays.affine import Affine, identity
from worldmodel.arrays.scaler import Scaler
from worldmodel.arrays.windows import Windows
from worldmodel.client import Future, WorldModel
from worldmodel.core.typing import Floats, Reals
from worldmodel.evaluation.scoring import RawInputs, chunks, raw_inputs
from worldmodel.export.graph import RawEncoder, RawPredictor, RawPrior, RawValue, outputs
from worldmodel.model import world_model as torch_model
from worldmodel.model.policy import Policy
from worldmodel.model.shape import Shape

RANDOM_WINDOWS = 64
MISSING = 0.2  # share of the readings of random windows, where the logs miss some
SHORT, LONG = (1, 7), 4  # frames of plans beside the horizon, and how many times the horizon


def largest_difference(
    client: WorldModel,
    model: torch_model.WorldModel,
    scaler: Scaler,
    held_out: Windows,
    policy: Policy | None = None,
    seed: int = 0,
) -> float:
    """Over all held-out windows, and over random ones with short plans, long ones and steps, of all that is predicted,
    and of the policy's values and actions.

    A long plan is compared a horizon at a time, each time from where the client has stepped to: along a chaotic rollout
    the last bits grow without end. Rounded up to one digit: the last bits are another processor's to choose.
    """
    torch_encoder, torch_predictor = RawEncoder(model, scaler).eval(), RawPredictor(model, scaler).eval()
    differences: list[float] = []

    def compare(futures: Iterable[Future], z: torch.Tensor, planned: Mapping[str, Reals]) -> None:
        with torch.no_grad():
            answers = dict(zip(outputs(model.shape), torch_predictor(z, **_tensors(planned)), strict=True))
        for future in futures:
            differences.extend(_differences(future, answers, scaler))

    for number, inputs in enumerate(_inputs(model.shape, scaler, held_out, seed)):
        z = client.encode(inputs.history, **inputs.past)
        with torch.no_grad():
            torch_z = torch_encoder(torch.from_numpy(inputs.history), **_tensors(inputs.past))
        if policy:
            differences.extend(_policy_differences(client, policy, scaler, z))
        if number:
            compare([client.predict(z, **inputs.planned)], torch_z, inputs.planned)
            continue
        for begin in range(0, LONG * client.horizon, client.horizon):
            rest = {name: each[:, begin:] for name, each in inputs.planned.items()}
            soon = {name: each[:, : client.horizon] for name, each in rest.items()}
            lengths = [*SHORT, client.horizon, None] if rest else [None]
            whole = [client.predict(z, **{name: each[:, :length] for name, each in rest.items()}) for length in lengths]
            z, stepped = _stepped(client, z, soon)
            compare([*whole, stepped], torch_z, soon)
            torch_z = torch.from_numpy(z)
    return _rounded_up(float(np.max(differences)))  # NaN where any is


def _policy_differences(client: WorldModel, policy: Policy, scaler: Scaler, z: Floats) -> Iterator[float]:
    assert scaler.rewards
    latent, unit = torch.from_numpy(z), Affine(np.zeros(1, np.float32), scaler.rewards.spread)
    with torch.no_grad():
        value, action = RawValue(policy, scaler)(latent), RawPrior(policy, scaler)(latent)
    yield _apart(client.value(z)[:, None], value.numpy()[:, None], unit)
    yield _apart(client.prior(z), action.numpy(), scaler.actions)


def _tensors(arrays: Mapping[str, Reals]) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(array) for name, array in arrays.items()}


def _inputs(shape: Shape, scaler: Scaler, held_out: Windows, seed: int) -> Iterator[RawInputs]:
    """Random windows with long plans, then the held-out ones."""
    rng = np.random.default_rng(seed)

    def noise(frames: int, unit: Affine) -> Reals:
        return unit.inverse(rng.standard_normal((RANDOM_WINDOWS, frames, len(unit.center)), np.float32))

    history = noise(shape.history, scaler.features)
    ahead = [
        noise(frames, unit)
        for unit in (scaler.actions, scaler.context)
        for frames in (shape.history - 1, LONG * shape.horizon)
    ]
    if held_out.packed.missing:
        history = np.where(rng.random(history.shape) < MISSING, np.nan, history)
    yield RawInputs(history, *ahead)
    for batch in chunks(held_out):
        yield raw_inputs(batch, scaler)


def _stepped(client: WorldModel, z: Floats, planned: Mapping[str, Reals]) -> tuple[Floats, Future]:
    """z a horizon later, and the frames on the way there."""
    frames = []
    for t in range(client.horizon):
        z, frame = client.step(z, **{name.removesuffix("s"): each[:, t] for name, each in planned.items()})
        frames.append(frame)
    parts = (None if part[0] is None else np.stack(part, axis=1) for part in zip(*frames, strict=True))
    return z, Future._make(parts)


def _differences(future: Future, answers: Mapping[str, torch.Tensor], scaler: Scaler) -> Iterator[float]:
    spread = scaler.features.spread
    units = {"features": scaler.features, "std": Affine(np.zeros_like(spread), spread), "reward": scaler.rewards}
    for name, answer in answers.items():
        onnx = getattr(future, name)
        length = min(onnx.shape[1], answer.shape[1])
        yield _apart(onnx[:, :length], answer.numpy()[:, :length], units.get(name) or identity(1))


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
