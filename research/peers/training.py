"""A model on one set of logs: trained by the clock where it learns, and its errors on val and test episodes.

The clock is the processor's, of this process: what else the machine does costs no model its updates.
"""

import copy
import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from research.peers.peer import Peer, new_peer
from worldmodel.arrays.mixing import Mixture
from worldmodel.arrays.packing import encoded, labels_of, pack
from worldmodel.arrays.scaler import Scaler, fit
from worldmodel.arrays.windows import Packed, Windows, windows
from worldmodel.core.params import IngestParams, Normalize, Params, Train
from worldmodel.episodes.schema import ActionSpace, Episode, Split
from worldmodel.episodes.table import Table
from worldmodel.evaluation.scoring import chunks
from worldmodel.logs.ingest import ingest
from worldmodel.model.baselines import linear_baseline, persistence
from worldmodel.model.optimization import learning_rate
from worldmodel.model.selection import subsample
from worldmodel.model.tensors import Tensors, to_device
from worldmodel.stages.train import EVALUATIONS

CPU = torch.device("cpu")
MOST_UPDATES = 1_000_000
RESOLUTION = 10_000  # of the learning rate's way through the seconds
MARKS = (1, 8, 16)  # frames whose errors are listed
BASELINES, OURS = ("hold-last", "ridge"), "ours"
# Imported where they are trained: what one is made of does not decide the results of another.
PEERS = {"pets": "Pets", "rwm": "Rwm", "admpo": "Admpo", "rssm": "Rssm", "tdmpc2": "TdMpc2"}

Predict = Callable[[Tensors], Tensor]
Row = dict[str, Any]


@dataclass(frozen=True)
class Trained:
    predict: Predict
    updates: int = 0
    seconds: float = 0.0  # of the processor, for updates and all that must come before them; selection excluded
    selected: float = 0.0  # share of the updates that the chosen weights have seen
    peer: Peer | None = None  # with these weights, where it is one


@dataclass(frozen=True)
class Logs:
    """Observed episodes and what the stages prepare, normalize and train make of them, in memory."""

    episodes: list[Episode]
    splits: list[Split]
    action_space: ActionSpace
    scaler: Scaler  # fitted on the train episodes

    @property
    def train(self) -> list[Episode]:
        return [episode for episode, split in zip(self.episodes, self.splits, strict=True) if split == "train"]

    def packed(self, dreams: Sequence[Episode] = ()) -> Packed:
        """All episodes end to end, in standardized units; dreams are train."""
        episodes = [*self.episodes, *dreams]
        of_dreams: list[Split] = ["train"] * len(dreams)
        return pack(_samples(episodes, self.action_space), self.scaler, labels_of(episodes, [*self.splits, *of_dreams]))


def read(path: Path, intake: IngestParams, normalize: Normalize) -> Logs:
    """Raises ValueError where the logs are no good."""
    logs = ingest([path], intake, Episode.whole)
    pairs = zip(logs.episodes, logs.splits, strict=True)
    kept = [(episode, split) for episode, split in pairs if split is not None and episode.source == "observed"]
    train = [episode for episode, split in kept if split == "train"]
    space = logs.action_space
    scaler = fit(_samples(train, space), normalize.method, normalize.min_std, one_hot=space.kind == "discrete")
    return Logs([episode for episode, _ in kept], [split for _, split in kept], space, scaler)


def _samples(episodes: Sequence[Episode], space: ActionSpace) -> list[Table]:
    return [encoded(each.table(), space) for each in episodes]


def in_order(models: Iterable[str]) -> list[str]:
    """The baselines, then ours, whose seconds are the peers', then the peers in their order."""
    requested = list(models)
    return [*BASELINES, *(name for name in requested if name == OURS), *(name for name in requested if name in PEERS)]


def measure(name: str, logs: Logs, settings: Params, seconds: float | None, seed: int) -> Row:
    """Errors, and what was spent on them; `seconds` are a peer's, and nobody else's."""
    packed, train = logs.packed(), settings.train
    trained = _trained(name, logs, packed, settings, seconds, seed)
    held_out = {split: windows(packed, packed.where(split), train.history, train.horizon) for split in ("val", "test")}
    spent = {"seconds": trained.seconds, "updates": trained.updates, "selected": trained.selected}
    return {"model": name} | {split: errors(trained.predict, each) for split, each in held_out.items()} | spent


def _trained(name: str, logs: Logs, packed: Packed, settings: Params, seconds: float | None, seed: int) -> Trained:
    if name in BASELINES:
        return Trained(_baseline(name, packed))
    module = import_module(f"research.peers.{name}")
    if name == OURS:
        trained: Trained = module.train(logs, settings, seed)
        return trained
    assert seconds is not None
    return train_peer(getattr(module, PEERS[name]), packed, settings.train, seconds, seed)


def _baseline(name: str, packed: Packed) -> Predict:
    ridge = linear_baseline(packed)

    def hold(batch: Tensors) -> Tensor:
        return torch.from_numpy(persistence(batch.history[:, -1].numpy(), batch.features.shape[1]))

    def linear(batch: Tensors) -> Tensor:
        return torch.from_numpy(ridge.rollout(batch.history[:, -1].numpy(), batch.planned_actions.numpy()))

    return hold if name == BASELINES[0] else linear


def train_peer(kind: type[Peer], packed: Packed, settings: Train, seconds: float, seed: int) -> Trained:
    """Update for so many seconds; warm-up and cosine as ours, evaluated on val windows as often as ours."""
    begin = time.process_time()
    history, horizon = (1, 1) if kind.single_transitions else (settings.history, settings.horizon)
    episodes = packed.where("train")
    observed, none = windows(packed, episodes, history, horizon), windows(packed, episodes[:0], history, horizon)
    mixture = Mixture(observed, none, kind.batch_size, np.zeros(MOST_UPDATES), seed, confidence=False)
    held_out = subsample(windows(packed, packed.where("val"), settings.history, settings.horizon))
    peer = new_peer(kind, packed, episodes, seed, settings.history, settings.horizon)
    spent = time.process_time() - begin
    t, evaluated, best, best_at, weights = 0, 0, math.inf, 0, peer.state_dict()
    while t == 0 or (spent < seconds and t < MOST_UPDATES):
        begin = time.process_time()
        share = learning_rate(min(round(spent / seconds * RESOLUTION), RESOLUTION), RESOLUTION, 1.0)
        peer.update(to_device(mixture.batch(t), CPU), share)
        spent, t = spent + time.process_time() - begin, t + 1
        if spent >= (evaluated + 1) * seconds / EVALUATIONS:
            evaluated, error = evaluated + 1, errors(peer.predict, held_out)["mean"]
            if error < best:
                best, best_at, weights = error, t, copy.deepcopy(peer.state_dict())
    peer.load_state_dict(weights)
    return Trained(peer.predict, t, spent, best_at / t, peer)


def errors(predict: Predict, held_out: Windows) -> dict[str, float]:
    """Open-loop mean squared errors, standardized units: mean over the horizon, and of some of its frames."""
    total, weight = np.zeros(held_out.horizon), np.zeros(held_out.horizon)
    for batch in chunks(held_out):
        with torch.no_grad():
            predicted = predict(to_device(batch, CPU)).numpy()
        total += (np.square(predicted.astype(np.float64) - batch.features).mean(axis=2) * batch.weight).sum(axis=0)
        weight += batch.weight.sum(axis=0)
    frames = {f"h{mark}": float(total[mark - 1] / weight[mark - 1]) for mark in MARKS if mark <= held_out.horizon}
    return {"mean": float(total.sum() / weight.sum())} | frames
