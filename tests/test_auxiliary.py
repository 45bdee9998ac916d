from dataclasses import replace

import numpy as np
import pytest
import torch

from factories import make_dreams, make_episodes, make_packed
from test_teacher import CPU, SHAPE, fitted
from test_transition import pendulums
from worldmodel.arrays.windows import windows
from worldmodel.dreams import auxiliary, teacher
from worldmodel.dreams.gaussian import GaussianProcess
from worldmodel.dreams.members import EnsembleTrainer
from worldmodel.dreams.transition import TransitionNetwork
from worldmodel.model.tensors import Tensors

BOTH = {"points": 20, "transition_steps": 150}


def of_pendulums(**fields):
    """A teacher whose members are no good, and a batch that it does not know."""
    packed = pendulums(9)
    shape = replace(SHAPE, features=3, actions=1, rewards=False, history=1, horizon=3, hidden_dim=64)
    params = make_dreams(teacher={"members": 3, "steps": 2} | fields).teacher
    unseen = windows(packed, np.array([6, 7, 8]), 1, 3)
    return teacher.fit_teacher(packed, np.arange(6), shape, params, 7, CPU), unseen.take(np.arange(len(unseen)))


@pytest.mark.parametrize("kind", [{"points": 500}, {"transition_steps": 150}])
def test_an_auxiliary_model_has_the_share_that_it_is_worth_on_what_members_left_out(kind):
    found, batch = of_pendulums(**kind)
    both, members = (each.rollout(batch) for each in (found, replace(found, auxiliary=())))
    [group] = found.auxiliary
    assert group.share[0] > 0.5  # two steps of training make no member
    assert all(0 <= share <= 1 for share in group.share)
    errors = [np.square(each.features - batch.features).mean() for each in (both, members)]
    assert errors[0] < 0.8 * errors[1]


@pytest.mark.parametrize(("drift", "damping"), [(True, 0.0), (False, 1.0)])
def test_a_process_goes_on_outside_of_the_train_states_only_where_left_out_episodes_do(drift, damping):
    """Each episode drifts elsewhere; or all of them between the same two walls."""
    rng = np.random.default_rng(0)
    walks = rng.standard_normal((6, 40, 2)).cumsum(axis=1)
    drifting = np.arange(40)[:, None] + 80 * np.arange(6)[:, None, None] + 0.01 * walks
    logged = drifting if drift else walks.clip(-2, 2)
    episodes = [replace(each, features=np.float32(own)) for each, own in zip(make_episodes(6, 40), logged, strict=True)]
    params = make_dreams(teacher={"points": 100}).teacher
    trainer = EnsembleTrainer(make_packed(episodes), replace(SHAPE, z_dim=4), params, 0, CPU, None)
    folds = [teacher._fold(np.arange(6), number, 3) for number in range(3)]
    found = auxiliary.gaussian_candidates(trainer, folds)
    assert all((each.start.damping == damping).all() for each in (*found.models, *found.per_fold))


def test_both_kinds_are_pooled_with_the_members():
    found, _ = of_pendulums(**BOTH)
    process, networks = found.auxiliary
    assert [type(each) for each in process.models] == [GaussianProcess]
    assert [type(each) for each in networks.models] == [TransitionNetwork] * 3


def test_a_kind_that_is_judged_twice_counts_once(monkeypatch):
    weigh = auxiliary.weigh
    monkeypatch.setattr(teacher, "weigh", lambda kinds, *others: weigh([*kinds, *kinds], *others))
    found, batch = of_pendulums(transition_steps=150)
    once = replace(found, auxiliary=found.auxiliary[:1])
    np.testing.assert_allclose(found.rollout(batch).features, once.rollout(batch).features, atol=1e-4)


def test_a_share_is_the_least_squares_one_of_each_frame():
    rng = np.random.default_rng(0)
    logged, said, own = (rng.standard_normal((6, 4, 2)).astype(np.float32) for _ in range(3))
    own[:, 0], own[:, 1] = 2 * logged[:, 0] - said[:, 0], logged[:, 1]  # as far beyond as the first is short; right
    own[:, 2] = 2 * said[:, 2] - logged[:, 2]  # farther off on the same side
    weight = np.ones((6, 4), np.float32)
    own[4:, :3], weight[4:] = 100.0, 0.0  # what does not exist counts for nothing
    given = Tensors(*[None] * 3, torch.from_numpy(logged), None, torch.from_numpy(weight), None)
    half = [
        auxiliary._Judge(given._replace(**{k: getattr(given, k)[rows] for k in ("features", "weight")}), said[rows])
        for rows in (slice(0, 3), slice(3, 6))
    ]
    found = auxiliary._share(half, [own[:3], own[3:]])
    np.testing.assert_allclose(found[:3], [0.5, 1, 0], atol=1e-5)
    apart, missed = (own - said)[:4, 3].ravel(), (logged - said)[:4, 3].ravel()
    assert found[3] == pytest.approx(np.clip(np.dot(apart, missed) / np.dot(apart, apart), 0, 1), abs=1e-5)


@pytest.mark.parametrize(("count", "fields"), [(6, {}), (2, BOTH)])
def test_members_are_alone_where_no_other_kind_is_configured_or_nothing_is_left_out(count, fields):
    found, _ = fitted(make_episodes(count, 9), members=3, **fields)
    assert found.auxiliary == ()
