from dataclasses import replace

import numpy as np
import pytest

from factories import make_episodes, make_packed
from worldmodel.arrays.windows import windows
from worldmodel.dreams import rarity

HISTORY, HORIZON = 3, 4


def situations(*starts, width=2, length=HISTORY + HORIZON):
    """One episode of one window for each start: all frames there, standing still."""
    episodes = make_episodes(len(starts), length, features=width)
    frames = [np.repeat(np.array(start, np.float32)[None], length, axis=0) for start in starts]
    packed = make_packed(episodes)
    packed.features[:] = np.concatenate(frames)
    return windows(packed, np.arange(len(starts)), HISTORY, HORIZON)


def cloud(*others, count=60):
    rng = np.random.default_rng(0)
    return situations(*rng.normal(0, 0.1, (count, 2)), *others)


def test_what_lies_far_from_all_others_is_the_rarest():
    every = cloud((3, 3))
    assert rarity.rarest(every, every)[0] == 60


def test_what_lies_between_two_habits_is_rare_although_it_is_near_the_mean():
    rng = np.random.default_rng(0)
    every = situations(*rng.normal(0, 0.1, (40, 2)) + 3, *rng.normal(0, 0.1, (40, 2)) - 3, (0, 0))
    assert rarity.rarest(every, every)[0] == 80


def test_a_few_alike_in_one_place_are_still_rare_and_a_habit_is_not():
    every = cloud(*[(3, 3)] * rarity.NEIGHBOUR)
    assert set(rarity.rarest(every, every)) >= set(range(60, 60 + rarity.NEIGHBOUR - 3))
    habit = cloud(*[(3, 3)] * 40)
    assert set(rarity.rarest(habit, habit).tolist()) <= set(range(60))


def test_a_sudden_change_is_rare_where_its_last_frame_is_not():
    every = cloud((0, 0))
    every.packed.features[every.first[-1] + HISTORY - 2] = 5  # the frame before the last of the history
    assert rarity.rarest(every, every)[0] == 60


def test_frames_outside_the_end_of_the_history_do_not_count():
    every = cloud((0, 0))
    before = rarity.rarity(every, every)
    every.packed.features[every.first[-1]] = 99
    every.packed.features[every.first[-1] + HISTORY :] = 99
    np.testing.assert_array_equal(rarity.rarity(every, every), before)


def test_neighbours_in_the_same_episode_do_not_count():
    packed = make_packed(make_episodes(4, 40))
    packed.features[packed.rows(3)] = 50  # one episode, 34 windows that are all alike
    every = windows(packed, np.arange(4), HISTORY, HORIZON)
    assert set(every.episode[rarity.rarest(every, every)]) == {3}


def test_alone_everything_is_equally_rare():
    every = windows(make_packed(make_episodes(1, 20)), np.arange(1), HISTORY, HORIZON)
    assert np.isinf(rarity.rarity(every, every)).all()
    assert rarity.rarest(every, every).tolist() == [0]


def test_the_given_windows_have_no_say_in_what_is_common():
    packed = make_packed(make_episodes(20, 12))
    train, given = (windows(packed, episodes, HISTORY, HORIZON) for episodes in (np.arange(15), np.arange(15, 20)))
    whole = rarity.rarity(train, given)
    np.testing.assert_allclose(rarity.rarity(train, given.every(3)), whole[::3])


def test_units_of_a_feature_do_not_matter():
    one, other = cloud((1, 2)), cloud((1, 2))
    other.packed.features[:, 0] *= 1000
    np.testing.assert_allclose(rarity.rarity(one, one), rarity.rarity(other, other), rtol=1e-4)


@pytest.mark.parametrize("history", [1, 2])
def test_a_constant_feature_and_a_history_of_one_frame_are_fine(history):
    packed = make_packed(make_episodes(6, 12))
    packed.features[:, 1] = 0
    every = windows(packed, np.arange(6), history, HORIZON)
    assert np.isfinite(rarity.rarity(every, every)).all()


def test_a_feature_that_counts_as_constant_has_no_say():
    plain, flagged = cloud((3, 3)), cloud((3, 3))
    packed = flagged.packed
    noise = np.random.default_rng(1).normal(0, 1e-9, (len(packed.features), 1)).astype(np.float32)
    flagged = replace(flagged, packed=replace(packed, features=np.concatenate([packed.features, noise], axis=1)))
    np.testing.assert_allclose(rarity.rarity(flagged, flagged), rarity.rarity(plain, plain), rtol=1e-5)


@pytest.mark.parametrize("count", [2, 3, 9, 12])
def test_few_episodes_are_enough_to_rank_windows(count):
    every = windows(make_packed(make_episodes(count, 8)), np.arange(count), HISTORY, HORIZON)
    found = rarity.rarest(every, every)
    assert len(found) == max(1, round(len(every) / 10))
    assert not np.isnan(rarity.rarity(every, every)).any()


def test_chunks_and_a_sampled_reference_change_little_or_nothing(monkeypatch):
    packed = make_packed(make_episodes(60, 20))
    every = windows(packed, np.arange(60), HISTORY, HORIZON)
    whole = rarity.rarity(every, every)
    monkeypatch.setattr(rarity, "CHUNK", 7)
    np.testing.assert_allclose(rarity.rarity(every, every), whole)
    monkeypatch.setattr(rarity, "REFERENCE", 400)
    sampled = rarity.rarity(every, every)
    np.testing.assert_array_equal(sampled, rarity.rarity(every, every))
    assert np.corrcoef(sampled, whole)[0, 1] > 0.9
