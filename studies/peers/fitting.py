"""Peers by the clock, ours by its steps; both keep the weights that do best on val windows. Errors of either."""

import copy
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from peers.material import Material
from peers.peer import Kind, new_peer
from train import EVALUATIONS, fit
from worldmodel.config.params import Params, Train
from worldmodel.data.mixing import Mixture, rho_schedule
from worldmodel.data.windows import Packed, Windows, windows
from worldmodel.dreaming.dreamer import generate_dreams
from worldmodel.learning import learner
from worldmodel.learning.learner import Tensors
from worldmodel.learning.model import Shape
from worldmodel.measuring.metrics import squared_error
from worldmodel.measuring.scoring import chunks

CPU = torch.device("cpu")
MOST_UPDATES = 1_000_000
RESOLUTION = 10_000  # of the learning rate's way through the seconds
MARKS = (1, 8, 16)  # frames whose errors are told

Predict = Callable[[Tensors], Tensor]


@dataclass(frozen=True)
class Trained:
    predict: Predict
    updates: int
    seconds: float  # of updates, and of all that must come before them; selection excluded
    selected: float  # share of the updates that the chosen weights have seen


def train_peer(kind: type[Kind], packed: Packed, settings: Train, seconds: float, seed: int) -> Trained:
    """Update for so many seconds; warm-up and cosine as ours, looks at val windows as often as ours."""
    history, horizon = (1, 1) if kind.single_transitions else (settings.history, settings.horizon)
    episodes = packed.where("train")
    observed, none = windows(packed, episodes, history, horizon), windows(packed, episodes[:0], history, horizon)
    mixture = Mixture(observed, none, kind.batch_size, np.zeros(MOST_UPDATES), seed, confidence=False)
    held_out = learner.thinned(windows(packed, packed.where("val"), settings.history, settings.horizon))
    peer = new_peer(kind, packed, episodes, seed, settings.history, settings.horizon)
    spent, t, looks, best, best_at, weights = 0.0, 0, 0, math.inf, 0, peer.state_dict()
    while spent < seconds and t < MOST_UPDATES:
        begin = time.perf_counter()
        share = learner.learning_rate(round(spent / seconds * RESOLUTION), RESOLUTION, 1.0)
        peer.update(learner.to_device(mixture.batch(t), CPU), share)
        spent, t = spent + time.perf_counter() - begin, t + 1
        if spent >= (looks + 1) * seconds / EVALUATIONS:
            looks, error = looks + 1, errors(peer.predict, held_out)["mean"]
            if error < best:
                best, best_at, weights = error, t, copy.deepcopy(peer.state_dict())
    peer.load_state_dict(weights)
    return Trained(peer.predict, t, spent, best_at / t)


def train_ours(material: Material, params: Params, seed: int) -> Trained:
    """The project's way: teacher, dreams, training with the params' steps."""
    settings = replace(params.train, seed=seed)
    dreams = replace(params.dreams, seed=params.dreams.seed + seed)
    begin = time.perf_counter()
    dreamed = generate_dreams(material.train, material.action_space, dreams, params.normalize, settings.history, CPU)
    packed = material.packed(dreamed)
    observed, dreamt, held_out = (
        windows(packed, packed.where(split, source), settings.history, settings.horizon)
        for split, source in (("train", "observed"), ("train", "dream"), ("val", "observed"))
    )
    rho = rho_schedule(settings.rho_schedule, settings.rho_start, settings.rho, settings.steps)
    mixture = Mixture(
        observed, dreamt, settings.batch_size, rho, seed, confidence=settings.dream_weighting == "confidence"
    )
    model = learner.new_model(_shape(packed, settings), packed, packed.where("train"), seed, CPU)
    before = time.perf_counter() - begin
    run = fit(model, mixture, learner.thinned(held_out), settings, CPU)

    def predict(batch: Tensors) -> Tensor:
        features: Tensor = model(batch.history, batch.past_actions, batch.planned_actions).features
        return features

    return Trained(predict, run.steps, before + run.seconds, run.selected_step / run.steps)


def _shape(packed: Packed, settings: Train) -> Shape:
    return Shape(
        features=packed.features.shape[1],
        actions=packed.actions.shape[1],
        rewards=packed.rewards is not None,
        history=settings.history,
        horizon=settings.horizon,
        z_dim=settings.z_dim,
        hidden_dim=settings.hidden_dim,
        encoder=settings.encoder,
        context_spread=settings.kl_weight > 0,
    )


def errors(predict: Predict, held_out: Windows) -> dict[str, float]:
    """Open-loop mean squared errors, standardized units: mean over the horizon, and of some of its frames."""
    total, weight = np.zeros(held_out.horizon), np.zeros(held_out.horizon)
    for batch in chunks(held_out):
        with torch.no_grad():
            predicted = predict(learner.to_device(batch, CPU)).numpy()
        total += (squared_error(predicted, batch.features) * batch.weight).sum(axis=0)
        weight += batch.weight.sum(axis=0)
    frames = {f"h{mark}": float(total[mark - 1] / weight[mark - 1]) for mark in MARKS if mark <= held_out.horizon}
    return {"mean": float(total.sum() / weight.sum())} | frames
