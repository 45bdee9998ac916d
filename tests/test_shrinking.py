import copy
from dataclasses import replace

import numpy as np
import pytest
import torch

from factories import make_episodes, make_packed
from pendulums import CPU, SHAPE, setup, trained
from worldmodel.arrays.windows import windows
from worldmodel.model.initialization import new_model
from worldmodel.model.selection import mean_error
from worldmodel.model.shrinking import shrink


def spoiled(coordinate, blocks):
    """A model that learned something of a pendulum and then harm in one coordinate; its start, and held-out windows."""
    model, observed, held_out = setup(train=24, held_out=blocks)
    start = copy.deepcopy(model.state_dict())
    trained(model, observed, 200)
    with torch.no_grad():
        model.change.bias[coordinate] += 1.0
        model.linear.weight[coordinate] *= -1
    return model, start, held_out


@pytest.mark.parametrize("coordinate", [0, 1])
@pytest.mark.parametrize("blocks", [1, 3, 12])
def test_what_does_harm_is_taken_back(coordinate, blocks):
    model, start, held_out = spoiled(coordinate, blocks)
    learned = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    before = mean_error(model, held_out, CPU)
    shares = shrink(model, start, held_out, CPU)
    assert shares[coordinate] == 0
    assert mean_error(model, held_out, CPU) < before
    assert mean_error(model, held_out, CPU) <= mean_error_of(start, held_out)
    if not shares.any():
        assert all(torch.equal(start[name], tensor) for name, tensor in model.state_dict().items())
        return
    rows = [name for name in learned if name.split(".")[0] in ("linear", "change")]
    for name, tensor in model.state_dict().items():
        if name not in rows:
            assert torch.equal(tensor, learned[name])
        else:
            for row, share in enumerate(shares):
                expected = start[name][row] + share * (learned[name][row] - start[name][row])
                torch.testing.assert_close(tensor[row], expected)


def mean_error_of(weights, held_out):
    model, *_ = setup(train=24, held_out=1)
    model.load_state_dict(weights)
    return mean_error(model, held_out, CPU)


def test_all_is_taken_back_where_training_does_harm():
    packed = make_packed(make_episodes(8, 12, actions=1, rewards=False))  # linear: the start is all there is to learn
    model = new_model(SHAPE, packed, np.arange(4), 0, CPU)
    start = copy.deepcopy(model.state_dict())
    observed, held_out = (windows(packed, np.arange(first, first + 4), 2, 4) for first in (0, 4))
    trained(model, observed, 10, rate=0.5)
    assert not shrink(model, start, held_out, CPU).any()
    assert all(torch.equal(start[name], tensor) for name, tensor in model.state_dict().items())


def test_what_helps_stays_and_without_windows_all_does():
    model, observed, held_out = setup(train=24)
    start = copy.deepcopy(model.state_dict())
    trained(model, observed, 300)
    learned = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    nothing = replace(held_out, index=np.empty(0, np.int64))
    assert shrink(model, start, nothing, CPU).tolist() == [1, 1]
    assert all(torch.equal(learned[name], tensor) for name, tensor in model.state_dict().items())
    assert (shrink(model, start, held_out, CPU) >= 0.75).all()
