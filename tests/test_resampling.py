import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from worldmodel.episodes.columns import NAMELESS, Column, Columns
from worldmodel.episodes.table import Table
from worldmodel.logs.resampling import resampled

steps = st.sampled_from([0.05, 0.1, 1 / 3, 1.0, 60.0, 1e-3])
begins = st.sampled_from([0.0, 1.69e9, -7.3])
rewards = st.lists(st.floats(-1e6, 1e6, width=32), min_size=2, max_size=30)


def table(times, features=None, **columns):
    times = np.asarray(times, np.float64)
    features = times[:, None] if features is None else np.asarray(features, np.float64).reshape(len(times), -1)
    return Table(times, features, *(columns.get(name) for name in ("actions", "rewards", "confidence", "context")))


def of_kind(kind, unit=""):
    return Columns(features=(Column("x", unit, kind),))


@given(begins, steps, st.integers(1, 50), st.integers(0, 2**32))
def test_a_log_that_is_on_that_clock_stays_bit_by_bit(begin, step, length, seed):
    rng = np.random.default_rng(seed)
    columns = {"rewards": rng.normal(0, 1e3, length).astype(np.float32), "actions": rng.integers(0, 4, length)}
    features = rng.normal(0, 1e6, (length, 2))
    features[rng.random((length, 2)) < 0.2] = np.nan
    context = rng.normal(0, 1, (length, 1)).astype(np.float32)
    logged = table(begin + np.arange(length) * step, features, **columns, context=context)
    found = resampled(logged, step, NAMELESS)
    for name, column in logged._asdict().items():
        if column is not None:
            again = getattr(found, name)
            assert (again.dtype, again.tobytes()) == (column.dtype, column.tobytes()), name


@given(st.lists(st.floats(0.01, 3), min_size=1, max_size=40), st.floats(0.05, 2))
def test_what_is_linear_in_time_stays_so_on_a_regular_clock(gaps, step):
    times = np.cumsum([5.0, *gaps])
    found = resampled(table(times, np.stack([3 * times - 1, -times], 1)), step, NAMELESS)
    np.testing.assert_allclose(np.diff(found.timestamps), step, rtol=1e-5)
    np.testing.assert_allclose(found.features[:, 0], 3 * found.timestamps - 1, rtol=1e-9)
    np.testing.assert_allclose(found.features[:, 1], -found.timestamps, rtol=1e-9)
    assert times[-1] - step < found.timestamps[-1] <= times[-1] + 1e-5


@given(rewards, st.floats(0.05, 7))
def test_rewards_add_up_to_what_they_were(earned, step):
    logged = table(np.arange(len(earned)), rewards=np.array(earned, np.float32))
    found = resampled(logged, step, NAMELESS).rewards
    assert found.sum(dtype=np.float64) == pytest.approx(np.sum(earned), rel=1e-5, abs=1e-5 * np.abs(earned).max())


def test_a_reward_is_summed_over_longer_steps_and_shared_among_shorter_ones():
    logged = table(np.arange(5), rewards=np.array([1, 2, 3, 4, 5], np.float32))
    assert resampled(logged, 2, NAMELESS).rewards.tolist() == [3, 7, 5]
    assert resampled(logged, 0.5, NAMELESS).rewards[:-1].tolist() == [0.5, 0.5, 1, 1, 1.5, 1.5, 2, 2]


@pytest.mark.parametrize(("unit", "turn"), [("degrees", 360), ("radians", 2 * np.pi)])
@pytest.mark.parametrize("low", [0.0, -0.5])
def test_an_angle_takes_the_shorter_arc_and_stays_in_its_range(unit, turn, low):
    times = np.arange(0, 60, 1.0)
    swept = (times * 0.07 + low) % 1 + low  # turns, from low to low + 1
    found = resampled(table(times, swept * turn), 0.25, of_kind("angle", unit)).features[:, 0] / turn
    true = (np.arange(len(found)) * 0.25 * 0.07 + low) % 1 + low
    np.testing.assert_allclose(np.abs((found - true + 0.5) % 1 - 0.5), 0, atol=1e-9)
    assert low <= found.min() < found.max() < low + 1


def test_a_category_and_an_action_are_held():
    logged = table([0, 1, 2.5], [1, 7, 3], actions=np.array([4, 5, 6]))
    found = resampled(logged, 0.5, of_kind("category"))
    assert found.features[:, 0].tolist() == [1, 1, 7, 7, 7, 3]
    assert found.actions.tolist() == [4, 4, 5, 5, 5, 6]


def test_nothing_is_between_a_reading_and_one_that_is_missing():
    found = resampled(table([0, 1, 2, 3], [0, np.nan, 2, 3]), 0.5, NAMELESS).features[:, 0]
    np.testing.assert_equal(found, [0, np.nan, np.nan, np.nan, 2, 2.5, 3])


def test_a_clock_in_another_unit_than_the_log_is_refused():
    with pytest.raises(ValueError, match=r"resample_s is 0\.05, which makes .* raise it, and log timestamps in sec"):
        resampled(table([0, 5e7, 1e8]), 0.05, NAMELESS)
