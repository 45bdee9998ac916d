from dataclasses import replace

import numpy as np
import pytest
import torch

from factories import make_episodes, make_packed
from worldmodel.arrays.windows import Packed, windows
from worldmodel.dreams import gaussian
from worldmodel.model.baselines import fit_linear
from worldmodel.model.linear_start import linear_starts


def waves(episodes=8, length=40, seed=0, width=3) -> Packed:
    """The first feature turns by the sine of itself, as no line does; the others are drawn anew in each frame."""
    rng = np.random.default_rng(seed)
    made = []
    for episode in make_episodes(episodes, length, width, actions=1, rewards=False):
        features = rng.uniform(-2, 2, (length, width)).astype(np.float32)
        actions = rng.uniform(-1, 1, (length, 1)).astype(np.float32)
        for t in range(length - 1):
            features[t + 1, 0] = features[t, 0] + 0.8 * np.sin(3 * features[t, 0]) + 0.1 * actions[t, 0]
        made.append(replace(episode, features=features, actions=actions))
    return make_packed(made)


def fitted(packed, left_out=(), most=500, seed=0, episodes=None):
    chosen = np.arange(len(packed.lengths)) if episodes is None else np.array(episodes)
    return gaussian.fit_gaussian_processes(packed, chosen, left_out, packed.features.shape[1], most, seed)


@pytest.fixture(scope="module")
def problem():
    rng = np.random.default_rng(3)
    points = torch.from_numpy(rng.standard_normal((30, 2)))
    return points, torch.from_numpy(rng.standard_normal(30)), torch.tensor(0.05, dtype=torch.float64)


def solved(points, values, noise):
    kernel = gaussian.matern(points, points) + noise * torch.eye(len(points), dtype=torch.float64)
    return torch.linalg.solve(kernel, values)


def test_answers_solve_the_kernel_system(problem):
    points, values, noise = problem
    torch.testing.assert_close(gaussian._answers(points, values[None], noise, [])[0], solved(*problem))


def test_leaving_points_out_is_as_never_having_known_them(problem):
    points, values, noise = problem
    out = torch.tensor([1, 4, 5, 29])
    rest = torch.tensor([row for row in range(30) if row not in out.tolist()])
    _, found = gaussian._answers(points, torch.stack([values, values]), noise, [out])
    torch.testing.assert_close(found[rest], solved(points[rest], values[rest], noise))
    torch.testing.assert_close(found[out], torch.zeros(4, dtype=torch.float64), atol=1e-9, rtol=0)


def test_the_slope_is_that_of_the_likelihood(problem):
    points, values, noise = problem
    kernel = (gaussian.matern(points, points) + noise * torch.eye(30, dtype=torch.float64)).requires_grad_()
    variance = values @ torch.linalg.solve(kernel, values) / 30
    (15 * variance.log() + torch.logdet(kernel) / 2).backward()
    torch.testing.assert_close(gaussian._slope(kernel.detach()[None], values[None])[0], kernel.grad)


@pytest.mark.parametrize("apart", [0.0, 0.3, 2.0])
def test_the_kernel_is_matern_five_halves(apart):
    expected = (1 + 5**0.5 * apart + 5 / 3 * apart**2) * np.exp(-(5**0.5) * apart)
    found = gaussian.matern(torch.zeros(1, 1, dtype=torch.float64), torch.full((1, 1), apart, dtype=torch.float64))
    assert found.item() == pytest.approx(expected, abs=1e-5)


def test_it_predicts_what_ridge_cannot():
    packed = waves(episodes=10)
    held_out = windows(packed, np.array([8, 9]), 1, 3)
    batch = held_out.take(np.arange(len(held_out)))
    rows = [packed.rows(episode) for episode in range(8)]
    ridge = fit_linear([packed.features[row] for row in rows], [packed.actions[row] for row in rows])
    own, floor = (
        np.square(each.rollout(batch.history[:, -1], batch.planned_actions)[..., 0] - batch.features[..., 0])
        for each in (fitted(packed, episodes=range(8))[0], ridge)
    )
    assert own[:, 0].mean() < 0.05 * floor[:, 0].mean()
    assert own.mean() < 0.5 * floor.mean()


def test_far_from_all_points_it_is_ridge():
    packed = waves()
    found = fitted(packed)[0]
    far, actions = np.full((1, 3), 1e4, np.float32), np.zeros((1, 1, 1), np.float32)
    known = np.concatenate([far, actions[:, 0]], axis=1)
    expected = far + known @ found.start.weight.T + found.start.bias
    np.testing.assert_allclose(found.rollout(far, actions)[:, 0], expected, atol=1e-6 * far.max())  # float32 of the sum


def test_inputs_that_tell_nothing_get_long_scales():
    scales = fitted(waves())[0].scales[0]
    assert scales[0] < 0.3 * min(scales[1], scales[2])


def test_each_left_out_process_knows_nothing_of_its_episodes():
    packed = waves()
    whole, first, second = fitted(packed, [np.array([2, 5]), np.array([7])])
    for process, unknown in ((whole, 0), (first, 2 * 39), (second, 39)):
        assert int((process.answers.abs().amax(dim=0) < 1e-5).sum()) == unknown
    rest = [episode for episode in range(8) if episode != 7]
    [ridge] = linear_starts(packed.each(packed.features, rest), packed.each(packed.actions, rest), 3)
    for name in ("weight", "bias", "delta_std", "train_min", "train_max"):
        np.testing.assert_array_equal(getattr(second.start, name), getattr(ridge, name))


def test_a_damped_process_stands_still_far_outside_of_the_train_states():
    packed = waves()
    [process] = fitted(packed)
    far, near = np.full((1, 3), 30, np.float32), packed.features[:5]
    for last, same in ((far, False), (near, True)):
        actions = np.ones((len(last), 1, 1), np.float32)
        free, held = (process.damped(damping).rollout(last, actions)[:, 0] for damping in (0.0, 1.0))
        assert np.array_equal(free, held) == same
    assert np.abs(held - near).max() > 0.1
    assert np.abs(process.damped(1.0).rollout(far, np.ones((1, 1, 1), np.float32)) - far).max() < 0.1


def test_it_knows_no_more_than_it_may_and_the_seed_decides_what():
    packed = waves()
    one, same, other = (fitted(packed, most=50, seed=seed)[0] for seed in (1, 1, 2))
    assert one.points.shape == (3, 50, 4)
    assert torch.equal(one.points, same.points)
    assert torch.equal(one.answers, same.answers)
    assert not torch.equal(one.points, other.points)


def test_no_state_goes_past_its_stops():
    packed = waves()
    packed = replace(packed, features=packed.features.clip(-1, 1))
    [process] = fitted(packed)
    found = process.rollout(packed.features[::10], np.ones((32, 8, 1), np.float32))
    assert found.max() == 1
    assert found.min() == -1


def test_actions_may_be_missing_and_features_constant():
    still = [
        replace(episode, features=np.stack([np.full(9, 2.0), np.sin(np.arange(9) + k)], axis=1).astype(np.float32))
        for k, episode in enumerate(make_episodes(4, 9, kind="none", actions=0))
    ]
    packed = make_packed(still)
    found = fitted(packed)[0].rollout(packed.features[:2], np.zeros((2, 5, 0), np.float32))
    assert np.isfinite(found).all()
    np.testing.assert_allclose(found[..., 0], packed.features[0, 0], atol=1e-5)


def test_states_are_projected_where_they_are_narrower_than_features():
    packed = make_packed(make_episodes(4, 12))
    found = gaussian.fit_gaussian_processes(packed, np.arange(4), [], 1, 100, 0)[0]
    assert found.scales.shape == (1, 1 + packed.actions.shape[1])
    assert found.rollout(packed.features[:3], packed.actions[:3, None]).shape == (3, 1, packed.features.shape[1])
