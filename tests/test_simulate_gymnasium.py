from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("gymnasium")
pytest.importorskip("mujoco")

from examples import simulate_gymnasium
from examples.simulate_gymnasium import Spread, simulate
from worldmodel.logs.reader import read_logs
from worldmodel.trajectory import Start, arrays_of

ROOT = Path(__file__).parents[1]
NONE = Spread(mass=0, friction=0, damping=0, gain=0, action=0)
HISTORY, LENGTH = 8, 16


@pytest.fixture(scope="module")
def logged():
    """Every 17th episode of the committed logs, all eight agents among them."""
    return read_logs([ROOT / "data/worldmodel/offline"], 60.0).episodes[::17]


@pytest.fixture(scope="module")
def scale(logged):
    return np.concatenate([episode.features for episode in logged]).std(axis=0)


def start_at(episode, begin, history=HISTORY, length=LENGTH):
    last = begin + history - 1
    return Start(
        episode.agent_id,
        episode.name,
        begin,
        length,
        episode.features[begin : last + 1],
        episode.actions[begin:last],
        episode.rewards[begin:last],
        episode.actions[last : last + length + 1],
    )


def errors(logged, scale, spread, frames):
    """Absolute errors after `frames` actions, standardized units; from starts of one frame."""
    found = []
    for episode in logged:
        for begin in (0, 50, 100, 150):
            start = start_at(episode, begin, history=1, length=frames)
            features = simulate(start, np.random.default_rng(0), spread).features
            found.append(np.abs(features[frames] - episode.features[begin + frames]) / scale)
    return np.array(found)


def test_without_randomization_one_action_brings_back_the_next_logged_frame(logged, scale):
    found = errors(logged, scale, NONE, 1)
    assert np.median(found) < 2e-4  # logs are rounded to four decimals, 0.00005 at most
    assert np.quantile(found, 0.99) < 5e-3
    assert found.max() < 0.05


def test_without_randomization_sixteen_actions_stay_close_to_the_logged_frames(logged, scale):
    found = errors(logged, scale, NONE, 16)
    assert np.median(found) < 2e-3
    assert (found**2).mean() < 0.02  # feet that touch down a moment earlier or later


def test_actions_that_are_shifted_by_one_frame_do_not_bring_it_back(logged, scale):
    shifted = [replace(episode, actions=np.roll(episode.actions, 1, axis=0)) for episode in logged]
    assert np.median(errors(shifted, scale, NONE, 1)) > 0.05


def test_rewards_are_the_logged_ones(logged):
    start = start_at(logged[0], 40)
    found = simulate(start, np.random.default_rng(0), NONE)
    np.testing.assert_allclose(found.rewards, logged[0].rewards[40 : 40 + HISTORY + LENGTH], atol=0.05)


@pytest.mark.parametrize("part", ["mass", "friction", "damping", "gain", "action"])
def test_every_part_of_the_physics_changes_where_it_leads(logged, scale, part):
    plain, changed = (errors(logged[:4], scale, spread, 8) for spread in (NONE, replace(NONE, **{part: 0.3})))
    assert np.median(changed) > 5 * np.median(plain)


def test_a_dream_is_the_same_whatever_was_dreamed_before(logged):
    one, other = start_at(logged[0], 3), start_at(logged[1], 90)
    first = simulate_gymnasium.halfcheetah(one, np.random.default_rng(5))
    simulate_gymnasium.halfcheetah(other, np.random.default_rng(6))
    again = simulate_gymnasium.halfcheetah(one, np.random.default_rng(5))
    np.testing.assert_array_equal(first.features, again.features)
    np.testing.assert_array_equal(first.rewards, again.rewards)


def test_a_dream_goes_through_its_history_under_its_own_physics(logged):
    start = start_at(logged[2], 20)
    found = simulate_gymnasium.halfcheetah(start, np.random.default_rng(0))
    np.testing.assert_allclose(found.features[0], start.features[0], atol=1e-6)
    assert np.abs(found.features[1:HISTORY] - start.features[1:]).max() > 0.01


def test_a_dream_fits_the_logs(logged):
    start = start_at(logged[0], 0)
    space = read_logs([ROOT / "data/worldmodel/offline"], 60.0).action_space
    found = arrays_of(simulate_gymnasium.halfcheetah(start, np.random.default_rng(1)), start, space)
    assert found["features"].shape == (HISTORY + LENGTH, 17)
    assert np.abs(found["actions"]).max() <= 1


def test_a_start_without_a_whole_first_frame_is_refused(logged):
    start = start_at(logged[0], 0)
    gone = replace(start, features=np.where(np.arange(17) == 3, np.nan, start.features))
    with pytest.raises(ValueError, match="misses a reading"):
        simulate(gone, np.random.default_rng(0), NONE)
