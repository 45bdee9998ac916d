import time

import numpy as np
import pytest
import torch

from factories import make_episodes, make_packed, make_train
from research.peers.admpo import Admpo
from research.peers.peer import new_peer
from research.peers.pets import Pets
from research.peers.rssm import Rssm
from research.peers.rwm import Rwm
from research.peers.tdmpc2 import TdMpc2
from research.peers.training import errors, train_peer
from worldmodel.arrays.mixing import Mixture
from worldmodel.arrays.windows import windows
from worldmodel.model.baselines import persistence
from worldmodel.model.optimization import learning_rate
from worldmodel.model.tensors import to_device

CPU = torch.device("cpu")
HISTORY, HORIZON = 3, 4


def linear_system(**fields):
    """Packed episodes of a linear system, the last third held out."""
    episodes = make_episodes(12, 30, **fields)
    return make_packed(episodes, ["train"] * 8 + ["val"] * 4)


def trained(kind, packed, updates, seed=0):
    episodes = packed.where("train")
    lengths = (1, 1) if kind.single_transitions else (HISTORY, HORIZON)
    observed, none = windows(packed, episodes, *lengths), windows(packed, episodes[:0], *lengths)
    mixture = Mixture(observed, none, kind.batch_size, np.zeros(updates), seed, confidence=False)
    peer = new_peer(kind, packed, episodes, seed, HISTORY, HORIZON)
    for t in range(updates):
        peer.update(to_device(mixture.batch(t), CPU), learning_rate(t, updates, 1.0))
    return peer


def held_out(packed):
    return windows(packed, packed.where("val"), HISTORY, HORIZON)


def hold(batch):
    return torch.from_numpy(persistence(batch.history[:, -1].numpy(), HORIZON))


@pytest.fixture(params=[Pets, Rwm, Admpo, Rssm, TdMpc2])
def kind(request):
    return request.param


@pytest.mark.slow
def test_it_learns_a_linear_system(kind):
    packed = linear_system()
    unseen = held_out(packed)
    assert errors(trained(kind, packed, 160).predict, unseen)["mean"] < 0.5 * errors(hold, unseen)["mean"]


def test_a_prediction_sees_nothing_of_what_came_and_no_later_action(kind):
    packed = linear_system()
    peer, batch = trained(kind, packed, 3), to_device(held_out(packed).take(np.arange(5)), CPU)
    other = batch.planned_actions.clone()
    other[:, 2] += 1
    with torch.no_grad():
        before, after = peer.predict(batch), peer.predict(batch._replace(planned_actions=other))
        blind = peer.predict(batch._replace(features=torch.full_like(batch.features, torch.nan), rewards=None))
    torch.testing.assert_close(after[:, :2], before[:, :2])
    assert not torch.allclose(after[:, 2], before[:, 2], atol=1e-5)
    torch.testing.assert_close(blind, before)


def test_the_same_seed_and_updates_give_the_same_bits(kind):
    packed = linear_system()
    one, same, other = (trained(kind, packed, 3, seed).state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert any(not torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("fields", [{"kind": "discrete"}, {"kind": "none", "actions": 0}], ids=["discrete", "none"])
def test_it_takes_logs_of_other_actions_and_without_rewards(kind, fields):
    packed = linear_system(rewards=False, **fields)
    error = errors(trained(kind, packed, 2).predict, held_out(packed))
    assert np.isfinite(list(error.values())).all()


def test_the_seconds_are_those_of_the_processor_and_waiting_costs_none():
    class Waiting(Admpo):
        def update(self, batch, share=1.0):
            time.sleep(0.02)
            super().update(batch, share)

    begin = time.perf_counter()
    peer = train_peer(Waiting, linear_system(), make_train(history=HISTORY, horizon=HORIZON), 0.2, 0)
    assert peer.seconds >= 0.2
    assert time.perf_counter() - begin - peer.seconds > 0.9 * 0.02 * peer.updates
