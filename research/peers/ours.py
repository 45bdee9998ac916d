"""Ours, as a peer would be measured: teacher, dreams and training with the params' steps, on the processor's clock."""

import time
from dataclasses import replace

import torch
from torch import Tensor

from research.peers.fitting import CPU, Trained
from research.peers.material import Material
from worldmodel.arrays.windows import Windows
from worldmodel.core.params import Params
from worldmodel.dreams.dreamer import generate_dreams
from worldmodel.model.selection import BestWeights, subsample
from worldmodel.model.tensors import Tensors
from worldmodel.model.world_model import WorldModel
from worldmodel.stages.train import fit, initial_model, training_and_val_windows


def train_ours(material: Material, params: Params, seed: int) -> Trained:
    """What dreams, prepare, normalize and train do, with their seeds moved by `seed`."""
    begin = time.process_time()
    settings = replace(params.train, seed=params.train.seed + seed)
    dreams = replace(params.dreams, seed=params.dreams.seed + seed)
    dreamed = generate_dreams(material.train, material.action_space, dreams, params.normalize, settings.history, CPU)
    packed = material.packed(dreamed)
    mixture, held_out = training_and_val_windows(packed, settings)
    model = initial_model(packed, settings, CPU)
    seen = subsample(held_out)
    run = fit(model, mixture, seen, settings, CPU)
    spent = time.process_time() - begin
    looks = 1 + sum(series == "val" for _, series, _ in run.losses)

    model.eval()

    def predict(batch: Tensors) -> Tensor:
        features: Tensor = model(batch.history, batch.past_actions, batch.planned_actions).features
        return features

    return Trained(predict, run.steps, spent - looks * _seconds_of_a_look(model, seen), run.selected_step / run.steps)


def _seconds_of_a_look(model: WorldModel, held_out: Windows) -> float:
    """Of the processor: `fit` looks at the val windows as often as peers do, and their seconds leave it out."""
    begin = time.process_time()
    BestWeights.at(model, held_out, 0, torch.device("cpu"))
    return time.process_time() - begin
