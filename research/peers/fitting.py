"""A peer trained by the clock: it keeps the weights that do best on val windows. Errors of any model.

The clock is the processor's, of this process: what else the machine does costs no model its updates.
"""

import copy
import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from research.peers.peer import Kind, new_peer
from worldmodel.arrays.mixing import Mixture
from worldmodel.arrays.windows import Packed, Windows, windows
from worldmodel.core.params import Train
from worldmodel.evaluation.metrics import squared_error
from worldmodel.evaluation.scoring import chunks
from worldmodel.model.optimization import learning_rate
from worldmodel.model.selection import subsample
from worldmodel.model.tensors import Tensors, to_device
from worldmodel.stages.train import EVALUATIONS

CPU = torch.device("cpu")
MOST_UPDATES = 1_000_000
RESOLUTION = 10_000  # of the learning rate's way through the seconds
MARKS = (1, 8, 16)  # frames whose errors are told

Predict = Callable[[Tensors], Tensor]


@dataclass(frozen=True)
class Trained:
    predict: Predict
    updates: int
    seconds: float  # of the processor, for updates and all that must come before them; selection excluded
    selected: float  # share of the updates that the chosen weights have seen


def train_peer(kind: type[Kind], packed: Packed, settings: Train, seconds: float, seed: int) -> Trained:
    """Update for so many seconds; warm-up and cosine as ours, looks at val windows as often as ours."""
    begin = time.process_time()
    history, horizon = (1, 1) if kind.single_transitions else (settings.history, settings.horizon)
    episodes = packed.where("train")
    observed, none = windows(packed, episodes, history, horizon), windows(packed, episodes[:0], history, horizon)
    mixture = Mixture(observed, none, kind.batch_size, np.zeros(MOST_UPDATES), seed, confidence=False)
    held_out = subsample(windows(packed, packed.where("val"), settings.history, settings.horizon))
    peer = new_peer(kind, packed, episodes, seed, settings.history, settings.horizon)
    spent = time.process_time() - begin
    t, looks, best, best_at, weights = 0, 0, math.inf, 0, peer.state_dict()
    while t == 0 or (spent < seconds and t < MOST_UPDATES):
        begin = time.process_time()
        share = learning_rate(min(round(spent / seconds * RESOLUTION), RESOLUTION), RESOLUTION, 1.0)
        peer.update(to_device(mixture.batch(t), CPU), share)
        spent, t = spent + time.process_time() - begin, t + 1
        if spent >= (looks + 1) * seconds / EVALUATIONS:
            looks, error = looks + 1, errors(peer.predict, held_out)["mean"]
            if error < best:
                best, best_at, weights = error, t, copy.deepcopy(peer.state_dict())
    peer.load_state_dict(weights)
    return Trained(peer.predict, t, spent, best_at / t)


def errors(predict: Predict, held_out: Windows) -> dict[str, float]:
    """Open-loop mean squared errors, standardized units: mean over the horizon, and of some of its frames."""
    total, weight = np.zeros(held_out.horizon), np.zeros(held_out.horizon)
    for batch in chunks(held_out):
        with torch.no_grad():
            predicted = predict(to_device(batch, CPU)).numpy()
        total += (squared_error(predicted, batch.features) * batch.weight).sum(axis=0)
        weight += batch.weight.sum(axis=0)
    frames = {f"h{mark}": float(total[mark - 1] / weight[mark - 1]) for mark in MARKS if mark <= held_out.horizon}
    return {"mean": float(total.sum() / weight.sum())} | frames
