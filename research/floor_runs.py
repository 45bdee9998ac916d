"""One model and its floors on one set of logs: errors, likelihood, coverage and tails of what both predict.

What dreams, prepare, normalize, train and validate do, in this process and without ONNX. Errors in standard deviations
of the train frames. Dimension key: W windows, K horizon, F features, N episodes.
"""

import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from worldmodel.arrays.packing import encoded, label_of, read_packed, write_packed
from worldmodel.arrays.scaler import Scaler, fit
from worldmodel.arrays.windows import Batch, Packed, Windows, windows
from worldmodel.core.params import IngestParams, Params
from worldmodel.core.student_t import half_width, log_density
from worldmodel.core.typing import Doubles, Floats, Ints, Reals
from worldmodel.dreams.dreamer import generate_dreams
from worldmodel.episodes.schema import Episode, Split
from worldmodel.evaluation.metrics import ROUNDING
from worldmodel.evaluation.scoring import chunks, masked
from worldmodel.export.graph import Scale
from worldmodel.logs.ingest import Ingested, ingest
from worldmodel.logs.split import assign, hashed_share
from worldmodel.model.artifact import read_trained
from worldmodel.model.baselines import linear_baseline, persistence
from worldmodel.model.tensors import to_device
from worldmodel.model.world_model import WorldModel
from worldmodel.numerics import setup
from worldmodel.stages.train import train

CPU = torch.device("cpu")
FLOORS = ("persistence", "linear", "mean", "last_change")
SEVENTH = 7
MOST_WINDOWS = 4096  # of test, and of train for the floors' spread, evenly spaced
LEAST_SPREAD = 1e-3  # standard deviations; a floor is never surer than that
DRAWS, SEED, LEVEL = 2000, 0, 0.025  # of a bootstrap over test episodes
FEWEST = 3  # test episodes that tell anything

Raw = Callable[[Batch], Reals]  # predicted features [B, K, F], raw units


@dataclass(frozen=True)
class Case:
    kind: str
    logs: Path
    size: int  # train episodes at most; 0 = all
    below: int  # the next smaller size: where no more episodes than that are there, nothing is to be measured
    seed: int  # added to the seeds of the params
    every_seventh: bool = False  # episode is test, whatever the hash says
    few_val: bool = False  # val episodes are as few as the params' shares make them beside so few train ones


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


class Skipped(ValueError):
    """There is nothing more to measure at this size."""


class Data(NamedTuple):
    found: Ingested[Episode]
    episodes: list[Episode]
    splits: list[Split]

    def of(self, split: Split) -> list[Episode]:
        return [episode for episode, own in zip(self.episodes, self.splits, strict=True) if own == split]


def measure(case: Case, settings: Params) -> Row:
    """Raises ValueError where the logs are no good, Skipped where another size has measured the same."""
    setup.configure(settings.train)
    data, begin = read(case, settings), time.process_time()
    settings = replace(
        settings,
        dreams=replace(settings.dreams, seed=settings.dreams.seed + case.seed),
        train=replace(settings.train, seed=settings.train.seed + case.seed),
    )
    with TemporaryDirectory() as folder:
        model, manifest, packed, scaler = trained(data, settings, Path(folder))
        seconds = time.process_time() - begin
        counts: dict[str, Any] = {
            split: len({each.identity for each in data.of(split)}) for split in ("train", "val", "test")
        }
        known = {"kind": case.kind, "seed": case.seed, "features": scaler.features.width, **counts}
        spent = {"step": manifest["selected"]["step"], "seconds": seconds}
        return Row(**known | spent | measured(model, packed, scaler))


def read(case: Case, settings: Params) -> Data:
    intake = settings.prepare
    intake = replace(intake, test_share=0.0) if case.every_seventh else intake
    found = ingest([case.logs], intake, Episode.whole, history=1 if case.every_seventh else settings.train.history)
    episodes = every_seventh_is_test(found.episodes) if case.every_seventh else list(found.episodes)
    splits = assign(episodes, intake)
    available = len({each.identity for each, split in zip(episodes, splits, strict=True) if split == "train"})
    if case.below and available <= case.below:
        raise Skipped(f"{available} train episodes")
    splits = assign(episodes, replace(intake, train_episodes=case.size))
    if case.few_val and case.size:
        leave_out_val(episodes, splits, case.size, settings.prepare)
    kept = [(each, split) for each, split in zip(episodes, splits, strict=True) if split and each.source == "observed"]
    return Data(found, [each for each, _ in kept], [split for _, split in kept])


def every_seventh_is_test(episodes: tuple[Episode, ...]) -> list[Episode]:
    number = {identity: at for at, identity in enumerate(dict.fromkeys(each.identity for each in episodes))}
    return [
        replace(each, split="test") if number[each.identity] % SEVENTH == SEVENTH - 1 else each for each in episodes
    ]


def leave_out_val(episodes: list[Episode], splits: list[Split | None], size: int, intake: IngestParams) -> None:
    """Keep val episodes, by the hash that chooses train ones, beside so many of these; at least one."""
    val = {each.identity for each, split in zip(episodes, splits, strict=True) if split == "val"}
    count = max(1, round(size * intake.val_share / (1 - intake.val_share - intake.test_share)))
    kept = sorted(val, key=lambda identity: (hashed_share(intake.seed, identity), identity))[-count:]
    for at, each in enumerate(episodes):
        if splits[at] == "val" and each.identity not in kept:
            splits[at] = None


def trained(data: Data, settings: Params, folder: Path) -> tuple[WorldModel, dict[str, Any], Packed, Scaler]:
    """Through the files that the stages give to each other."""
    found, normalize, observed = data.found, settings.normalize, data.of("train")
    space, dreamed = found.action_space, list[Episode]()
    if settings.train.rho or settings.train.rho_start:
        history = settings.train.history
        dreamed = generate_dreams(observed, space, settings.dreams, normalize, history, CPU, None, found.columns)
    scaler = fit(
        [encoded(each.table(), space) for each in observed],
        normalize.method,
        normalize.min_std,
        space.kind == "discrete",
        found.columns,
    )
    of_dreams: list[Split] = ["train"] * len(dreamed)
    pairs = list(zip([*data.episodes, *dreamed], [*data.splits, *of_dreams], strict=True))
    tables = (encoded(each.table(), space) for each, _ in pairs)
    labels = (label_of(each, split, each.length) for each, split in pairs)
    packed, normalizer = folder / "packed", folder / "normalizer.json"
    normalizer.write_text(scaler.to_json(), encoding="utf-8")
    frames = sum(each.length for each, _ in pairs)
    write_packed(packed, tables, frames, labels, space, scaler, found.interval_s)
    train(packed, normalizer, folder / "train", folder / "plots", folder / "timing.json", settings.train)
    result = read_trained(folder / "train")
    return result.model, result.manifest, read_packed(packed).packed, scaler


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
