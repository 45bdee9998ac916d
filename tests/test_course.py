import math

import numpy as np
import pytest
import torch

from test_learner import CPU, setup
from worldmodel.arrays.mixing import Mixture
from worldmodel.arrays.windows import windows
from worldmodel.checkpoints.checkpoint import EVERY, Checkpoints
from worldmodel.model import learner
from worldmodel.model.training_state import Course


def bits(model, optimizer, course):
    numbers, tensors = course.state(model, optimizer)
    return numbers, {name: tensor.numpy().tobytes() for name, tensor in tensors.items()}


@pytest.mark.parametrize("held_out", [True, False])
def test_what_goes_on_from_a_file_reaches_the_same_bits(tmp_path, held_out):
    model, observed, unseen = setup()
    unseen = unseen if held_out else unseen.at(np.empty(0, np.int64))
    mixture = Mixture(observed, windows(observed.packed, np.empty(0, np.int64), 2, 4), 8, np.zeros(8), 3, False)

    def steps(model, optimizer, course, until):
        for t in range(course.step, until):
            parts = learner.update(model, optimizer, learner.to_device(mixture.batch(t), CPU), 0.003)
            course.add(parts["mse"][None], 0.5)
            if t % 3 == 0:
                course.look(learner.Selected.at(model, unseen, t + 1, CPU), ["train"])

    optimizer = learner.new_optimizer(model)
    course = Course(learner.Selected.at(model, unseen, 0, CPU), torch.zeros(1))
    steps(model, optimizer, course, 5)
    Checkpoints(tmp_path, EVERY).save(5, course.state(model, optimizer))
    steps(model, optimizer, course, 8)

    again, *_ = setup()
    other = learner.new_optimizer(again)
    resumed = Course.resumed(Checkpoints(tmp_path, EVERY).latest(), again, other, CPU)
    assert resumed.step == 5
    steps(again, other, resumed, 8)
    assert bits(again, other, resumed) == bits(model, optimizer, course)
    assert resumed.seconds == 4.0
    assert {name for _, name, _ in resumed.losses} == ({"train", "val"} if held_out else {"train"})
    assert math.isfinite(resumed.best.error) == held_out
