import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from factories import make_episodes, make_labels, make_packed
from worldmodel.arrays import windows as module
from worldmodel.arrays.windows import Packed, join, windows


def telling(lengths, actions=1, rewards=True, terminal=()):
    """Episodes whose numbers say where they stand: feature 100 e + t, action and reward the same plus fractions."""
    episodes = [
        make_episodes(1, length, rewards=rewards, terminal=e in terminal)[0] for e, length in enumerate(lengths)
    ]
    place = np.concatenate([100 * e + np.arange(length) for e, length in enumerate(lengths)]).astype(np.float32)
    return Packed(
        features=place[:, None],
        actions=np.repeat(place[:, None] + np.float32(0.25), actions, axis=1),
        rewards=place + np.float32(0.5) if rewards else None,
        confidence=np.linspace(0.1, 1, len(place), dtype=np.float32),
        lengths=np.array(lengths, np.int64),
        labels=make_labels(episodes),
    )


def everything(packed, history, horizon):
    found = windows(packed, np.arange(len(packed.lengths)), history, horizon)
    return found, found.take(np.arange(len(found)))


def test_a_window_says_whether_it_was_logged():
    packed = make_packed(make_episodes(2, 6) + make_episodes(1, 6, source="dream"))
    _, batch = everything(packed, 2, 2)
    assert batch.observed.tolist() == [1] * 6 + [0] * 3


lengths = st.lists(st.integers(1, 9), min_size=1, max_size=6)
sizes = st.tuples(st.integers(1, 4), st.integers(1, 4))


@given(lengths, sizes)
def test_windows_are_those_of_a_plain_loop_and_none_crosses_an_episode(lengths, sizes):
    history, horizon = sizes
    found, batch = everything(telling(lengths), history, horizon)
    expected = [
        (100 * e + first, min(length - first - history, horizon))
        for e, length in enumerate(lengths)
        for first in range(max(length - history - horizon, 0) + 1)
        if length > history
    ]
    assert list(zip(batch.history[:, 0, 0], batch.weight.sum(axis=1), strict=True)) == expected
    assert found.episode.tolist() == [place // 100 for place, _ in expected]
    frames = np.concatenate([batch.history, batch.features], axis=1)[:, :, 0]
    real = np.concatenate([np.ones((len(frames), history)), batch.weight], axis=1) > 0
    assert (np.ptp(frames // 100, axis=1) == 0).all()
    assert ((np.diff(frames, axis=1) == 1) | ~real[:, 1:]).all()


@given(lengths, sizes)
def test_the_first_planned_action_stands_at_the_last_frame_of_the_history_and_earns_the_first_reward(lengths, sizes):
    history, horizon = sizes
    _, batch = everything(telling(lengths), history, horizon)
    assert batch.past_actions.shape[1:] == (history - 1, 1)
    assert batch.planned_actions.shape[1:] == (horizon, 1)
    np.testing.assert_array_equal(batch.past_actions, batch.history[:, :-1] + 0.25)
    np.testing.assert_array_equal(batch.planned_actions[:, 0], batch.history[:, -1] + 0.25)
    real = batch.weight > 0
    np.testing.assert_array_equal(batch.planned_actions[real], batch.features[real] - 1 + 0.25)
    np.testing.assert_array_equal(batch.rewards[real], batch.planned_actions[real][:, 0] + 0.25)


ends = st.sets(st.integers(0, 5))


@given(lengths, sizes, ends)
def test_windows_reach_up_to_an_ending_and_say_where_it_is(lengths, sizes, terminal):
    history, horizon = sizes
    packed = telling(lengths, terminal=terminal)
    _, batch = everything(packed, history, horizon)
    expected = [
        (100 * e + first, left, float(e in terminal and left <= horizon))
        for e, length in enumerate(lengths)
        for first in range(max(length - history - (1 if e in terminal else horizon), 0) + 1)
        if (left := length - first - history) > 0
    ]
    assert batch.history[:, 0, 0].tolist() == [place for place, _, _ in expected]
    assert batch.weight.sum(axis=1).tolist() == [min(left, horizon) for _, left, _ in expected]
    if not any(packed.labels.terminals):
        assert batch.ended is None
        return
    assert batch.ended.sum(axis=1).tolist() == [ended for _, _, ended in expected]
    np.testing.assert_array_equal(np.argwhere(batch.ended)[:, 1], [left - 1 for _, left, ended in expected if ended])
    assert (batch.weight[batch.ended > 0] == 1).all()


@given(lengths, sizes, ends)
def test_a_start_is_an_episodes_first_frame_behind_itself_and_actions_of_zero(lengths, sizes, terminal):
    history, horizon = sizes
    packed = replace(telling(lengths, actions=2, terminal=terminal), context_count=1, still=np.float32([-7, 0]))
    begins = [100 * e for e, length in enumerate(lengths) if length > 1]
    found = windows(packed, np.arange(len(lengths)), history, horizon, starts=True)
    batch = found.take(np.arange(len(found)))
    assert batch.history.tolist() == [[[begin]] * history for begin in begins]
    assert batch.past_actions.tolist() == [[[-7, begin + 0.25]] * (history - 1) for begin in begins]
    assert found.first.tolist() == packed.starts[packed.lengths > 1].tolist()
    real = batch.weight > 0
    assert real.sum(axis=1).tolist() == [min(length - 1, horizon) for length in lengths if length > 1]
    assert batch.features[:, 0, 0].tolist() == [begin + 1 for begin in begins]
    np.testing.assert_array_equal(batch.planned_actions[real], batch.features[real] - 1 + [0.25, 0.25])
    np.testing.assert_array_equal(batch.rewards[real], batch.features[real][:, 0] - 1 + 0.5)


def test_a_padded_history_repeats_what_its_first_frame_misses():
    packed = telling([6])
    packed = replace(packed, features=np.repeat(packed.features, 2, axis=1), missing=True)
    packed.features[1, 1] = np.nan
    batch = windows(packed, np.array([0]), 4, 2).read(np.array([1, 0]), np.array([2, 2]))
    assert batch.history.tolist() == [[[1, 0]] * 3 + [[2, 2]], [[0, 0]] * 3 + [[1, 0]]]
    assert batch.known.tolist() == [[[1, 0]] * 3 + [[1, 1]], [[1, 1]] * 3 + [[1, 0]]]


def test_missing_frames_of_a_short_episode_have_no_weight():
    _, batch = everything(telling([5]), history=3, horizon=4)
    assert batch.weight.tolist() == [[1, 1, 0, 0]]
    assert batch.features[0, :2, 0].tolist() == [3, 4]


def test_an_episode_no_longer_than_the_history_has_no_window_and_no_episode_none():
    found, batch = everything(telling([3, 2, 1]), history=3, horizon=1)
    assert len(found) == len(windows(telling([5]), np.empty(0, np.int64), 1, 1)) == 0
    assert batch.features.shape == (0, 1, 1)


def test_chosen_episodes_alone_give_windows():
    found = windows(telling([5, 6, 7]), np.array([2, 0]), 2, 2)
    assert found.take(np.arange(len(found))).history[:, 0, 0].tolist() == [200, 201, 202, 203, 0, 1]


def test_without_actions_and_rewards_those_are_empty():
    _, batch = everything(telling([6], actions=0, rewards=False), 2, 3)
    assert batch.past_actions.shape == (2, 1, 0)
    assert batch.planned_actions.shape == (2, 3, 0)
    assert batch.rewards is None


def test_confidence_weighs_the_predicted_frames_that_exist():
    packed = telling([5])
    found, _ = everything(packed, 3, 4)
    weight = found.take(np.array([0]), confidence=True).weight[0]
    np.testing.assert_array_equal(weight, [*packed.confidence[3:], 0, 0])


def test_every_second_window_can_be_kept():
    found, batch = everything(telling([8, 5]), 1, 2)
    thinner = found.every(2)
    assert thinner.episode.tolist() == found.episode[::2].tolist()
    np.testing.assert_array_equal(thinner.take(np.arange(len(thinner))).features, batch.features[::2])


@pytest.mark.parametrize("rewards", [True, False])
def test_joined_batches_stand_one_after_the_other(rewards):
    found, batch = everything(telling([8], rewards=rewards), 2, 3)
    joined = join([found.take(np.array([0])), found.take(np.array([1, 2, 3]))])
    for name in ("history", "past_actions", "planned_actions", "features", "rewards", "weight"):
        np.testing.assert_array_equal(getattr(joined, name), getattr(batch, name))


def test_episodes_are_found_by_split_and_source():
    episodes = make_episodes(3, 4) + make_episodes(2, 4, source="dream")
    packed = make_packed(episodes, ["test", "train", "val", "train", "train"])
    assert packed.where("train").tolist() == [1]
    assert packed.where("train", "dream").tolist() == [3, 4]
    assert packed.where("test", "dream").tolist() == []
    assert packed.rows(2) == slice(8, 12)


def test_arrays_that_do_not_fit_the_index_are_refused():
    packed = telling([4, 3])
    with pytest.raises(ValueError, match=r"\[7, 7, 7, 7\] frames, the episode index 8"):
        replace(packed, lengths=np.array([4, 4]))


def test_the_index_of_windows_has_the_size_of_the_episodes_not_of_the_frames():
    lengths = np.full(100, 20_000)
    frames = np.zeros((lengths.sum(), 1), np.float32)
    packed = Packed(frames, frames, None, frames[:, 0], lengths, make_labels(make_episodes(100, 2)))
    tracemalloc.start()
    found = windows(packed, np.arange(100), 8, 16)
    found.take(np.arange(0, len(found), 5000))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(found) == 100 * (20_000 - 23)
    assert peak < 1e6


def test_the_pages_of_mapped_arrays_are_let_go_of_and_read_the_same_again(tmp_path):
    whole = np.random.default_rng(0).normal(size=(600, 2)).astype(np.float32)
    np.save(tmp_path / "features.npy", whole)
    features = np.load(tmp_path / "features.npy", mmap_mode="r")
    packed = Packed(features, whole, None, whole[:, 0], np.full(6, 100), make_labels(make_episodes(6, 2)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "STREAMED", 150)
        patch.setattr(module, "PICKED", 3)
        found = list(packed.each(packed.features, np.array([4, 0, 5])))
        batch = windows(packed, np.arange(6), 2, 3).take(np.array([5, 0, 100, 400]))
    np.testing.assert_array_equal(found, [whole[400:500], whole[:100], whole[500:]])
    np.testing.assert_array_equal(batch.history[0], whole[5:7])
    assert packed.episode_at(np.array([0, 99, 100, 599])).tolist() == [0, 0, 1, 5]
