import numpy as np
import pytest

from worldmodel.evaluation.intervals import change, means


def noise(*shape, seed=0):
    return np.random.default_rng(seed).uniform(0.5, 2, shape)


def test_a_constant_ratio_is_found_exactly():
    base = noise(5, 40)
    found = change(0.9 * base, base, np.full(40, 10.0))
    np.testing.assert_allclose([found.value, found.low, found.high], -0.1, atol=1e-12)


def test_no_effect_is_within_the_interval_nineteen_times_of_twenty():
    held = 0
    for trial in range(100):
        rng = np.random.default_rng(trial)
        episodes = rng.uniform(0.5, 2, 40)
        one, other = (episodes * rng.lognormal(0, 0.05, (5, 1)) * rng.lognormal(0, 0.1, (5, 40)) for _ in range(2))
        found = change(one, other, np.ones(40))
        held += found.low <= 0 <= found.high
    assert held >= 85  # five seeds are few: a bootstrap over them is a little too sure


def test_pairing_by_seed_makes_the_interval_narrow_and_mixing_seeds_up_makes_it_wide():
    base = noise(1, 40) * np.linspace(0.5, 1.5, 5)[:, None]
    paired, mixed = (change(arm, base, np.ones(40)) for arm in (0.9 * base, 0.9 * base[::-1]))
    assert paired.value == pytest.approx(mixed.value)
    assert mixed.high - mixed.low > 0.1 > paired.high - paired.low


def test_the_same_numbers_give_the_same_interval():
    one, base = noise(3, 9, seed=1), noise(3, 9)
    assert change(one, base, np.ones(9)) == change(one, base, np.ones(9))


def test_means_are_of_all_windows_and_hold_the_truth_nineteen_times_of_twenty():
    held = np.zeros(2)
    for trial in range(60):
        rng = np.random.default_rng(trial)
        weight = rng.integers(1, 9, (40, 1)).astype(float)
        errors = rng.exponential([1.0, 2.0], (40, 2))
        found = means(errors * weight, np.repeat(weight, 2, axis=1))
        np.testing.assert_allclose(found.value, (errors * weight).sum(axis=0) / weight.sum())
        held += (found.low <= [1, 2]) & (found.high >= [1, 2])
    assert (held >= 50).all()


def test_a_column_that_few_episodes_reach_has_a_mean_of_these():
    weight = np.ones((30, 2))
    weight[1:, 1] = 0
    found = means(weight * np.arange(30)[:, None] + weight, weight)
    assert found.value.tolist() == [15.5, 1.0]
    assert found.low[1] == found.high[1] == 1.0
