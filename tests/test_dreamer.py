from dataclasses import replace

import numpy as np
import pytest
import torch

from factories import make_dreams, make_episodes, make_normalize, make_packed, make_scaler, space_of
from worldmodel.dreams import teacher
from worldmodel.dreams.dreamer import Dreamer, generate_dreams, starts_of
from worldmodel.dreams.rarity import rarest
from worldmodel.dreams.teacher import Rollout

CPU = torch.device("cpu")
HISTORY, LENGTH = 3, 4


def dream(train, history=HISTORY, method="standard", **fields):
    normalize = make_normalize(method=method)
    return generate_dreams(train, space_of(train), make_dreams(**fields), normalize, history, CPU)


class Oracle:
    """A teacher that says: feature = 1, 2, 3 ... (raw), reward = 10, 11, 12 ..., disagreement = 0.1 a frame."""

    members = (None, None)

    def __init__(self, scaler, rewards=True, exploration=0.5, ending=None):
        self.scaler, self.rewards, self.exploration, self.ending = scaler, rewards, exploration, ending

    def rollout(self, batch):
        batch_size, horizon = batch.features.shape[:2]
        frames = np.repeat(np.arange(horizon)[None], batch_size, axis=0).astype(np.float32)
        features = np.repeat(frames[..., None] + 1, batch.features.shape[2], axis=2)
        earned = self.scaler.rewards.transform(frames[..., None] + 10)[..., 0] if self.rewards else None
        ending = None if self.ending is None else np.tile(np.float32(self.ending[:horizon]), (batch_size, 1))
        return Rollout(self.scaler.features.transform(features), earned, 0.1 * (frames + 1), ending)


def dreamer(train, rewards=True, exploration=0.5, ending=None, **fields):
    scaler = make_scaler(train)
    settings = make_dreams(**fields)
    starts = starts_of(make_packed(train, scales=scaler), settings, HISTORY)
    return Dreamer(Oracle(scaler, rewards, exploration, ending), starts, train, space_of(train), scaler, settings)


def start_of(found, train):
    """The episode that a dream starts from, and the number of its first frame there."""
    start = found.provenance["start"]
    (source,) = [e for e in train if (e.agent_id, e.name) == (start["agent_id"], start["episode"])]
    return source, start["frame"]


@pytest.mark.parametrize("kind", ["none", "discrete", "continuous"])
@pytest.mark.parametrize("rewards", [True, False])
def test_dreams_are_valid_episodes_of_the_same_kind(kind, rewards):
    train = make_episodes(6, 12, kind=kind, rewards=rewards, actions=0 if kind == "none" else 3)
    found = dream(train)
    assert [each.name for each in found] == [f"dream-{number:06d}" for number in range(6)]
    for each in found:
        assert (each.source, each.length) == ("dream", HISTORY + LENGTH)
        assert (each.rewards is None) == (not rewards)
        assert each.features.shape[1] == 2
        assert (each.actions is None) == (kind == "none")
        assert space_of([each]).kind == kind


def test_history_1_and_length_1_are_enough():
    found = dream(make_episodes(3, 2), history=1, length=1)
    assert {each.length for each in found} == {2}


def test_the_history_is_what_was_logged():
    train = make_episodes(6, 12)
    for each in dream(train, start_noise=0.0, action_noise=0.0):
        source, begin = start_of(each, train)
        logged = slice(begin, begin + HISTORY)
        np.testing.assert_allclose(each.features[:HISTORY], source.features[logged], atol=1e-5)
        np.testing.assert_allclose(each.actions[: HISTORY - 1], source.actions[logged][:-1], atol=1e-5)
        np.testing.assert_array_equal(each.rewards[: HISTORY - 1], source.rewards[logged][:-1])
        np.testing.assert_array_equal(each.timestamps[:HISTORY], source.timestamps[logged])
        assert each.agent_id == source.agent_id


@pytest.mark.parametrize("exploration", [0.0, 0.4, 1.0])
def test_start_noise_moves_the_history_by_its_share_of_a_standard_deviation_and_by_the_reach(exploration):
    train = make_episodes(30, 12)
    spread = np.concatenate([each.features for each in train]).std(axis=0)
    moved = []
    for each in dreamer(train, exploration=exploration, episodes=250, start_noise=0.5).dream():
        source, begin = start_of(each, train)
        moved.append((each.features[:HISTORY] - source.features[begin : begin + HISTORY]) / spread)
    assert np.std(moved) == pytest.approx(exploration * 0.5, rel=0.1, abs=1e-6)
    assert np.mean(moved) == pytest.approx(0, abs=0.05)


@pytest.mark.parametrize("exploration", [0.0, 0.5, 1.0])
def test_actions_are_logged_ones_of_the_start_or_the_further_dreams_reach_of_another(exploration):
    train = make_episodes(6, 12)
    logged = {tuple(np.round(each.actions[t], 4)) for each in train for t in range(12)}
    own = 0
    found = dreamer(train, exploration=exploration, episodes=200, action_noise=0.0).dream()
    for each in found:
        source, begin = start_of(each, train)
        planned = each.actions[HISTORY - 1 :]
        after = source.actions[begin + HISTORY - 1 : begin + HISTORY + LENGTH]
        own += len(after) == len(planned) and np.allclose(planned, after, atol=1e-4)
        assert all(tuple(np.round(action, 4)) in logged for action in planned)
    assert own / len(found) == pytest.approx(1 - exploration, abs=0.08)


def test_own_actions_and_a_linear_system_bring_back_the_logged_future(monkeypatch):
    monkeypatch.setattr(teacher, "_generalization_gap", lambda known, unseen: 0.0)
    train = make_episodes(12, 20, noise=0.0)
    found = dream(train, start_noise=0.0, action_noise=0.0, teacher={"steps": 30})
    for each in found:
        source, begin = start_of(each, train)
        future = slice(begin + HISTORY, begin + HISTORY + LENGTH)
        np.testing.assert_allclose(each.features[HISTORY:], source.features[future], atol=1e-4)
        np.testing.assert_allclose(each.actions[HISTORY:], source.actions[future], atol=1e-5)
    assert {each.length for each in found} == {HISTORY + LENGTH}


def test_noisy_actions_stay_within_the_logged_range():
    train = make_episodes(6, 12)
    low, high = (edge(np.concatenate([each.actions for each in train]), axis=0) for edge in (np.min, np.max))
    found = dreamer(train, exploration=1.0, episodes=60, action_noise=2.0).dream()
    planned = np.concatenate([each.actions for each in found])
    assert (planned >= low - 1e-5).all()
    assert (planned <= high + 1e-5).all()
    assert (np.abs(planned - high) < 1e-5).any()


@pytest.mark.parametrize("noise", [0.0, 0.5, 5.0])
def test_discrete_actions_stay_integers_in_range(noise):
    for each in dreamer(make_episodes(6, 12, kind="discrete"), exploration=1.0, action_noise=noise).dream():
        assert each.actions.dtype == np.int64
        assert set(each.actions.tolist()) <= {0, 1, 2}


def test_a_share_of_discrete_actions_is_drawn_anew():
    train = [replace(each, actions=np.full(12, n % 2)) for n, each in enumerate(make_episodes(6, 12, kind="discrete"))]
    maker = dreamer(train)
    plans = np.zeros((4000, 5, 2), np.float32)
    plans[..., 0] = 1
    changed = maker._disturbed(plans, 0.4, np.random.default_rng(0))
    assert (changed.sum(-1) == 1).all()
    assert changed[..., 1].mean() == pytest.approx(0.4 / 2, rel=0.05)  # half of what is drawn is the other action


@pytest.mark.parametrize(("limit", "kept"), [(0.15, 1), (0.35, 3), (1.0, LENGTH)])
def test_a_dream_ends_where_the_members_disagree_too_much(limit, kept):
    found = dreamer(make_episodes(6, 12), max_disagreement=limit).dream()
    assert {each.length for each in found} == {HISTORY + kept}
    confidence = [1.0] * HISTORY + [np.exp(-0.1 * (k + 1)) for k in range(kept)]
    for each in found:
        np.testing.assert_allclose(each.confidence, confidence, rtol=1e-6)


def test_a_teacher_to_whom_actions_make_no_difference_brings_back_the_log():
    train = make_episodes(6, 12)
    for each in dreamer(train, exploration=0.0).dream():
        source, begin = start_of(each, train)
        last = begin + HISTORY - 1
        np.testing.assert_allclose(each.features[HISTORY:], source.features[last + 1 : last + 1 + LENGTH], atol=1e-5)
        np.testing.assert_allclose(each.rewards[HISTORY - 1 :], source.rewards[last : last + 1 + LENGTH], atol=1e-5)


@pytest.mark.parametrize("exploration", [0.0, 0.3, 1.0])
def test_the_further_dreams_reach_the_less_of_what_the_teacher_misses_is_added(exploration):
    train = make_episodes(6, 12)
    for each in dreamer(train, exploration=exploration, start_noise=0.0, action_noise=0.0).dream():
        source, begin = start_of(each, train)
        logged = source.features[begin + HISTORY : begin + HISTORY + LENGTH]
        said = np.arange(1, LENGTH + 1)[:, None]
        np.testing.assert_allclose(each.features[HISTORY:], said + (1 - exploration) * (logged - said), atol=1e-5)


def test_where_the_log_ends_the_teachers_frames_stand_at_the_actions_that_lead_to_them():
    train = make_episodes(6, HISTORY + 2)  # every start has two frames to go by, of the five that are asked for
    for each in dreamer(train, exploration=1.0).dream():
        np.testing.assert_allclose(each.features[HISTORY + 2 :, 0], [3, 4], rtol=1e-5)
        np.testing.assert_allclose(each.rewards[HISTORY + 1 :], [12, 13, 14], rtol=1e-5)


@pytest.mark.parametrize(("exploration", "frames"), [(0.0, 2), (0.5, 3), (1.0, LENGTH)])
def test_dreams_leave_the_end_of_a_short_episode_behind_by_their_reach(exploration, frames):
    train = make_episodes(6, HISTORY + 3)  # after the history there are two frames, and one for an action
    assert {each.length - HISTORY for each in dreamer(train, exploration=exploration).dream()} == {frames}


@pytest.mark.parametrize(("terminal", "frames"), [(False, LENGTH), (True, 2)])
def test_nothing_is_dreamed_after_the_end_of_a_task(terminal, frames):
    train = make_episodes(6, HISTORY + 2, terminal=terminal)
    assert {each.length - HISTORY for each in dreamer(train, exploration=1.0).dream()} == {frames}


@pytest.mark.parametrize(
    ("ending", "frames", "terminal"),
    [
        ([0, 0, 0, 0, 0], LENGTH, False),
        ([0, 0.5, 0, 0, 0], 2, True),
        ([0.3, 0.3, 0, 0.9, 1], 2, True),  # ended by then with 1 - 0.7 * 0.7
        ([0.2, 0.2, 0.2, 0.2, 0.2], LENGTH, True),
        ([1, 0, 0, 0, 0], 1, True),
        ([0, 0, 0, 0, 1], LENGTH, False),  # behind its last frame
    ],
)
def test_a_dream_ends_where_the_task_has_ended_as_likely_as_not(ending, frames, terminal):
    found = dreamer(make_episodes(6, 12), exploration=1.0, ending=ending).dream()
    assert {(each.length - HISTORY, each.terminal) for each in found} == {(frames, terminal)}
    assert dreamer(make_episodes(6, 12), exploration=1.0, ending=[0.6] * 5, max_disagreement=0.15).dream()[0].terminal


@pytest.mark.parametrize(("exploration", "share"), [(0.0, 1.0), (0.4, 0.6), (0.6, 0.0)])
def test_a_dream_that_keeps_to_the_log_ends_where_the_log_says_that_the_task_did(exploration, share):
    """The teacher, which expects no end anywhere, is off by all of it, and that counts by what keeps to the log."""
    train = make_episodes(30, 12, terminal=True)
    found = dreamer(train, exploration=exploration, ending=[0.0] * 5, episodes=200).dream()
    last = [each for each in found if each.provenance["start"]["frame"] + each.length == 12]
    assert 20 < len(last) < 100
    assert all(each.terminal == (share > 0.5) for each in last)
    assert not any(each.terminal for each in found if each not in last)


def test_an_episode_of_one_frame_more_than_the_history_gives_a_dream_of_one_frame():
    found = dreamer(make_episodes(6, HISTORY + 1), exploration=0.0).dream()
    assert {each.length for each in found} == {HISTORY + 1}


def test_planned_actions_begin_at_the_last_frame_of_the_history_and_are_the_logged_ones_where_dreams_keep_to_the_log():
    train = make_episodes(6, 12)
    for each in dreamer(train, exploration=0.0, action_noise=2.0).dream():
        source, begin = start_of(each, train)
        logged = source.actions[begin : begin + HISTORY + LENGTH]
        np.testing.assert_allclose(each.actions, logged, atol=1e-5)


def test_dreams_start_from_all_over_the_log():
    train = make_episodes(70, 12)
    once = 70 * (12 - HISTORY - LENGTH)
    found = [str(each.provenance["start"]) for each in dreamer(train, directed_share=0.0, episodes=2 * once).dream()]
    _, times = np.unique(found, return_counts=True)
    assert len(times) == once
    assert times.max() <= 4


def test_time_goes_on_in_the_step_of_the_log():
    train = [replace(each, timestamps=each.timestamps[0] + 0.25 * np.arange(12)) for each in make_episodes(6, 12)]
    for each in dreamer(train).dream():
        np.testing.assert_allclose(np.diff(each.timestamps), 0.25)


def test_provenance_names_teacher_seed_and_start():
    (found, *_) = dream(make_episodes(6, 12), seed=11)
    assert set(found.provenance) == {"teacher", "seed", "start", "directed"}
    assert set(found.provenance["start"]) == {"agent_id", "episode", "segment", "frame"}
    assert found.provenance["seed"] == 11
    assert found.provenance["teacher"] == "2 world models of 4 steps"


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_an_exact_share_of_any_stretch_of_dreams_is_directed(share):
    maker = dreamer(make_episodes(6, 12), episodes=600, directed_share=share)
    directed = [each.provenance["directed"] for each in maker.dream()]
    for count in (10, 256, 290, 600):
        assert sum(directed[:count]) == pytest.approx(share * count, abs=1)


def test_directed_dreams_start_from_the_rarest_windows_and_the_others_from_all():
    train = make_episodes(12, 20)
    maker = dreamer(train, episodes=300, directed_share=0.5)
    names = {maker.starts.begin(n) for n in rarest(maker.starts.windows, maker.starts.windows)}
    begun = {True: set(), False: set()}
    for each in maker.dream():
        start = each.provenance["start"]
        number = [(e.agent_id, e.name) for e in train].index((start["agent_id"], start["episode"]))
        begun[each.provenance["directed"]].add((number, start["frame"]))
    assert begun[True] <= names
    assert len(begun[True]) > len(names) / 2
    assert len(begun[False] - names) > 5 * len(names)


def test_the_same_seed_gives_the_same_dreams_and_another_seed_others():
    train = make_episodes(6, 12)
    one, same, other = (dream(train, seed=seed) for seed in (7, 7, 8))
    assert one == same
    assert one != other


def test_asking_for_more_dreams_keeps_the_first_ones():
    train = make_episodes(6, 12)
    few, many = (dreamer(train, episodes=count).dream() for count in (3, 300))
    assert len(many) == 300
    assert many[:3] == few


def test_none_are_made_where_none_are_asked_for():
    assert dream(make_episodes(6, 12), episodes=0) == []


def test_dreams_that_all_end_at_once_are_an_error():
    with pytest.raises(ValueError, match=r"only 0 outlived their first frame, dreams\.episodes asks for 6: raise"):
        dreamer(make_episodes(6, 12), max_disagreement=0.05).dream()


def test_a_constant_feature_stays_constant():
    train = [replace(each, features=np.c_[each.features, np.full(12, 5, np.float32)]) for each in make_episodes(6, 12)]
    for each in dream(train, start_noise=0.5):
        np.testing.assert_allclose(each.features[:, 2], 5, atol=1e-5)


@pytest.mark.parametrize("method", ["standard", "minmax"])
def test_dreams_are_in_raw_units(method):
    train = [replace(each, features=1000 + 50 * each.features) for each in make_episodes(6, 12, rewards=False)]
    logged = np.concatenate([each.features for each in train])
    for each in dream(train, method=method):
        assert (np.abs(each.features - logged.mean(0)) < 8 * logged.std(0)).all()
