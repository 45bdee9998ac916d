"""The std that a trained model predicts, fitted to held-out windows: as much as these can tell.

Student's t: of those almost as likely as the likeliest, the degrees of freedom, and the share of what the network says
of the std, that leave the fewest errors far out. Nine tenths of the readings lie within the 90 % intervals at each
frame and of each feature. Few episodes tell little of each: what they lack is taken from the spread around the linear
start, which train episodes know, times what the model gains on it in the held-out windows.

Dimension key: W windows, K horizon, F features.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from worldmodel.arrays.windows import Windows
from worldmodel.core.student_t import DEGREES as CHOICES
from worldmodel.core.student_t import half_width, log_density
from worldmodel.core.typing import Doubles, Reals
from worldmodel.model.selection import blocks, predictions
from worldmodel.model.world_model import DEGREES, WorldModel

SLOPES = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0, 1.25, 1.5, 2.0)
FEW = 4  # blocks; with less, degrees and slope are the usual ones
USUAL_DEGREES, USUAL_SLOPE = 4.0, 0.6
# Blocks with which a feature, or a frame of it, counts half beside what is known of all.
PER_FEATURE, PER_FRAME = 8, 30
CAUTION = 0.25  # of the logarithm of the std with one block: what few episodes say varies, and so do the intervals
FAR, ALMOST = 10.0, 0.03  # std; nats that fewer errors beyond so many std may cost
SMALLEST = 1e-6  # standardized units
PRIOR, PRIOR_SPREAD = np.array([1.0, 0.0]), np.array([0.3, 4.0])  # of stretch and shift of log odds
NEWTON_STEPS = 20

Bools = NDArray[np.bool_]


class _Held(NamedTuple):
    """What was predicted of held-out windows."""

    error: Doubles  # [W, K, F]
    log_std: Doubles  # [W, K, F], what the network adds to the start's
    there: Bools  # [W, K, F]


class _Fit(NamedTuple):
    likelihood: float  # nats
    far: float  # share of the errors beyond FAR std
    degrees: float
    slope: float
    offset: Doubles  # [K, F]


def calibrate(model: WorldModel, start: Mapping[str, Tensor], held_out: Windows, device: torch.device) -> None:
    """Set the std of a model that was trained from `start`, a state_dict. Without windows it stays."""
    if not len(held_out):
        return
    trained = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    prior = model.log_std_offset.double().cpu().numpy() + np.log(half_width(DEGREES))
    found = _predicted(model, held_out, device)
    model.load_state_dict(start)
    before = _predicted(model, held_out, device)
    model.load_state_dict(trained)
    count = len(np.unique(blocks(held_out)))
    if not found.there.any():
        return
    error, middle = found.error[found.there], _mean(found.log_std, found.there)
    fits = []
    for slope in SLOPES if count >= FEW else (USUAL_SLOPE,):
        said = slope * (found.log_std - middle)
        reach = _reach(np.abs(found.error) * np.exp(-said), np.abs(before.error), found.there, prior, count)
        for degrees in CHOICES if count >= FEW else (USUAL_DEGREES,):
            offset = reach + CAUTION / np.sqrt(count) - np.log(half_width(degrees))
            std = np.exp(said + offset)[found.there]
            nats = log_density(error, std, degrees).mean()
            fits.append(_Fit(float(nats), float((np.abs(error) > FAR * std).mean()), degrees, slope, offset))
    likeliest = max(each.likelihood for each in fits)
    fit = min(
        (each for each in fits if each.likelihood >= likeliest - ALMOST), key=lambda each: (each.far, -each.likelihood)
    )
    model.degrees_of_freedom.fill_(fit.degrees if np.isfinite(fit.degrees) else 0)
    model.log_std_slope.fill_(fit.slope)
    model.log_std_offset.copy_(torch.from_numpy(fit.offset - fit.slope * middle))
    model.log_std_growth.copy_(torch.from_numpy(growth(fit.offset)))


def growth(log_std: Doubles) -> Doubles:
    """How fast that of a feature grows with the logarithm of the time, [K, F] -> [F]: 1/2 is a random walk.

    As over the second half of the horizon, but never less than not at all, or more than in proportion to the time.
    """
    horizon = len(log_std)
    if horizon == 1:
        return np.full(log_std.shape[1], 0.5)
    half = horizon // 2
    rate: Doubles = (log_std[-1] - log_std[half - 1]) / np.log(horizon / half)
    return np.clip(rate, 0, 1)


@torch.no_grad()
def calibrate_termination(model: WorldModel, held_out: Windows, device: torch.device) -> None:
    """Stretch and shift the log odds of an ending so that held-out windows are likeliest; few of these change little.

    Platt's scaling, with a prior. Overlapping windows say the same: a frame counts once for each frame of the horizon.
    """
    if model.termination is None or not len(held_out):
        return
    parts = []
    for batch, prediction in predictions(model, held_out, device):
        assert prediction.termination is not None
        assert batch.ended is not None
        exists = batch.weight > 0
        parts.append((prediction.termination[exists], batch.ended[exists]))
    odds, ended = (torch.cat(part).double().cpu().numpy() for part in zip(*parts, strict=True))
    inputs = np.stack([odds, np.ones_like(odds)], axis=1)
    found = PRIOR.copy()
    for _ in range(NEWTON_STEPS):
        likely = 1 / (1 + np.exp(-np.clip(inputs @ found, -30, 30)))
        gradient = inputs.T @ (likely - ended) / model.shape.horizon + (found - PRIOR) / PRIOR_SPREAD**2
        curved = (inputs * (likely * (1 - likely))[:, None]).T @ inputs / model.shape.horizon
        found = found - np.linalg.solve(curved + np.diag(1 / PRIOR_SPREAD**2), gradient).clip(-1, 1)
    model.termination.weight.mul_(float(found[0]))
    model.termination.bias.mul_(float(found[0])).add_(float(found[1]))


def quantiles(values: Reals, there: Bools, share: float = 0.9) -> Doubles:
    """Of each frame and feature [W, K, F] -> [K, F]; that of the frame before where nothing is there, else SMALLEST."""
    known = np.where(there, values, np.nan).astype(np.float64)
    found = np.full(known.shape[1:], SMALLEST)
    any_there: Bools = np.any(there, axis=0)
    found[any_there] = np.nanquantile(known[:, any_there], share, axis=0)
    for frame in range(1, len(found)):
        found[frame] = np.where(any_there[frame], found[frame], found[frame - 1])
    least: Doubles = np.maximum(found, SMALLEST)
    return least


def _reach(errors: Doubles, before: Doubles, there: Bools, prior: Doubles, count: int) -> Doubles:
    """Logarithm of what nine tenths of the errors are below, [K, F]: all that `count` blocks can tell."""
    now, then = (_level(each * np.exp(-prior), there) for each in (errors, before))
    of_frames, of_features = now.frames - then.frames, now.features - then.features
    reach = prior + now.overall - then.overall + np.sqrt(count / (count + 4)) * (of_frames[:, None] + of_features)
    rest = np.log(quantiles(errors * np.exp(-reach), there))
    left = _level(errors * np.exp(-reach), there)
    of_features = count / (count + PER_FEATURE) * (left.overall + left.features)
    known: Doubles = reach + of_features + count / (count + PER_FRAME) * (rest - of_features)
    return known


class _Level(NamedTuple):
    """Logarithms of what nine tenths are below: of all, and how far each frame and feature is from that."""

    overall: float
    frames: Doubles  # [K]
    features: Doubles  # [F]


def _level(ratios: Doubles, there: Bools) -> _Level:
    frames, features = ratios.shape[1:]
    overall = float(np.log(max(np.quantile(ratios[there], 0.9), SMALLEST)))
    flat, known = ratios.swapaxes(1, 2).reshape(-1, frames), there.swapaxes(1, 2).reshape(-1, frames)
    of_frames = _relative(flat, known, overall)
    return _Level(overall, of_frames, _relative(ratios.reshape(-1, features), there.reshape(-1, features), overall))


def _relative(ratios: Doubles, there: Bools, overall: float) -> Doubles:
    """Logarithm of each column's quantile less the overall one, 0 where nothing is there: [N, C] -> [C]"""
    found = np.log(quantiles(ratios[:, None], there[:, None])[0]) - overall
    return np.where(there.any(axis=0), found, 0.0)


def _predicted(model: WorldModel, held_out: Windows, device: torch.device) -> _Held:
    parts = []
    for batch, prediction in predictions(model, held_out, device):
        exists = (batch.weight > 0)[..., None].expand_as(batch.features)
        there = exists if batch.present is None else exists & (batch.present > 0)
        said = (prediction.log_std - model.log_std_offset) / model.log_std_slope
        parts.append((batch.features - prediction.features, said, there))
    errors, added, exist = (torch.cat(part).cpu().numpy() for part in zip(*parts, strict=True))
    return _Held(errors.astype(np.float64), added.astype(np.float64), exist)


def _mean(values: Doubles, there: Bools) -> Doubles:
    """[W, K, F] -> [K, F], 0 where nothing is there"""
    mean: Doubles = np.where(there, values, 0).sum(axis=0) / np.maximum(there.sum(axis=0), 1)
    return mean
