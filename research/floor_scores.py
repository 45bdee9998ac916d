"""A model beside the floors on held-out windows: errors, likelihood, coverage and tails of what each predicts.

Without ONNX. Errors in standard deviations of the train frames. Dimension key: W windows, K horizon, F features,
N episodes.
"""

import math
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from numpy.typing import NDArray

from worldmodel.arrays.scaler import Scaler
from worldmodel.arrays.windows import Batch, Packed, Windows, windows
from worldmodel.core.student_t import half_width, log_density
from worldmodel.core.typing import Doubles, Floats, Ints, Reals
from worldmodel.evaluation.metrics import NOMINAL, best_floor, skill
from worldmodel.evaluation.scoring import TAIL, Predictors, chunks, masked
from worldmodel.export.graph import Scale
from worldmodel.model.baselines import FLOORS
from worldmodel.model.tensors import to_device
from worldmodel.model.world_model import WorldModel

CPU = torch.device("cpu")
MOST_WINDOWS = 4096  # of test, evenly spaced
DRAWS, SEED, LEVEL = 2000, 0, 0.025  # of a bootstrap over test episodes
FEWEST = 3  # test episodes that tell anything


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
    """The columns of a Row that follow from predictions; features that never change count in errors alone."""
    floors = Predictors.fitted(cast(Any, None), scaler, packed)  # of the bundle: none is exported
    length = model.shape.history, model.shape.horizon
    seen, held_out = (windows(packed, packed.where(split), *length) for split in ("train", "test"))
    if not len(held_out):
        raise ValueError(f"no test episode has more than {model.shape.history} frames")
    held_out = held_out.every(math.ceil(len(held_out) / MOST_WINDOWS))
    residual, (own, std) = residuals(floors, held_out), of_model(model, scaler, held_out)
    errors = {name: np.nanmean(np.square(each), axis=(0, 1)) for name, each in (residual | {"model": own}).items()}
    degrees, moving = model.degrees, ~scaler.constant
    nats = {name: log_density(residual[name], spread, math.inf) for name, spread in floors.spreads(seen).items()}
    nats["model"] = log_density(own, std, degrees)
    within = [np.where(np.isnan(own), np.nan, np.abs(own) <= width * std) for width in (half_width(degrees), TAIL)]
    covered, near = (each[..., moving] for each in within)
    return (
        {"mse" if name == "model" else f"mse_{name}": float(each.mean()) for name, each in errors.items()}
        | skills(own, residual, errors, moving, held_out.episode)
        | {
            "likelihood" if name == "model" else f"likelihood_{name}": float(np.nanmean(each[..., moving]))
            for name, each in nats.items()
        }
        | {
            "coverage": float(np.nanmean(covered)),
            "worst_coverage": max(np.nanmean(covered, axis=(0, 1)).tolist(), key=lambda share: abs(share - NOMINAL)),
            "beyond_10": 1 - float(np.nanmean(near)),
            "degrees": 0.0 if math.isinf(degrees) else degrees,
        }
    )


def residuals(floors: Predictors, held_out: Windows) -> dict[str, Floats]:
    """Of each floor, [W, K, F], NaN where there is no reading"""
    parts = [
        {name: residual(floors.floor(name, batch), batch, floors.scaler) for name in FLOORS}
        for batch in chunks(held_out)
    ]
    return {name: np.concatenate([part[name] for part in parts]) for name in FLOORS}


def residual(predicted: Reals, batch: Batch, scaler: Scaler) -> Floats:
    found = scaler.features.residual(predicted, scaler.features.inverse(masked(batch.features, batch.present)))
    return np.where(batch.weight[..., None] > 0, found, np.nan).astype(np.float32)


def of_model(model: WorldModel, scaler: Scaler, held_out: Windows) -> tuple[Floats, Floats]:
    """Residuals and std, [W, K, F] each"""

    def predictions() -> Iterator[tuple[Floats, Floats]]:
        scale = Scale(scaler.features)
        for batch in chunks(held_out):
            mean, log_std, *_ = model(*to_device(batch, CPU).inputs)
            raw, std = scale.inverse(mean), scale.raw_std(mean, log_std.exp())
            yield residual(raw.numpy(), batch, scaler), (std / torch.from_numpy(scaler.features.spread)).numpy()

    with torch.no_grad():
        residuals, std = zip(*predictions(), strict=True)
    return np.concatenate(residuals), np.concatenate(std)


def skills(
    own: Floats, floors: Mapping[str, Floats], errors: Mapping[str, Doubles], moving: NDArray[np.bool_], episode: Ints
) -> dict[str, Any]:
    """Against the best floor of all features together, and of each alone."""
    best = best_floor({name: float(each.mean()) for name, each in errors.items()})
    of_each = [best_floor({name: each[at] for name, each in errors.items()}) for at in range(len(moving))]
    lowest = np.stack([floors[name][..., at] for at, name in enumerate(of_each)], axis=-1)
    each = [skill(errors["model"][at], errors[name][at]) for at, name in enumerate(of_each)]
    known = np.where(moving, each, 0.0)
    worse = beyond_noise(by_episode(own, episode), by_episode(lowest, episode)) & (known < 0)
    whole = beyond_noise(*(by_episode(each, episode).sum(axis=1, keepdims=True) for each in (own, floors[best])))
    return {
        "best": best,
        "skill": skill(float(errors["model"].mean()), float(errors[best].mean())),
        "worse": int(whole[0]),
        "worst_skill": float(known.min()),
        "worst_skill_of": int(known.argmin()),
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
