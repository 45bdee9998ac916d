import re
from dataclasses import replace

import numpy as np
import pytest

from factories import make_episodes, make_packed
from worldmodel.dreams.realism import _folds, _pairs, auc, describe, realism

HISTORY, HORIZON = 3, 6
LENGTH = HISTORY + HORIZON


def logged(count=60, length=24, **fields):
    return make_episodes(count, length, noise=0.3, **fields)


def dream_of(source, begin, name, features=None, length=LENGTH, start=None):
    """A dream that repeats what the log has from a frame on, unless told what else comes after its history."""
    rows = slice(begin, begin + length)
    frames = source.features[rows].copy()
    if features is not None:
        frames[HISTORY:LENGTH] = features[HISTORY:length]
    given = {"agent_id": source.agent_id, "episode": source.name, "segment": source.segment, "frame": begin}
    return replace(
        source,
        name=name,
        source="dream",
        features=frames,
        actions=None if source.actions is None else source.actions[rows],
        rewards=source.rewards[rows],
        timestamps=source.timestamps[rows],
        provenance={"start": given if start is None else start} if start != "unknown" else {},
    )


def dreams(train, changed=lambda frames, rng: frames, count=400, seed=5, **fields):
    rng = np.random.default_rng(seed)
    found = []
    for number in range(count):
        source, begin = train[rng.integers(len(train))], int(rng.integers(0, 24 - LENGTH - 3))
        frames = changed(source.features[begin : begin + LENGTH].copy(), rng)
        found.append(dream_of(source, begin, f"dream-{number}", frames.astype(np.float32), **fields))
    return found


def measured(train, dreamed):
    return realism(make_packed([*train, *dreamed]), HISTORY, HORIZON)


def test_dreams_that_repeat_reality_are_not_told_from_it_whatever_their_length_and_action():
    for kind, length in (("continuous", LENGTH), ("continuous", HISTORY + 1), ("none", LENGTH), ("discrete", LENGTH)):
        train = logged(kind=kind, actions=0 if kind == "none" else 3)
        assert measured(train, dreams(train, length=length)).auc == 0.5


def test_dreams_that_are_other_windows_of_reality_are_not_told_from_it():
    train = logged()
    strangers = dreams(logged(seed=1), start="unknown")  # another 60 episodes of the same system
    assert 0.4 < measured(train, strangers).auc < 0.6


def test_starting_where_few_windows_are_does_not_betray_a_dream():
    train = logged()
    far = [each for each in train if np.abs(each.features[0]).max() > 1.5]
    assert 5 < len(far) < 50
    assert 0.45 < measured(train, dreams(far)).auc < 0.55


CHANGES = {
    "shifted": lambda frames, rng: frames + 1.5,
    "noisy": lambda frames, rng: frames + rng.normal(0, 0.7, frames.shape),
    "still": lambda frames, rng: np.repeat(frames[HISTORY - 1 : HISTORY], LENGTH, axis=0),
    "smooth": lambda frames, rng: np.cumsum(frames, axis=0) / np.arange(1, LENGTH + 1)[:, None],
    "shuffled": lambda frames, rng: np.concatenate([frames[:HISTORY], rng.permutation(frames[HISTORY:])]),
    "exploding": lambda frames, rng: frames * np.where(np.arange(LENGTH) < HISTORY, 1, 1e4)[:, None],
}


@pytest.mark.parametrize("change", CHANGES)
def test_dreams_that_are_not_like_reality_are_told_from_it(change):
    train = logged()
    assert measured(train, dreams(train, CHANGES[change])).auc > 0.9


def test_dynamics_alone_betray_a_dream_whose_states_do_not():
    train = logged(actions=2)
    backwards = [replace(each, actions=-each.actions) for each in dreams(train)]
    found = measured(train, backwards)
    assert found.by_sign["response"] > 0.9
    assert 0.4 < found.by_sign["states"] < 0.6
    assert found.auc > 0.9


def test_the_history_does_not_speak():
    train, dreamed = logged(), dreams(logged())
    for each in dreamed:
        each.features[: HISTORY - 1] += 9
    assert measured(train, dreamed).auc == 0.5


def test_a_horizon_of_one_frame_will_do():
    train = logged()
    packed = make_packed([*train, *dreams(train, CHANGES["shifted"])])
    assert realism(packed, HISTORY, 1).auc > 0.9


def test_windows_of_a_dream_are_paired_with_what_the_log_has_where_they_begin():
    train = logged()
    for more, windows_of_one in ((0, 1), (3, 4)):
        packed = make_packed([*train, *dreams(train, count=30, length=LENGTH + more)])
        ours, theirs = (each.take(np.arange(len(each))) for each in _pairs(packed, HISTORY, HORIZON))
        assert len(ours.history) == 30 * windows_of_one
        np.testing.assert_array_equal(ours.history, theirs.history)
        np.testing.assert_array_equal(ours.features, theirs.features)


@pytest.mark.parametrize("frame", [0, 22, 23, 99])
def test_a_start_that_leaves_no_frame_to_compare_with_gets_another_one(frame):
    train = logged(8)
    start = {"agent_id": train[0].agent_id, "episode": train[0].name, "frame": frame}
    dreamed, real = _pairs(make_packed([*train, *dreams(train, count=20, start=start)]), HISTORY, HORIZON)
    assert len(dreamed) == len(real) == 20
    assert (real.take(np.arange(20)).weight.sum(axis=1) > 0).all()
    assert (set(real.episode.tolist()) == {0}) == (frame == 0)


def test_no_episode_is_in_two_folds():
    episode = np.random.default_rng(0).integers(0, 23, 500)
    fold = _folds(episode)
    assert set(fold.tolist()) == set(range(5))
    assert all(len(set(fold[episode == number].tolist())) == 1 for number in range(23))


def test_the_same_data_give_the_same_answer_and_one_score_a_window():
    train = logged()
    one, same = (measured(train, dreams(train, CHANGES["noisy"])) for _ in range(2))
    assert (one.auc, one.by_sign) == (same.auc, same.by_sign)
    np.testing.assert_array_equal(one.dream, same.dream)
    assert len(one.real) == len(one.dream) == 400
    assert one.dream.mean() > one.real.mean()
    assert one.auc == round(one.auc, 3)


def test_held_out_episodes_are_no_part_of_it():
    train = logged()
    given = [*train, *dreams(train, CHANGES["noisy"])]
    splits = ["train"] * len(given)
    packed = make_packed(given, splits)
    more = make_packed([*given, *make_episodes(5, 24, seed=9)], [*splits, "val", "test", "val", "test", "val"])
    more = replace(more, features=np.concatenate([packed.features, more.features[len(packed.features) :]]))
    more = replace(more, actions=np.concatenate([packed.actions, more.actions[len(packed.actions) :]]))
    assert realism(packed, HISTORY, HORIZON).auc == realism(more, HISTORY, HORIZON).auc


@pytest.mark.parametrize(("observed", "dreamed"), [(8, 0), (1, 5)])
def test_there_is_no_answer_without_dreams_or_without_two_episodes(observed, dreamed):
    train = logged(observed)
    assert measured(train, dreams(train, count=dreamed)) is None


@pytest.mark.parametrize("count", [2, 3, 5])
def test_a_few_dreams_of_a_few_episodes_have_an_answer(count):
    train = logged(count)
    found = measured(train, [dream_of(each, 0, f"dream-{number}") for number, each in enumerate(train)])
    assert found.auc == 0.5
    assert len(found.real) == len(found.dream) == count


def test_constant_features_tell_nothing():
    for level in (0.0, 7.0):
        train = [replace(each, features=np.full_like(each.features, level)) for each in logged(8)]
        packed = make_packed([*train, *dreams(train, count=40)])
        packed.features[:] = level
        assert realism(packed, HISTORY, HORIZON).auc == 0.5


def test_pairs_judged_in_chunks_are_judged_as_at_once(monkeypatch):
    train = logged(20)
    packed = make_packed([*train, *dreams(train, CHANGES["noisy"])])
    whole = realism(packed, HISTORY, HORIZON)
    monkeypatch.setattr("worldmodel.dreams.realism.CHUNK", 1000)
    parts = realism(packed, HISTORY, HORIZON)
    assert parts.auc == whole.auc
    np.testing.assert_allclose(parts.dream, whole.dream, rtol=1e-6)


def test_auc_is_the_chance_to_be_higher():
    low, high = np.array([1.0, 2.0, 3.0]), np.array([2.0, 5.0])
    assert auc(low, high) == (0.5 + 1 + 3) / 6
    assert auc(low, low) == 0.5


def test_what_is_told_has_the_auc_and_each_sign():
    train = logged()
    text = describe(measured(train, dreams(train)))
    assert re.search(r"AUC 0\.50 .*states 0\.50, changes 0\.50, response 0\.50", text)
