"""Ours, measured as a peer: teacher, dreams and training with the params' steps, on the processor's clock."""

import time
from dataclasses import replace

from torch import Tensor

from research.peers.training import CPU, Logs, Trained
from worldmodel.core.params import Params
from worldmodel.dreams.dreamer import generate_dreams
from worldmodel.model.inputs import initial_model, training_and_val_windows
from worldmodel.model.selection import BestWeights, subsample
from worldmodel.model.tensors import Tensors
from worldmodel.stages.train import fit


def train(logs: Logs, params: Params, seed: int) -> Trained:
    """What dreams, prepare, normalize and train do, with their seeds moved by `seed`."""
    begin = time.process_time()
    settings = replace(params.train, seed=params.train.seed + seed)
    dreams = replace(params.dreams, seed=params.dreams.seed + seed)
    dreamed = generate_dreams(logs.train, logs.action_space, dreams, params.normalize, settings.history, CPU)
    packed = logs.packed(dreamed)
    mixture, held_out = training_and_val_windows(packed, settings)
    model = initial_model(packed, settings, CPU)
    seen = subsample(held_out)
    run = fit(model, mixture, seen, settings, CPU)
    spent = time.process_time() - begin
    evaluations = 1 + sum(series == "val" for _, series, _ in run.losses)
    begin = time.process_time()  # of one evaluation: `fit` has them as often as peers do, whose seconds leave them out
    BestWeights.at(model, seen, 0, CPU)
    spent -= evaluations * (time.process_time() - begin)
    model.eval()

    def predict(batch: Tensors) -> Tensor:
        features: Tensor = model(batch.history, batch.past_actions, batch.planned_actions).features
        return features

    return Trained(predict, run.steps, spent, run.selected_step / run.steps)
