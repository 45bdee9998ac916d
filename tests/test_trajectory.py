from dataclasses import replace

import numpy as np
import pytest

from worldmodel.episodes.schema import ActionSpace
from worldmodel.trajectory import Start, Trajectory, arrays_of

HISTORY, LENGTH, FEATURES = 3, 4, 2
T = HISTORY + LENGTH
SPACES = {
    "none": ActionSpace("none", 0),
    "discrete": ActionSpace("discrete", 3),
    "continuous": ActionSpace("continuous", 3),
}
ACTIONS = {"none": None, "discrete": np.arange(T) % 3, "continuous": np.ones((T, 3))}


def start(rewards=True):
    earned = np.zeros(HISTORY - 1, np.float32) if rewards else None
    return Start("agent", "a", 0, LENGTH, np.zeros((HISTORY, FEATURES), np.float32), None, earned, None)


def trajectory(kind="continuous", **fields):
    return replace(Trajectory(np.zeros((T, FEATURES)), ACTIONS[kind], np.zeros(T)), **fields)


def refusal(kind="continuous", **fields):
    with pytest.raises(ValueError, match=r".") as caught:
        arrays_of(trajectory(kind, **fields), start(), SPACES[kind])
    return str(caught.value)


@pytest.mark.parametrize("kind", SPACES)
def test_a_trajectory_becomes_the_arrays_of_an_episode(kind):
    found = arrays_of(trajectory(kind, confidence=[1] * T), start(), SPACES[kind])
    types = {"none": None, "discrete": np.int64, "continuous": np.float32}
    assert (found["actions"] is None) == (kind == "none")
    assert found["actions"] is None or found["actions"].dtype == types[kind]
    assert {found[name].dtype for name in ("features", "rewards", "confidence")} == {np.dtype(np.float32)}
    assert {len(array) for array in found.values() if array is not None} == {T}


def test_lists_serve_as_arrays():
    lists = Trajectory([[0, 1]] * T, [[0.5, 0, 1]] * T, [1] * T)
    np.testing.assert_array_equal(arrays_of(lists, start(), SPACES["continuous"])["features"], [[0, 1]] * T)


def test_frames_beyond_the_length_are_left_out():
    long = Trajectory(np.arange(40).reshape(20, 2), np.ones((20, 3)), np.arange(20), np.ones(20))
    found = arrays_of(long, start(), SPACES["continuous"])
    assert {len(array) for array in found.values() if array is not None} == {T}
    np.testing.assert_array_equal(found["rewards"], np.arange(T))


def test_whether_the_task_ended_is_true_or_false():
    assert refusal(terminal=1.0) == "terminal: found float, expected True or False"
    assert arrays_of(trajectory(terminal=np.bool_(True)), start(), SPACES["continuous"])


def test_one_frame_after_the_history_is_enough_and_none_is_too_few():
    def cut(frames):
        return Trajectory(np.zeros((frames, FEATURES)), np.ones((frames, 3)), np.zeros(frames))

    assert len(arrays_of(cut(4), start(), SPACES["continuous"])["features"]) == 4
    with pytest.raises(ValueError, match=r"^features: found 3 frames, expected more than the 3 of the history$"):
        arrays_of(cut(3), start(), SPACES["continuous"])


@pytest.mark.parametrize(
    ("features", "message"),
    [
        (None, "features: found None, expected numbers [T, 2]"),
        (np.zeros((T, 5)), "features: found float64 [7, 5], expected numbers [T, 2]"),
        (np.zeros(T), "features: found float64 [7], expected numbers [T, 2]"),
        (np.zeros((T, 2), bool), "features: found bool [7, 2], expected numbers [T, 2]"),
        ([[0, 1], [0]], "features: found lists of different lengths, expected numbers [T, 2]"),
        (np.where(np.arange(2 * T).reshape(T, 2) == 5, np.nan, 0), "features: frame 2 holds NaN or infinity"),
        (np.full((T, 2), 1e300), "features: frame 0 holds NaN or infinity, expected finite float32 numbers"),
    ],
)
def test_features_that_do_not_fit_are_named(features, message):
    assert refusal(features=features).startswith(message)


@pytest.mark.parametrize(
    ("kind", "actions", "message"),
    [
        ("continuous", None, "actions: found None, expected numbers [7, 3]"),
        ("continuous", np.zeros(T, int), "actions: found int64 [7], expected numbers [7, 3]"),
        ("continuous", np.zeros((T - 1, 3)), "actions: found float64 [6, 3], expected numbers [7, 3]"),
        ("continuous", np.full((T, 3), np.inf), "actions: frame 0 holds NaN or infinity"),
        ("discrete", np.zeros((T, 3)), "actions: found float64 [7, 3], expected integers [7] from 0 to 2"),
        ("discrete", np.zeros(T), "actions: found float64 [7], expected integers [7] from 0 to 2"),
        ("discrete", np.arange(T), "actions: found 0..6, expected integers [7] from 0 to 2"),
        ("discrete", np.arange(T) % 3 - 1, "actions: found -1..1, expected integers [7] from 0 to 2"),
        ("none", np.zeros((T, 3)), "actions: found float64 [7, 3], expected None as in the logs"),
    ],
)
def test_actions_of_another_kind_size_or_number_are_named(kind, actions, message):
    assert refusal(kind, actions=actions).startswith(message)


def test_rewards_are_there_exactly_where_the_logs_have_them():
    assert refusal(rewards=None) == "rewards: found None, expected [7] as in the logs"
    with pytest.raises(ValueError, match=r"^rewards: found some, expected None as in the logs$"):
        arrays_of(trajectory(), start(rewards=False), SPACES["continuous"])
    bare = arrays_of(trajectory(rewards=None), start(rewards=False), SPACES["continuous"])
    assert bare["rewards"] is None


def test_rewards_and_confidence_have_one_number_a_frame():
    assert refusal(rewards=np.zeros(3)) == "rewards: found float64 [3], expected numbers [7]"
    assert refusal(confidence=np.zeros((T, 1))) == "confidence: found float64 [7, 1], expected numbers [7]"
    assert refusal(confidence=np.arange(T)) == "confidence: found 0..6, expected 0..1"


@pytest.mark.parametrize("found", [None, (np.zeros((T, 2)), None), {}])
def test_what_is_no_trajectory_is_named(found):
    with pytest.raises(ValueError, match=rf"^found {type(found).__name__}, expected a worldmodel\.trajectory"):
        arrays_of(found, start(), SPACES["none"])
