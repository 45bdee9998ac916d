import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from factories import make_episodes, make_packed
from worldmodel.arrays.mixing import Mixture
from worldmodel.arrays.windows import windows
from worldmodel.model import selection
from worldmodel.model.calibration import NORMAL_90, calibrate
from worldmodel.model.initialization import new_model
from worldmodel.model.objective import PREDICTION_ALONE, Objective
from worldmodel.model.optimization import learning_rate, new_optimizer, train_step
from worldmodel.model.selection import DAMPINGS, BestWeights, choose_damping, mean_error, predictions, subsample
from worldmodel.model.shape import Shape
from worldmodel.model.tensors import to_device

CPU = torch.device("cpu")
SHAPE = Shape(features=2, actions=1, rewards=False, history=2, horizon=4, z_dim=8, hidden_dim=32, encoder="mlp")


def pendulums(count, seed, noise=0.0):
    """Episodes of a pushed pendulum, whose gravity is no linear function of its angle."""
    episodes = []
    for base in make_episodes(count, 30, features=2, actions=1, seed=seed, rewards=False):
        rng = np.random.default_rng([seed, len(episodes)])
        x = [rng.uniform(-2.5, 2.5, 2)]
        for push in base.actions[:-1, 0]:
            angle, speed = x[-1]
            speed = 0.98 * speed + 0.3 * (push - 2 * np.sin(angle))
            x.append(np.array([angle + 0.3 * speed, speed]) + noise * rng.normal(size=2))
        episodes.append(replace(base, features=np.array(x, np.float32)))
    return episodes


def setup(noise=0.0, train=24, held_out=12):
    packed = make_packed(pendulums(train, 0, noise) + pendulums(held_out, 1, noise))
    observed, unseen = np.arange(train), np.arange(train, train + held_out)
    model = new_model(SHAPE, packed, observed, seed=0, device=CPU)
    return model, windows(packed, observed, 2, 4), windows(packed, unseen, 2, 4)


def trained(model, observed, steps, rate=3e-3, objective=PREDICTION_ALONE):
    none = windows(observed.packed, np.empty(0, np.int64), 2, 4)
    mixture = Mixture(observed, none, 32, np.zeros(steps), 0, confidence=False)
    optimizer = new_optimizer(model)
    for t in range(steps):
        batch = to_device(mixture.batch(t), CPU)
        train_step(model, optimizer, batch, learning_rate(t, steps, rate), objective)
    return model


def ratios(model, held_out):
    """|error| / std and whether the frame exists, [W, K, F] and [W, K]."""
    (batch, prediction), *none = predictions(model, held_out, CPU)
    assert not none
    return ((batch.features - prediction.features).abs() / prediction.log_std.exp()).numpy(), batch.weight.numpy() > 0


def test_the_error_is_a_mean_over_the_frames_that_exist():
    model, _, _ = setup(train=4)
    packed = make_packed([replace(e, **cut(e, 4 + n)) for n, e in enumerate(pendulums(3, 2))])
    short = windows(packed, np.arange(3), 2, 4)
    errors = []
    for batch, prediction in predictions(model, short, CPU):
        squared = (batch.features - prediction.features).square().mean(-1)
        errors += [float(squared[b, k]) for b, k in zip(*np.nonzero(batch.weight.numpy()), strict=True)]
    assert len(errors) == 2 + 3 + 4
    assert mean_error(model, short, CPU) == pytest.approx(np.mean(errors), rel=1e-5)


def cut(episode, length):
    return {name: getattr(episode, name)[:length] for name in ("timestamps", "features", "actions")}


def test_the_size_of_evaluation_batches_does_not_matter(monkeypatch):
    model, _, held_out = setup(train=4)
    whole = mean_error(model, held_out, CPU)
    monkeypatch.setattr(selection, "EVALUATION_BATCH", 7)
    assert mean_error(model, held_out, CPU) == pytest.approx(whole, rel=1e-6)


def test_selection_keeps_the_start_where_training_does_harm():
    packed = make_packed(make_episodes(8, 12, actions=1, rewards=False))  # linear: the start is all there is to learn
    model = new_model(SHAPE, packed, np.arange(4), 0, CPU)
    observed, held_out = (windows(packed, np.arange(first, first + 4), 2, 4) for first in (0, 4))
    best = BestWeights.at(model, held_out, 0, CPU)
    for step in range(1, 6):
        trained(model, observed, 3, rate=0.5)
        best = best.or_better(BestWeights.at(model, held_out, step, CPU))
    assert mean_error(model, held_out, CPU) > best.error
    assert best.step == 0
    model.load_state_dict(best.weights)
    assert mean_error(model, held_out, CPU) == best.error


def test_selection_takes_the_better_and_of_equals_the_later():
    one, two, same, broken = (BestWeights(step, error, {}) for step, error in enumerate([2.0, 1.0, 1.0, float("nan")]))
    assert one.or_better(two) is two
    assert two.or_better(one) is two
    assert two.or_better(same) is same
    assert two.or_better(broken) is two


def test_selected_weights_do_not_change_with_the_model():
    model, observed, held_out = setup(train=2)
    best = BestWeights.at(model, held_out, 0, CPU)
    before = {name: tensor.clone() for name, tensor in best.weights.items()}
    trained(model, observed, 2)
    assert all(torch.equal(before[name], best.weights[name]) for name in before)


def test_without_held_out_windows_the_latest_weights_are_kept():
    model, _, held_out = setup(train=2)
    nothing = windows(held_out.packed, np.empty(0, np.int64), 2, 4)
    first, second = (BestWeights.at(model, nothing, step, CPU) for step in (0, 1))
    assert first.error == math.inf
    assert first.or_better(second) is second
    offset = model.log_std_offset.clone()
    calibrate(model, nothing, CPU)
    assert torch.equal(model.log_std_offset, offset)


@pytest.mark.parametrize("begun", DAMPINGS)
def test_a_trained_model_gets_the_fading_that_does_best_on_held_out_windows(begun):
    near, far = make_episodes(4, 12, actions=1, rewards=False), make_episodes(4, 12, actions=1, rewards=False, seed=1)
    packed = make_packed(near + [replace(e, features=10 * e.features, actions=10 * e.actions) for e in far])  # linear
    model, held_out = new_model(SHAPE, packed, np.arange(4), 0, CPU), windows(packed, np.arange(4, 8), 2, 4)
    model.damping.fill_(begun)
    missed = choose_damping(model, held_out, CPU)
    assert model.damping == 0
    assert missed == mean_error(model, held_out, CPU)


def test_without_held_out_windows_the_fading_stays():
    model, _, held_out = setup(train=2)
    model.damping.fill_(0.3)
    nothing = windows(held_out.packed, np.empty(0, np.int64), 2, 4)
    assert choose_damping(model, nothing, CPU) == math.inf
    assert model.damping.item() == pytest.approx(0.3)


def test_calibrated_intervals_hold_nine_tenths_at_every_frame_of_the_horizon():
    model, observed, held_out = setup(noise=0.05)
    trained(model, observed, 20)
    calibrate(model, held_out, CPU)
    ratio, exists = ratios(model, held_out)
    assert exists.all()
    inside = (ratio <= NORMAL_90).mean(axis=(0, 2))
    np.testing.assert_allclose(inside, 0.9, atol=0.01)


def test_calibration_does_not_look_at_frames_that_do_not_exist():
    model, observed, _ = setup(noise=0.05, train=6)
    trained(model, observed, 20)
    packed = make_packed([replace(e, **cut(e, 4)) for e in pendulums(40, 3, 0.05)])
    short = windows(packed, np.arange(40), 2, 4)
    calibrate(model, short, CPU)
    ratio, exists = ratios(model, short)
    assert exists.tolist() == [[True, True, False, False]] * 40
    np.testing.assert_allclose((ratio[:, :2] <= NORMAL_90).mean(axis=(0, 2)), 0.9, atol=0.03)
    assert model.log_std_offset[2:].tolist() == [0, 0]


def test_calibration_leaves_the_mean_alone():
    model, _, held_out = setup(train=2)
    before = mean_error(model, held_out, CPU)
    calibrate(model, held_out, CPU)
    assert mean_error(model, held_out, CPU) == before


def test_errors_of_zero_keep_the_spread_finite():
    episodes = [replace(e, features=np.ones((9, 2), np.float32)) for e in make_episodes(2, 9, actions=1, rewards=False)]
    packed = make_packed(episodes)
    model = new_model(SHAPE, packed, np.arange(2), 0, CPU)
    calibrate(model, windows(packed, np.arange(2), 2, 4), CPU)
    assert torch.isfinite(model.log_std_offset).all()


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


@pytest.mark.parametrize(("count", "kept"), [(5, 5), (1024, 1024), (2047, 2047), (2048, 1024), (10240, 1024)])
def test_many_windows_are_thinned_evenly(count, kept):
    _, observed, _ = setup(train=2)
    many = replace(observed, index=np.arange(count))
    thin = subsample(many)
    assert len(thin) == kept
    assert len(set(np.diff(thin.first))) == 1


@pytest.mark.parametrize("likelihood", [False, True])
def test_the_spread_reaches_the_hidden_units_by_likelihood_alone(likelihood):
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
        trained(model, observed, 300, objective=Objective(likelihood=likelihood))
        found.append(mean_error(model, held_out, CPU))
    ridge = mean_error(setup(noise=0.1)[0], held_out, CPU)
    assert max(found) < ridge / 2
    assert found[0] != found[1]
