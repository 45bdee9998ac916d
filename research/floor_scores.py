"""A model beside the floors on held-out windows: errors, likelihood, coverage and tails of what each predicts.

Without ONNX. Errors in standard deviations of the train frames. Dimension key: W windows, K horizon, F features,
N episodes.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from worldmodel.arrays.scaler import Scaler
from worldmodel.arrays.windows import Batch, Packed, Windows, windows
from worldmodel.core.student_t import half_width, log_density
from worldmodel.core.typing import Doubles, Floats, Ints, Reals
from worldmodel.evaluation.metrics import ROUNDING
from worldmodel.evaluation.scoring import chunks, masked
from worldmodel.export.graph import Scale
from worldmodel.model.baselines import linear_baseline, persistence
from worldmodel.model.tensors import to_device
from worldmodel.model.world_model import WorldModel

CPU = torch.device("cpu")
FLOORS = ("persistence", "linear", "mean", "last_change")
MOST_WINDOWS = 4096  # of test, and of train for the floors' spread, evenly spaced
LEAST_SPREAD = 1e-3  # standard deviations; a floor is never surer than that
DRAWS, SEED, LEVEL = 2000, 0, 0.025  # of a bootstrap over test episodes
FEWEST = 3  # test episodes that tell anything

Raw = Callable[[Batch], Reals]  # predicted features [B, K, F], raw units


class Row(NamedTuple):
    kind: str
    train: int  # episodes
    val: int
    test: int
    seed: int
    features: int
    mse: float
    mse_persistence: float
    mse_linear: float
    mse_mean: float
    mse_last_change: float
    best: str  # floor
    skill: float  # over the best floor
    worse: int  # 1 where the model is worse than the best floor beyond noise
    worst_skill: float  # over its own best floor, of the feature where that is lowest
    worst_skill_of: int  # number of that feature
    features_worse: int  # how many are worse than their best floor beyond noise
    likelihood: float  # nats a feature
    likelihood_persistence: float
    likelihood_linear: float
    likelihood_mean: float
    likelihood_last_change: float
    coverage: float  # of 90 % intervals
    worst_coverage: float  # of the feature where that is farthest from 90 %
    beyond_10: float  # share of residuals beyond 10 std
    degrees: float  # of freedom of the model's distribution; 0 = normal
    step: int  # of the selected weights
    seconds: float  # of the processor


def measured(model: WorldModel, packed: Packed, scaler: Scaler) -> dict[str, Any]:
    """The columns of a Row that follow from predictions."""
    floors = floors_of(packed, scaler)
    seen, held_out = (some(windows(packed, packed.where(split), *lengths(model))) for split in ("train", "test"))
    if not len(held_out):
        raise ValueError(f"no test episode has more than {model.shape.history} frames")
    spread = {name: spread_of(residuals(floor, seen, scaler)) for name, floor in floors.items()}
    residual = {name: residuals(floor, held_out, scaler) for name, floor in floors.items()}
    own, std = of_model(model, held_out, scaler)
    errors = {name: np.nanmean(np.square(each), axis=(0, 1)) for name, each in (residual | {"model": own}).items()}
    degrees = float(getattr(model, "degrees_of_freedom", 0.0)) or math.inf
    moving = ~scaler.constant
    nats = {name: log_density(residual[name], spread[name], math.inf) for name in floors}
    nats["model"] = log_density(own, std, degrees)
    covered = np.where(np.isnan(own), np.nan, np.abs(own) <= half_width(degrees) * std)
    of_features: Doubles = np.nanmean(covered, axis=(0, 1))
    farthest = int(np.argmax(np.where(moving, np.abs(of_features - 0.9), -1)))
    return (
        {"mse" if name == "model" else f"mse_{name}": float(each.mean()) for name, each in errors.items()}
        | skills(own, residual, errors, moving, held_out.episode)
        | {
            "likelihood" if name == "model" else f"likelihood_{name}": float(np.nanmean(each[..., moving]))
            for name, each in nats.items()
        }
        | {
            "coverage": float(np.nanmean(covered)),
            "worst_coverage": float(of_features[farthest]),
            "beyond_10": float(np.nanmean(np.where(np.isnan(own), np.nan, np.abs(own) > 10 * std))),
            "degrees": 0.0 if math.isinf(degrees) else degrees,
        }
    )


def lengths(model: WorldModel) -> tuple[int, int]:
    return model.shape.history, model.shape.horizon


def some(all_of_them: Windows) -> Windows:
    return all_of_them.every(math.ceil(len(all_of_them) / MOST_WINDOWS) or 1)


def floors_of(packed: Packed, scaler: Scaler) -> dict[str, Raw]:
    raw, ridge = scaler.features.inverse, linear_baseline(packed)
    mean = np.nanmean(np.concatenate(list(packed.each(packed.features, packed.where("train")))), axis=0)

    def carried_on(batch: Batch) -> Floats:
        last = batch.history[:, -1]
        change = last - batch.history[:, -2] if batch.history.shape[1] > 1 else np.zeros_like(last)
        ahead = np.arange(1, batch.features.shape[1] + 1, dtype=np.float32)
        return last[:, None] + ahead[:, None] * change[:, None]

    return {
        "persistence": lambda batch: raw(persistence(batch.history[:, -1], batch.features.shape[1])),
        "linear": lambda batch: raw(ridge.rollout(batch.history[:, -1], batch.planned_actions)),
        "mean": lambda batch: raw(np.broadcast_to(mean, batch.features.shape)),
        "last_change": lambda batch: raw(carried_on(batch)),
    }


def residuals(predict: Raw, held_out: Windows, scaler: Scaler) -> Floats:
    """[W, K, F], NaN where there is no reading"""
    return np.concatenate([_residual(predict(batch), batch, scaler) for batch in chunks(held_out)])


def _residual(predicted: Reals, batch: Batch, scaler: Scaler) -> Floats:
    real = scaler.features.inverse(masked(batch.features, batch.present))
    residual = scaler.features.residual(predicted, real)
    return np.where(batch.weight[..., None] > 0, residual, np.nan).astype(np.float32)


def of_model(model: WorldModel, held_out: Windows, scaler: Scaler) -> tuple[Floats, Floats]:
    """Residuals and std, [W, K, F] each"""

    def predictions() -> Iterator[tuple[Floats, Floats]]:
        scale = Scale(scaler.features)
        for batch in chunks(held_out):
            mean, log_std, *_ = model(*to_device(batch, CPU).inputs)
            raw, std = scale.inverse(mean), scale.raw_std(mean, log_std.exp())
            yield _residual(raw.numpy(), batch, scaler), (std / torch.from_numpy(scaler.features.spread)).numpy()

    with torch.no_grad():
        residual, std = zip(*predictions(), strict=True)
    return np.concatenate(residual), np.concatenate(std)


def spread_of(residual: Floats) -> Doubles:
    """[W, K, F] -> [K, F]: of a normal around what is predicted; that of all frames where no window reaches one"""
    square = np.square(residual, dtype=np.float64)
    there = (~np.isnan(square)).sum(axis=0)
    whole = np.nansum(square, axis=(0, 1)) / np.maximum(there.sum(axis=0), 1)
    spread: Doubles = np.sqrt(np.where(there > 0, np.nansum(square, axis=0) / np.maximum(there, 1), whole))
    return np.maximum(spread, LEAST_SPREAD)


def skills(
    own: Floats, floors: Mapping[str, Floats], errors: Mapping[str, Doubles], moving: NDArray[np.bool_], episode: Ints
) -> dict[str, Any]:
    """Against the best floor of all features together, and of each alone."""
    best = min(FLOORS, key=lambda name: float(errors[name].mean()))
    choice = np.argmin([errors[name] for name in FLOORS], axis=0)
    of_each = np.choose(choice, [floors[name] for name in FLOORS])
    lowest = np.min([errors[name] for name in FLOORS], axis=0)
    told = moving & (lowest > ROUNDING)
    skill = np.where(told, 1 - errors["model"] / np.where(told, lowest, 1), 0.0)
    worse = beyond_noise(by_episode(own, episode), by_episode(of_each, episode)) & told
    whole = beyond_noise(*(by_episode(each, episode).sum(axis=1, keepdims=True) for each in (own, floors[best])))
    error, floor = float(errors["model"].mean()), float(errors[best].mean())
    return {
        "best": best,
        "skill": 1 - error / floor if floor > ROUNDING else 0.0,
        "worse": int(whole[0]),
        "worst_skill": float(skill.min()),
        "worst_skill_of": int(np.argmin(skill)),
        "features_worse": int(worse.sum()),
    }


def by_episode(residual: Floats, episode: Ints) -> Doubles:
    """Squared residuals [W, K, F] summed -> [N, F]"""
    numbers, at = np.unique(episode, return_inverse=True)
    summed = np.zeros((len(numbers), residual.shape[2]))
    np.add.at(summed, at, np.nansum(np.square(residual, dtype=np.float64), axis=1))
    return summed


def beyond_noise(own: Doubles, floor: Doubles) -> NDArray[np.bool_]:
    """Which columns of `own` are larger in all but LEVEL of the draws of episodes, [N, C] each -> [C]; none where too
    few episodes tell."""
    count = len(own)
    if count < FEWEST:
        return np.zeros(own.shape[1], bool)
    drawn = np.random.default_rng(SEED).multinomial(count, np.full(count, 1 / count), size=DRAWS)
    larger = (drawn @ own > drawn @ floor).mean(axis=0)
    found: NDArray[np.bool_] = larger > 1 - LEVEL
    return found
