from dataclasses import replace

import numpy as np
import pytest
import torch

from factories import make_dreams, make_episodes, make_packed
from worldmodel.arrays.windows import windows
from worldmodel.dreams import transition
from worldmodel.dreams.members import EnsembleTrainer, Fold
from worldmodel.model import selection
from worldmodel.model.initialization import new_model
from worldmodel.model.linear_start import linear_starts
from worldmodel.model.selection import mean_error, predictions
from worldmodel.model.shape import Shape
from worldmodel.model.tensors import Tensors, to_device

CPU = torch.device("cpu")
TRAINED, LEFT_OUT = np.arange(8), np.array([8, 9])


def pendulums(episodes=10, length=40, seed=0):
    """Cosine and sine of an angle and its velocity, pushed at random: the last frame says all, and no line does."""
    rng = np.random.default_rng(seed)
    made = []
    for episode in make_episodes(episodes, length, 3, actions=1, rewards=False):
        angle, velocity = rng.uniform(-np.pi, np.pi), rng.uniform(-1, 1)
        actions = rng.uniform(-2, 2, (length, 1)).astype(np.float32)
        frames = []
        for push in actions[:, 0]:
            frames.append([np.cos(angle), np.sin(angle), velocity])
            velocity = 0.98 * velocity + 0.5 * np.sin(angle) + 0.2 * push
            angle += 0.3 * velocity
        made.append(replace(episode, features=np.float32(frames), actions=actions))
    return make_packed(made)


def shape_of(packed, **fields):
    known = {"rewards": False, "history": 1, "horizon": 3, "z_dim": 8, "hidden_dim": 64, "encoder": "mlp"}
    return Shape(packed.features.shape[1], packed.actions.shape[1], **(known | fields))


def member_of(packed, damping=0.0, **fields):
    member = new_model(shape_of(packed, **fields), packed, np.arange(len(packed.lengths)), 0, CPU)
    member.damping.fill_(damping)
    return member


def fit(packed, folds=((TRAINED, LEFT_OUT),), steps=400, seed=0, **fields):
    member, params = member_of(packed, **fields), make_dreams(teacher={"transition_steps": steps}).teacher
    trainer = EnsembleTrainer(packed, member.shape, params, seed, CPU, None)
    return [trainer.fit_network(Fold(number, *fold), member) for number, fold in enumerate(folds)]


def test_it_predicts_what_ridge_cannot():
    packed = pendulums(12)
    unseen = windows(packed, np.array([10, 11]), 1, 3)
    [network] = fit(packed)
    ridge = transition.new_network(packed, TRAINED, member_of(packed), 0)
    own, floor = (mean_error(each, unseen, CPU) for each in (network, ridge))
    assert own < 0.3 * floor


def test_no_state_goes_past_its_stops():
    packed = pendulums()
    stopped = np.clip(packed.features, [-2, -2, -0.4], [2, 2, 0.4])
    packed = replace(packed, features=stopped.astype(np.float32))
    [network] = fit(packed)
    unseen = windows(packed, LEFT_OUT, 1, 3)
    batch = to_device(unseen.take(np.arange(len(unseen))), CPU)
    with torch.no_grad():
        speed = network(batch.history, batch.past_actions, batch.planned_actions).features[..., 2].abs()
    assert speed.max() == np.float32(0.4)
    assert (speed == speed.max()).float().mean() > 0.1
    # To predict more than what stops a change is no error.
    with torch.no_grad():
        at = batch.history[:, 0, 2] == batch.features[:, 0, 2]
        at &= batch.features[:, 0, 2] == np.float32(0.4)
        kept = [part[at] if isinstance(part, torch.Tensor) else part for part in batch]
        network.linear.weight[2] = network.change.weight[2] = network.change.bias[2] = 0
        network.linear.bias[2] = 0
        still = network.loss(Tensors(*kept))
        network.linear.bias[2] = 5
        assert at.any()
        torch.testing.assert_close(network.loss(Tensors(*kept)), still)


def test_untrained_it_is_ridge():
    packed = pendulums()
    network = transition.new_network(packed, TRAINED, member_of(packed), 0)
    episodes = [packed.each(array, TRAINED) for array in (packed.features, packed.actions)]
    [start] = linear_starts(*episodes, 3)
    rows = packed.rows(9)
    state, action = packed.features[rows], packed.actions[rows]
    with torch.no_grad():
        found = network(*(torch.from_numpy(each) for each in (state[:, None], action[:, :0], action[:, None]))).features
    expected = state + np.concatenate([state, action], axis=1) @ start.weight.T + start.bias
    np.testing.assert_allclose(found[:, 0].numpy(), expected, atol=1e-5)


def test_only_the_last_frame_of_a_history_counts():
    packed = pendulums()
    [network] = fit(packed, history=3)
    batch = windows(packed, LEFT_OUT, 3, 3).take(np.arange(5))
    history, past, planned = (torch.from_numpy(x) for x in (batch.history, batch.past_actions, batch.planned_actions))
    told = network(history, past, planned).features
    other = torch.cat([history[:, :2] + 9, history[:, 2:]], dim=1)
    assert torch.equal(network(other, past - 9, planned).features, told)
    assert not torch.equal(network(history + 1, past, planned).features, told)
    later = planned.clone()
    later[:, 1:] += 1
    assert torch.equal(network(history, past, later).features[:, 0], told[:, 0])  # no frame knows a later action


def test_a_network_never_does_worse_than_ridge_on_what_it_leaves_out():
    packed = make_packed(make_episodes(4, 14, noise=1.0))
    folds = [(np.array([0, 1]), np.array([2, 3])), (np.array([2, 3]), np.array([0, 1]))]
    for (trained, left_out), network in zip(folds, fit(packed, folds, steps=60), strict=True):
        ridge = transition.new_network(packed, trained, member_of(packed), 0)
        unseen = windows(packed, left_out, 1, 3)
        assert mean_error(network, unseen, CPU) <= mean_error(ridge, unseen, CPU)


def test_what_is_left_out_changes_nothing_but_the_selection(monkeypatch):
    monkeypatch.setattr(selection, "mean_error", lambda *_: 0.0)
    packed = pendulums()
    other = replace(packed, features=packed.features.copy())
    other.features[packed.rows(9)] *= -1
    one, two = (fit(each, steps=20)[0].state_dict() for each in (packed, other))
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_the_same_seed_gives_the_same_networks_and_each_is_another():
    packed = pendulums()
    folds = [(TRAINED, LEFT_OUT)] * 2
    (one, two), (same, _), (other, _) = (fit(packed, folds, steps=20, seed=seed) for seed in (3, 3, 4))
    weights = [each.body[0].weight for each in (one, same, two, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])
    assert not torch.equal(weights[0], weights[3])


def test_others_random_numbers_are_left_alone():
    torch.manual_seed(1)
    expected = torch.rand(1)
    torch.manual_seed(1)
    fit(pendulums(), steps=3)
    assert torch.rand(1) == expected


def test_far_outside_it_fades_as_its_member_does():
    packed = pendulums()
    still, moving = (transition.new_network(packed, TRAINED, member_of(packed, damping), 0) for damping in (1.0, 0.0))
    far = torch.full((1, 1, 3), 100.0)
    given = far, torch.zeros(1, 0, 1), torch.zeros(1, 1, 1)
    moved = [(each(*given).features[:, 0] - far[:, 0]).abs().max().item() for each in (still, moving)]
    assert 0 < moved[0] < 1e-3 * moved[1]


@pytest.mark.parametrize("z_dim", [8, 4])
def test_constant_features_stay_and_actions_may_be_missing(z_dim):
    features = [np.stack([np.full(9, 2.0), np.sin(np.arange(9) + k)], axis=1).astype(np.float32) for k in range(4)]
    still = make_episodes(4, 9, kind="none", actions=0, rewards=False)
    packed = make_packed([replace(each, features=made) for each, made in zip(still, features, strict=True)])
    [network] = fit(packed, ((np.arange(3), np.array([3])),), steps=50, z_dim=z_dim)
    unseen = windows(packed, np.array([3]), 1, 3)
    for _, answer in predictions(network, unseen, CPU):
        assert torch.isfinite(answer.features).all()
        np.testing.assert_allclose(answer.features[..., 0], packed.features[0, 0], atol=1e-5)
