from dataclasses import replace

import numpy as np
import pytest
import torch

from factories import make_dreams, make_episodes, make_packed, make_scaler
from worldmodel.arrays.windows import windows
from worldmodel.dreams import teacher, transition
from worldmodel.dreams.auxiliary import AuxiliaryModels
from worldmodel.model import selection, start_choice
from worldmodel.model.shape import Shape
from worldmodel.model.tensors import to_device

CPU = torch.device("cpu")
SHAPE = Shape(features=2, actions=3, rewards=True, history=3, horizon=5, z_dim=8, hidden_dim=16, encoder="gru")


def fitted(episodes, seed=7, **fields):
    packed = make_packed(episodes)
    shape = replace(SHAPE, rewards=packed.rewards is not None)
    params = make_dreams(teacher=fields).teacher
    return teacher.fit_teacher(packed, np.arange(len(episodes)), shape, params, seed, CPU), packed


def batch_of(packed, shape=SHAPE):
    found = windows(packed, np.arange(len(packed.lengths)), shape.history, shape.horizon)
    return found.take(np.arange(len(found)))


@pytest.fixture(scope="module")
def linear():
    return fitted(make_episodes(12, 14), members=3, steps=8)


@pytest.mark.parametrize(("count", "members"), [(7, 3), (3, 3), (9, 2)])
def test_each_episode_is_held_out_by_one_member_and_trained_on_by_the_others(count, members):
    episodes = np.arange(10, 10 + count)
    folds = [teacher._fold(episodes, number, members) for number in range(members)]
    assert all(sorted([*fold.trained, *fold.held_out]) == episodes.tolist() for fold in folds)
    assert all(len(fold.trained) and len(fold.held_out) for fold in folds)
    assert sorted(np.concatenate([fold.held_out for fold in folds])) == episodes.tolist()


def test_fewer_episodes_than_members_are_all_trained_on():
    for number in range(4):
        fold = teacher._fold(np.array([5, 3, 8]), number, 4)
        assert fold.trained.tolist() == [3, 5, 8]
        assert fold.held_out.tolist() == []


def test_an_episode_changes_every_member_but_the_one_that_holds_it_out(monkeypatch):
    monkeypatch.setattr(
        selection, "mean_error", lambda *_: 0.0
    )  # what is held out may decide start and selection alone
    monkeypatch.setattr(start_choice, "_errors", lambda candidate, _: np.ones(len(candidate[0].bias)))
    episodes = make_episodes(6, 9)
    before = fitted(episodes, members=3)[0].members
    untouched = []
    for number in range(6):
        doubled = replace(episodes[number], features=-episodes[number].features)
        scales = make_scaler(episodes)
        packed = make_packed([*episodes[:number], doubled, *episodes[number + 1 :]], scales=scales)
        params = make_dreams(teacher={"members": 3}).teacher
        after = teacher.fit_teacher(packed, np.arange(6), SHAPE, params, 7, CPU).members
        same = [
            torch.equal(one.hidden_layer[0].weight, two.hidden_layer[0].weight)
            for one, two in zip(before, after, strict=True)
        ]
        assert same.count(True) == 1
        untouched.append(same.index(True))
    assert sorted(untouched) == [0, 0, 1, 1, 2, 2]


def test_where_tasks_end_the_members_say_how_probable_that_is_and_elsewhere_nothing():
    packed, params = make_packed(make_episodes(6, 9, terminal=True)), make_dreams(teacher={"members": 2}).teacher
    batch = batch_of(packed)
    without, found = (
        teacher.fit_teacher(packed, np.arange(6), replace(SHAPE, terminals=terminals), params, 7, CPU)
        for terminals in (False, True)
    )
    assert without.rollout(batch).ending is None
    with torch.no_grad():
        odds = [member(*to_device(batch, CPU).inputs).termination for member in found.members]
    expected = torch.stack(odds).sigmoid().mean(dim=0)
    np.testing.assert_allclose(found.rollout(batch).ending, expected, rtol=1e-5)


def test_members_differ_in_weights_and_in_the_order_of_windows():
    one_episode = make_episodes(1, 30)  # the same data for both
    (one, two), _ = ((found := fitted(one_episode))[0].members, found[1])
    assert not torch.equal(one.change.weight, two.change.weight)
    assert not torch.equal(one.hidden_layer[0].weight, two.hidden_layer[0].weight)


def test_the_same_seed_gives_the_same_teacher_and_another_seed_another():
    episodes = make_episodes(5, 9)
    one, same, other = (fitted(episodes, seed)[0].members[0].state_dict() for seed in (7, 7, 8))
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not all(torch.equal(one[name], other[name]) for name in one)


def test_a_rollout_is_the_mean_of_the_members_and_their_spread(linear):
    found, packed = linear
    batch = batch_of(packed)
    rollout = found.rollout(batch)
    given = to_device(batch, CPU)
    with torch.no_grad():
        answers = [member(given.history, given.past_actions, given.planned_actions) for member in found.members]
    features = np.stack([answer.features.numpy() for answer in answers]).astype(np.float64)
    np.testing.assert_allclose(rollout.features, features.mean(0), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(rollout.rewards, np.mean([a.rewards.numpy() for a in answers], 0), rtol=1e-4, atol=1e-5)
    spread = np.sqrt(((features - features.mean(0)) ** 2).sum(0) / 2)  # three members, one mean
    at_frame = np.sqrt((spread**2).mean(-1))
    for k in range(SHAPE.horizon):
        np.testing.assert_allclose(rollout.disagreement[:, k], at_frame[:, : k + 1].max(1), rtol=1e-3, atol=1e-5)


def test_a_rollout_may_be_longer_than_those_it_was_trained_on():
    found, packed = fitted(make_episodes(8, 40), members=2, points=200)
    near, far = (found.rollout(batch_of(packed, replace(SHAPE, horizon=horizon))) for horizon in (5, 30))
    assert far.features.shape[1] == far.rewards.shape[1] == far.disagreement.shape[1] == 30
    assert np.isfinite(far.features).all()
    rows = len(far.features)
    first = windows(packed, np.arange(8), SHAPE.history, 5)
    same = np.isin(first.first, windows(packed, np.arange(8), SHAPE.history, 30).first)
    np.testing.assert_allclose(far.features[:, :5], near.features[same][:rows], atol=1e-4)


def test_a_teacher_of_a_linear_system_predicts_it():
    found, packed = fitted(make_episodes(12, 14, noise=0.0), steps=30)
    batch = batch_of(packed)
    error = (found.rollout(batch).features - batch.features)[batch.weight > 0]
    held = (batch.history[:, -1:] - batch.features)[batch.weight > 0]
    assert np.square(error).mean() < 0.01 * np.square(held).mean()


def test_members_disagree_more_far_from_what_they_know(linear):
    found, packed = linear
    batch = batch_of(packed)
    strange = replace(batch, history=batch.history + 10)
    assert found.rollout(strange).disagreement.mean() > 3 * found.rollout(batch).disagreement.mean()


def test_without_rewards_there_are_none():
    found, packed = fitted(make_episodes(4, 9, rewards=False))
    assert found.rollout(batch_of(packed)).rewards is None


def test_episodes_no_longer_than_the_history_are_not_trained_on():
    found, _ = fitted(make_episodes(3, 9) + make_episodes(3, 3, seed=1))
    alone, _ = fitted(make_episodes(3, 9) + make_episodes(3, 2, seed=1))
    assert found.members[0].shape == alone.members[0].shape
    packed = make_packed(make_episodes(2, 3))
    with pytest.raises(ValueError, match=r"more than train\.history = 3 frames, the longest of 2 has 3"):
        teacher.fit_teacher(packed, np.arange(2), SHAPE, make_dreams().teacher, 0, CPU)


def test_a_teacher_of_no_episode_is_refused():
    with pytest.raises(ValueError, match=r"the longest of 0 has 0"):
        teacher.fit_teacher(make_packed(make_episodes(2, 9)), np.arange(0), SHAPE, make_dreams().teacher, 0, CPU)


def test_dropout_is_seeded_and_leaves_the_random_numbers_of_others_alone():
    episodes, drawn, weights = make_episodes(6, 9), [], []
    for state, dropout in ((0, 0.5), (1, 0.5), (0, 0.0)):
        torch.manual_seed(state)
        found, _ = fitted(episodes, dropout=dropout, members=3)
        drawn.append(torch.rand(1))
        weights.append(found.members[0].change.weight)
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])
    assert torch.equal(drawn[0], drawn[2])


def test_a_finished_member_silences_nothing():
    found, packed = fitted(make_episodes(6, 9), dropout=0.5, members=2)
    first, again = (found.rollout(batch_of(packed)) for _ in range(2))
    assert np.array_equal(first.features, again.features)


class Says(torch.nn.Module):
    """An opinion that is the same of everything."""

    def __init__(self, value):
        super().__init__()
        self.value = value

    def forward(self, features, past_actions, planned_actions):
        width = features.shape[-1]
        return transition.Predicted(torch.full((*planned_actions.shape[:2], width), self.value))


def test_auxiliary_models_have_their_share_of_the_prediction(linear):
    found, packed = linear
    batch = batch_of(packed)
    pair = AuxiliaryModels((Says(2.0), Says(4.0)), np.float32([0.25, 0.5]))
    sole = AuxiliaryModels((Says(7.0),), np.float32([0, 1]))
    members, mixed, last = (
        replace(found, auxiliary=groups).rollout(batch).features for groups in ((), (pair,), (pair, sole))
    )
    np.testing.assert_allclose(mixed[:, 0], 0.75 * members[:, 0] + 0.25 * 3, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(mixed[:, 1:], 0.5 * members[:, 1:] + 0.5 * 3, rtol=1e-4, atol=1e-5)  # of all later ones
    np.testing.assert_allclose(last[:, 0], mixed[:, 0], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(last[:, 1:], 7, rtol=1e-5)


@pytest.mark.parametrize(
    ("weights", "mean", "spread"),
    [
        ([0.25, 0.25, 0.25, 0.25], 3.0, np.std([1, 2, 3, 6], ddof=1)),
        ([0.0, 0.0, 0.5, 0.5], 4.5, np.std([3, 6], ddof=1)),  # what counts for nothing has no say in the doubt either
        ([0.0, 0.0, 1.0, 0.0], 3.0, 0.0),
        ([0.0, 0.9, 0.1, 0.0], 2.1, np.sqrt(2 * 0.9 * 0.1)),  # of two opinions at least
    ],
)
def test_predictions_are_pooled_by_their_weights(weights, mean, spread):
    opinions = np.tile(np.array([1.0, 2.0, 3.0, 6.0], np.float32)[:, None, None, None], (1, 5, 2, 3))
    features, found = teacher._pooled(opinions, np.tile(np.array(weights, np.float32)[:, None], (1, 2)))
    np.testing.assert_allclose(features, np.full((5, 2, 3), mean), rtol=1e-5)
    np.testing.assert_allclose(found, np.full((5, 2), spread), rtol=1e-5, atol=1e-6)


def test_few_episodes_leave_a_generalization_gap_and_many_a_smaller_one():
    few, many = (
        fitted(make_episodes(count, 30, noise=0.3), members=2, steps=150)[0].generalization_gap for count in (4, 60)
    )
    assert few > 0.3
    assert many < few / 2
    assert 0 <= many <= 1


@pytest.mark.parametrize(("gap", "exploration"), [(0.0, 0.0), (0.25, 0.0), (0.5, 0.5), (0.75, 1.0), (1.0, 1.0)])
def test_exploration_grows_with_the_generalization_gap(gap, exploration):
    assert teacher.Teacher((), (), gap, torch.device("cpu")).exploration == exploration


@pytest.mark.parametrize(
    ("train", "holdout", "gap"),
    [
        ([1, 3], [4, 4], 0.5),
        ([2, 2], [1, 1], 0),
        ([0, 0], [0, 0], 0),
        ([0, 0], [1, 2], 1),
        ([0, 0], [5e-5, 5e-5], 0.5),
        ([2e-4, 2e-4], [4e-4, 4e-4], 0.5),
        ([1, 1], [2, np.inf], 1),
    ],
)
def test_the_generalization_gap_is_the_share_of_error_that_train_windows_lack(train, holdout, gap):
    assert teacher._generalization_gap(train, holdout) == gap
