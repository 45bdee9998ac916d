import numpy as np
import pytest

from factories import make_episodes, make_packed
from worldmodel.model import linear_start
from worldmodel.model.baselines import fit_linear
from worldmodel.model.filling import fill_in
from worldmodel.model.linear_start import linear_starts
from worldmodel.model.shape import STATE_CLAMP


def linear_system(count=8, length=40, features=3, actions=2, noise=0.0):
    """Episodes of x' = x + W [x, a] + b, and W, b."""
    rng = np.random.default_rng(0)
    inner = rng.normal(0, 0.05, (features, features)) - 0.2 * np.eye(features)
    weight = np.c_[inner, rng.normal(size=(features, actions))]
    bias = rng.normal(0, 0.1, features)
    states, moves = [], []
    for _ in range(count):
        action = rng.normal(size=(length, actions))
        x = [rng.normal(size=features)]
        for a in action[:-1]:
            x.append(x[-1] + weight @ np.r_[x[-1], a] + bias + noise * rng.normal(size=features))
        states.append(np.array(x, np.float32))
        moves.append(action.astype(np.float32))
    return states, moves, weight, bias


def test_ridge_recovers_a_linear_system():
    states, moves, weight, bias = linear_system()
    ridge = fit_linear(states, moves)
    np.testing.assert_allclose(ridge.weight, weight, atol=0.01)
    np.testing.assert_allclose(ridge.bias, bias, atol=0.01)


def test_ridge_is_least_squares_with_its_penalty():
    states, moves, *_ = linear_system(noise=0.3)
    inputs = np.concatenate([np.c_[x[:-1], a[:-1]] for x, a in zip(states, moves, strict=True)]).astype(np.float64)
    targets = np.concatenate([np.diff(x.astype(np.float64), axis=0) for x in states])
    centered, mean, n = inputs - inputs.mean(0), targets.mean(0), len(inputs)
    expected = np.linalg.solve(centered.T @ centered + 1e-3 * n * np.eye(5), centered.T @ (targets - mean)).T
    ridge = fit_linear(states, moves)
    np.testing.assert_allclose(ridge.weight, expected, rtol=1e-6)
    np.testing.assert_allclose(ridge.bias, mean - expected @ inputs.mean(0), rtol=1e-6)


def test_ridge_does_not_learn_from_one_episodes_end_to_the_next_ones_beginning():
    up = np.arange(10, dtype=np.float32)[:, None]
    ridge = fit_linear([up / 10, up / 10 + 50], [np.zeros((10, 0), np.float32)] * 2)
    assert ridge.rollout(np.array([[0.5]], np.float32), np.zeros((1, 1, 0), np.float32)) == pytest.approx(0.6, abs=0.01)


def test_a_rollout_is_a_plain_loop():
    states, moves, *_ = linear_system(noise=0.1)
    ridge = fit_linear(states, moves)
    last, plan = np.stack([x[3] for x in states]), np.stack([a[3:9] for a in moves])
    found = ridge.rollout(last, plan)
    assert found.shape == (8, 6, 3)
    for row in range(8):
        x = last[row].astype(np.float64)
        for t in range(6):
            x = x + ridge.weight @ np.r_[x, plan[row, t]] + ridge.bias
            np.testing.assert_allclose(found[row, t], x, rtol=1e-5, atol=1e-6)


def test_episodes_of_one_frame_teach_nothing():
    ridge = fit_linear([np.ones((1, 2), np.float32)], [np.ones((1, 1), np.float32)])
    assert not ridge.weight.any()
    assert not ridge.bias.any()


def test_a_linear_start_of_all_features_is_ridge():
    packed = make_packed(make_episodes(4, 12))
    rows = [packed.rows(episode) for episode in range(4)]
    features, actions = [packed.features[row] for row in rows], [packed.actions[row] for row in rows]
    [start], ridge = linear_starts(features, actions, 2), fit_linear(features, actions)
    np.testing.assert_array_equal(start.projection, np.eye(2))
    np.testing.assert_array_equal(start.weight, ridge.weight.astype(np.float32))
    np.testing.assert_array_equal(start.bias, ridge.bias.astype(np.float32))
    changes = np.concatenate([np.diff(each, axis=0) for each in features])
    np.testing.assert_allclose(start.delta_std, changes.std(axis=0), rtol=1e-5)
    np.testing.assert_array_equal(start.train_min, packed.features.min(axis=0))
    np.testing.assert_array_equal(start.train_max, packed.features.max(axis=0))


def test_a_constant_has_no_range_that_it_could_leave():
    moving = np.arange(10, dtype=np.float32)
    [start] = linear_starts(
        [np.stack([moving, np.full(10, 5, np.float32)], axis=1)], [np.empty((10, 0), np.float32)], 2
    )
    assert (start.train_min[0], start.train_max[0]) == (0, 9)
    assert (start.train_min[1], start.train_max[1]) == (5 - STATE_CLAMP, 5 + STATE_CLAMP)


def test_where_readings_run_up_against_a_value_is_a_stop():
    bell = np.random.default_rng(0).normal(size=(4, 100, 1)).astype(np.float32)
    steps = np.round(bell)  # its tail ends at few frames, however many are at each step
    flag = np.full((4, 100, 1), 3, np.float32)
    columns = [bell, bell.clip(-1, None), bell.clip(None, 0.5), bell.clip(-1, 1), steps, steps.clip(0, None), flag]
    episodes = np.concatenate(columns, axis=2)
    lower, upper = linear_start.sensor_limits(iter(episodes), len(columns))
    no = STATE_CLAMP
    assert lower.tolist() == [-no, -1, -no, -1, -no, 0, -no]
    assert upper.tolist() == [no, no, 0.5, 1, no, no, no]


def test_a_stop_takes_some_frames():
    readings = np.arange(20, dtype=np.float32)[:, None].repeat(2, axis=1)
    readings[11:, 0], readings[10:, 1] = 30, 30
    assert linear_start.sensor_limits([readings[:15], readings[15:]], 2)[1].tolist() == [STATE_CLAMP, 30]


@pytest.mark.parametrize("rows", [1 << 18, 50])
def test_principal_directions_are_those_of_all_frames_however_many_are_multiplied_at_once(rows, monkeypatch):
    monkeypatch.setattr(linear_start, "PRODUCT_ROWS", rows)
    packed = make_packed(make_episodes(9, 30, features=5))
    every = np.arange(9)
    [start] = linear_starts(packed.each(packed.features, every), packed.each(packed.actions, every), 3)
    wide = packed.features.astype(np.float64)
    directions = np.linalg.eigh(wide.T @ wide / len(wide))[1][:, ::-1][:, :3].T
    np.testing.assert_allclose(np.abs(start.projection), np.abs(directions), atol=1e-6)


def test_the_sign_of_a_principal_direction_does_not_depend_on_the_data():
    packed = make_packed(make_episodes(4, 12, features=5))
    for flipped in (1, -1):
        [start] = linear_starts([flipped * packed.features], [packed.actions], 2)
        largest = np.abs(start.projection).argmax(axis=1)
        assert (start.projection[[0, 1], largest] > 0).all()


def test_a_direction_in_which_nothing_varies_is_0():
    frames = np.random.default_rng(0).normal(size=(50, 2)) @ [[1, 2, 0, 0], [0, 1, 0, 0]]
    [start] = linear_starts([frames.astype(np.float32)], [np.empty((50, 0), np.float32)], 3)
    found = start.projection
    np.testing.assert_allclose(found @ found.T, np.diag([1, 1, 0]), atol=1e-6)
    assert (found[:, 2:] == 0).all()


def with_holes(states, share, seed=0):
    rng = np.random.default_rng(seed)
    return [np.where(rng.random(each.shape) < share, np.float32(np.nan), each) for each in states]


def test_ridge_recovers_a_linear_system_of_which_half_is_missing():
    states, moves, weight, bias = linear_system(count=30, noise=0.1)
    ridge = fit_linear(with_holes(states, 0.5), moves)
    np.testing.assert_allclose(ridge.weight, weight, atol=0.06)
    np.testing.assert_allclose(ridge.bias, bias, atol=0.06)


def test_what_is_filled_in_is_near_what_was_there_and_known_readings_stay():
    states, moves, *_ = linear_system(count=30, noise=0.1)
    holed = with_holes(states, 0.3)
    filled = list(fill_in(holed, moves))
    missing = [np.isnan(each) for each in holed]
    for one, other, gone in zip(filled, states, missing, strict=True):
        np.testing.assert_array_equal(one[~gone], other[~gone])
    apart = np.concatenate([(one - other)[gone] for one, other, gone in zip(filled, states, missing, strict=True)])
    assert apart.std() < 0.25 * np.concatenate(states).std()


def test_without_a_missing_reading_nothing_is_done():
    states, moves, *_ = linear_system()
    assert fill_in(states, moves) is states


def test_a_feature_that_nobody_ever_read_is_0():
    states, moves, *_ = linear_system()
    for each in states:
        each[:, 1] = np.nan
    assert not any(each[:, 1].any() for each in fill_in(states, moves))
    assert np.isfinite(fit_linear(states, moves).weight).all()
