import math

import numpy as np
import pytest
import torch

from pendulums import CPU, setup
from worldmodel.arrays.mixing import Mixture
from worldmodel.arrays.windows import windows
from worldmodel.checkpoints.checkpoint import EVERY, Checkpoints
from worldmodel.model.optimization import new_optimizer, train_step
from worldmodel.model.selection import BestWeights
from worldmodel.model.tensors import to_device
from worldmodel.model.training_state import TrainingState


def bits(model, optimizer, state):
    numbers, tensors = state.state(model, optimizer)
    return numbers, {name: tensor.numpy().tobytes() for name, tensor in tensors.items()}


@pytest.mark.parametrize("held_out", [True, False])
def test_what_goes_on_from_a_file_reaches_the_same_bits(tmp_path, held_out):
    model, observed, unseen = setup()
    unseen = unseen if held_out else unseen.at(np.empty(0, np.int64))
    mixture = Mixture(observed, windows(observed.packed, np.empty(0, np.int64), 2, 4), 8, np.zeros(8), 3, False)

    def steps(model, optimizer, state, until):
        for t in range(state.step, until):
            parts = train_step(model, optimizer, to_device(mixture.batch(t), CPU), 0.003)
            state.add(parts["mse"][None], 0.5)
            if t % 3 == 0:
                state.record_evaluation(BestWeights.at(model, unseen, t + 1, CPU), ["train"])

    optimizer = new_optimizer(model)
    state = TrainingState(BestWeights.at(model, unseen, 0, CPU), torch.zeros(1))
    steps(model, optimizer, state, 5)
    Checkpoints(tmp_path, EVERY).save(5, state.state(model, optimizer))
    steps(model, optimizer, state, 8)

    again, *_ = setup()
    other = new_optimizer(again)
    resumed = TrainingState.resumed(Checkpoints(tmp_path, EVERY).latest(), again, other, CPU)
    assert resumed.step == 5
    steps(again, other, resumed, 8)
    assert bits(again, other, resumed) == bits(model, optimizer, state)
    assert resumed.seconds == 4.0
    assert {name for _, name, _ in resumed.losses} == ({"train", "val"} if held_out else {"train"})
    assert math.isfinite(resumed.best.error) == held_out
