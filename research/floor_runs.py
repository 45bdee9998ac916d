"""Training on one set of logs: what dreams, prepare, normalize and train do, in this process."""

import time
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import torch

from research.floor_scores import Row, measured
from worldmodel.arrays.packing import encoded, label_of, read_packed, write_packed
from worldmodel.arrays.scaler import Scaler, fit
from worldmodel.arrays.windows import Packed
from worldmodel.core.params import IngestParams, Params
from worldmodel.dreams.dreamer import generate_dreams
from worldmodel.episodes.schema import Episode, Split
from worldmodel.logs.ingest import Ingested, ingest
from worldmodel.logs.split import assign, hashed_share
from worldmodel.model.artifact import read_trained
from worldmodel.model.world_model import WorldModel
from worldmodel.numerics import setup
from worldmodel.stages.train import train

CPU = torch.device("cpu")
SEVENTH = 7


@dataclass(frozen=True)
class Case:
    kind: str
    logs: Path
    size: int  # train episodes at most; 0 = all
    below: int  # the next smaller size: where no more episodes than that are there, nothing is to be measured
    seed: int  # added to the seeds of the params
    every_seventh: bool = False  # episode is test, whatever the hash says
    few_val: bool = False  # val episodes are as few as the params' shares make them beside so few train ones


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
        train=replace(settings.train, seed=settings.train.seed + case.seed, policy_steps=0),
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
