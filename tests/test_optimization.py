import numpy as np
import pytest
import torch

from pendulums import CPU, setup, trained
from worldmodel.model.objective import Objective
from worldmodel.model.optimization import learning_rate, new_optimizer, train_step
from worldmodel.model.selection import mean_error
from worldmodel.model.tensors import to_device


@pytest.mark.parametrize("steps", [10, 300, 5000])
def test_the_rate_warms_up_stays_and_falls_to_nearly_nothing(steps):
    rates = np.array([learning_rate(t, steps, 0.01) for t in range(steps)])
    top = np.flatnonzero(rates == rates.max())
    assert rates.max() == 0.01
    assert top[0] == min(100, max(1, steps // 10)) - 1
    assert top[-1] == round(0.6 * steps)
    assert (np.diff(top) == 1).all()
    assert (np.diff(rates[: top[0] + 1]) > 0).all()
    assert (np.diff(rates[top[-1] :]) < 0).all()
    assert 0 < rates[-1] < 0.01 * 3 / steps
    assert rates[0] == pytest.approx(0.01 / (top[0] + 1), rel=0.03)


def test_one_step_has_a_rate():
    assert learning_rate(0, 1, 0.01) == 0.01


def test_a_gradient_is_cut_to_norm_1():
    model, observed, _ = setup(train=2)
    batch = to_device(observed.take(np.arange(8)), CPU)
    optimizer = new_optimizer(model)
    train_step(model, optimizer, batch._replace(features=1e4 * batch.features), 0.0)
    norm = torch.stack([p.grad.norm() for p in model.parameters() if p.grad is not None]).norm()
    assert float(norm) == pytest.approx(1, rel=1e-3)


def test_an_update_moves_by_its_rate():
    model, observed, _ = setup(train=2)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    batch = to_device(observed.take(np.arange(8)), CPU)
    train_step(model, new_optimizer(model), batch, 1e-3)
    moved = max(float((tensor - before[name]).abs().max()) for name, tensor in model.state_dict().items())
    assert moved == pytest.approx(1e-3, rel=0.05)


@pytest.mark.parametrize("likelihood", [False, True])
def test_the_std_reaches_the_hidden_units_by_likelihood_alone(likelihood):
    model, observed, _ = setup(train=2)
    batch = to_device(observed.take(np.arange(8)), CPU)
    torch.nn.init.normal_(model.log_std_head.weight, generator=torch.Generator().manual_seed(0))
    z = model.encode(batch.history, batch.past_actions)
    prediction = model.predict(z, batch.planned_actions, joint=likelihood)
    grads = torch.autograd.grad(prediction.log_std.sum(), model.hidden_layer[0].weight, allow_unused=True)
    assert (grads[0] is not None) == likelihood


def test_likelihood_learns_what_ridge_cannot_and_fits_unlike_squared_error():
    found = []
    for likelihood in (False, True):
        model, observed, held_out = setup(noise=0.1)
        trained(model, observed, 400, objective=Objective(likelihood=likelihood))
        found.append(mean_error(model, held_out, CPU))
    ridge = mean_error(setup(noise=0.1)[0], held_out, CPU)
    assert max(found) < ridge / 2
    assert found[0] != found[1]
