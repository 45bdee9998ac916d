from dataclasses import replace

import numpy as np
import pytest
import torch

from factories import make_episodes, make_packed
from worldmodel.arrays.windows import windows
from worldmodel.core.student_t import half_width
from worldmodel.model.initialization import new_model
from worldmodel.model.linear_start import linear_starts, roomy
from worldmodel.model.shape import STATE_CLAMP, Shape
from worldmodel.model.start_choice import choose_start, rollout
from worldmodel.model.tensors import to_device
from worldmodel.model.world_model import DEGREES

CPU = torch.device("cpu")
SHAPE = Shape(features=3, actions=0, rewards=False, history=3, horizon=8, z_dim=16, hidden_dim=16, encoder="mlp")
EVERY = np.arange(12)


def packed_of(*columns, count=12, length=60):
    """Episodes whose features are drawn, column by column, by functions of (rng, length)."""
    rng = np.random.default_rng(0)
    bases = make_episodes(count, length, features=1, actions=0, kind="none", rewards=False)
    return make_packed(
        [replace(e, features=np.stack([draw(rng, length) for draw in columns], 1).astype(np.float32)) for e in bases]
    )


def walk(rng, length):
    return rng.normal(size=length).cumsum()


def noise(rng, length):
    return rng.normal(size=length)


def coast(rng, length):
    """A constant speed that jumps now and then: no state of the train episodes tells it, but the last change does."""
    return np.repeat(rng.standard_t(2, length // 20), 20).cumsum()


def test_each_coordinate_starts_from_what_predicts_it_best():
    packed = packed_of(walk, noise, coast)
    start = choose_start(SHAPE, packed, EVERY, None).linear
    held, mean, going_on = start.weight[:, :3], -np.eye(3), start.weight[:, 3:6]
    assert not start.weight[0].any()
    np.testing.assert_allclose(held[1], mean[1], atol=0.2)
    np.testing.assert_allclose(going_on[2], [0, 0, start.delta_std[2]], atol=0.1 * start.delta_std[2])


@pytest.mark.parametrize(("features", "history", "z_dim"), [(3, 3, 16), (3, 1, 16), (9, 3, 4), (6, 3, 8)])
def test_the_untrained_model_predicts_what_its_start_does(features, history, z_dim):
    packed = make_packed(make_episodes(6, 30, features=features))
    shape = replace(
        SHAPE, features=features, actions=packed.actions.shape[1], history=history, z_dim=z_dim, rewards=True
    )
    model = new_model(shape, packed, np.arange(6), 0, CPU)
    start = choose_start(shape, packed, np.arange(6), None).linear
    found = windows(packed, np.arange(6), history, shape.horizon)
    batch = found.take(np.arange(len(found)))
    given = to_device(batch, CPU)
    predicted = model(given.history, given.past_actions, given.planned_actions).features.detach().numpy()
    np.testing.assert_allclose(predicted, rollout(start, batch) @ start.projection, atol=1e-5)


def test_it_is_ridge_where_the_logs_are_linear():
    packed = make_packed(make_episodes(12, 60, features=3, noise=0.01))
    shape = replace(SHAPE, actions=packed.actions.shape[1])
    chosen = choose_start(shape, packed, EVERY, None).linear
    rows = [packed.rows(episode) for episode in EVERY]
    [ridge] = linear_starts([packed.features[row] for row in rows], [packed.actions[row] for row in rows], 3)
    np.testing.assert_allclose(chosen.weight[:, :3], ridge.weight[:, :3], atol=0.05)


def test_a_coordinate_that_runs_away_is_damped_and_the_others_are_not():
    def growing(rng, length):
        return rng.normal() * 1.02 ** np.arange(length)

    packed = packed_of(growing, lambda rng, n: np.sin(0.5 * np.arange(n) + rng.uniform(0, 6)))
    far = packed.features.copy()
    far[packed.rows(11), 0] = np.minimum(3 * far[packed.rows(11), 0], 8)  # beyond what is known it stands still
    shape = replace(SHAPE, features=2)
    unseen = replace(packed, features=far)
    start = choose_start(shape, unseen, EVERY[:10], windows(unseen, EVERY[11:], 3, 8)).linear
    assert start.damping.shape == (2,)
    assert start.damping[1] == 0


def test_a_value_that_a_held_out_reading_passes_is_no_limit_of_a_sensor():
    def capped(rng, length):
        return np.minimum(rng.normal(size=length).cumsum() / 3, 1)

    packed = packed_of(capped, capped)
    higher = packed.features.copy()
    higher[packed.rows(11), 0] += 2
    unseen = replace(packed, features=higher)
    shape = replace(SHAPE, features=2)
    alone, beside = (
        choose_start(shape, unseen, EVERY[:10], held_out).linear.sensor_max
        for held_out in (None, windows(unseen, EVERY[11:], 3, 8))
    )
    assert (alone < STATE_CLAMP).all()
    assert beside.tolist() == [STATE_CLAMP, alone[1]]


def test_its_spread_is_that_of_episodes_that_it_does_not_know():
    packed = packed_of(noise, noise, noise, count=200)
    few = np.arange(3)
    shape = replace(SHAPE, z_dim=8, history=1)
    start = choose_start(shape, packed, few, None)
    unseen = windows(packed, np.arange(3, 200), 1, 8)
    batch = unseen.take(np.arange(len(unseen)))
    off = np.abs(rollout(start.linear, batch) @ start.linear.projection - batch.features)
    inside = off <= half_width(DEGREES) * np.exp(start.log_std)
    assert inside.mean() == pytest.approx(0.9, abs=0.03)


def test_z_grows_where_it_cannot_hold_a_frame():
    rng = np.random.default_rng(0)
    alone = [rng.normal(size=(50, 80)).astype(np.float32)] * 20
    mixing = rng.normal(size=(5, 80))
    together = [(each[:, :5] @ mixing).astype(np.float32) for each in alone]
    assert roomy(64, [each[:, :48] for each in alone]) == 64
    assert roomy(64, together) == 64
    assert 80 >= roomy(64, alone) * 3 // 4 > 45
