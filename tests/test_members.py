from contextlib import suppress

import numpy as np
import pytest
import torch

from factories import make_dreams, make_episodes, make_packed
from test_teacher import CPU, SHAPE
from worldmodel.checkpoints.checkpoint import Checkpoints, Interval, held
from worldmodel.dreams.members import Fitting

FOLDS = [(np.arange(0, 4), np.arange(4, 6)), (np.arange(2, 6), np.arange(0, 2)), (np.arange(1, 5), np.array([0, 5]))]
STEPS = 6
WHENEVER = Interval(steps=1, seconds=0)


@pytest.fixture(scope="module")
def packed():
    return make_packed(make_episodes(6, 12))


def fit(packed, kept=None):
    params = make_dreams(teacher={"members": 3, "steps": STEPS, "dropout": 0.5}).teacher
    return Fitting(packed, SHAPE, params, 7, CPU, kept).members(FOLDS)


def bits(members):
    weights = [{name: tensor.numpy().tobytes() for name, tensor in m.model.state_dict().items()} for m in members]
    return weights, [(m.known, m.unseen) for m in members]


class Stopping(Checkpoints):
    """Ends the process after one step of all."""

    last = 0

    def due(self, step):
        return step == self.last

    def save(self, step, state):
        super().save(step, state)
        raise SystemExit


@pytest.mark.parametrize("last", [1, STEPS - 1, STEPS, STEPS + 1, 2 * STEPS + 3, 3 * STEPS])
def test_members_that_were_stopped_after_any_step_come_to_the_same_bits(tmp_path, packed, last):
    kept = Stopping(tmp_path, WHENEVER)
    kept.last = last
    with suppress(SystemExit):
        fit(packed, kept)
    assert kept.step == last
    with held(tmp_path, WHENEVER) as goes_on:
        again = fit(packed, goes_on)
    assert bits(again) == bits(fit(packed))
    assert not any(each.model.training for each in again)


def test_fitting_leaves_the_random_numbers_of_others_alone(tmp_path, packed):
    torch.manual_seed(1)
    expected = torch.rand(1)
    torch.manual_seed(1)
    with held(tmp_path, WHENEVER) as kept:
        fit(packed, kept)
    assert torch.rand(1) == expected
