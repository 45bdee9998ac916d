from dataclasses import replace

import numpy as np
import pytest
import torch

from factories import make_episodes, make_packed, make_train
from pendulums import CPU, SHAPE
from worldmodel.arrays.mixing import Mixture
from worldmodel.arrays.windows import windows
from worldmodel.checkpoints.content import State, content_of
from worldmodel.model import objective as objectives
from worldmodel.model.objective import Objective, shard_count
from worldmodel.model.optimization import new_optimizer, train_step
from worldmodel.model.sharding import Team
from worldmodel.model.tensors import to_device
from worldmodel.model.world_model import WorldModel

# rewards, endings, missing readings, dreams that count by their confidence, windows that go past their episode
RICH = replace(SHAPE, rewards=True, terminals=True, masked=True, context_spread=True)
SOURCES = ("observed", "dream")


def mixture(batch_size):
    observed, dreams = make_episodes(5, 12, 2, 1, terminal=True), make_episodes(4, 5, 2, 1, source="dream")
    packed = make_packed([*observed, *dreams])
    packed.features[::7, 0] = np.nan
    every = [windows(replace(packed, missing=True), packed.where("train", source), 2, 4) for source in SOURCES]
    return Mixture(*every, batch_size, np.full(9, 0.4), 0, confidence=True)


def seeded():
    torch.manual_seed(0)
    model = WorldModel(RICH)
    for each in model.parameters():  # what starts at zero hides what it is multiplied with
        torch.nn.init.normal_(each, std=0.1)
    return model


def gradient(step):
    """Of a step of rate 0, and the losses before it."""
    model = seeded()
    losses = step(model, new_optimizer(model), rate=0.0)
    return {name: each.grad for name, each in model.named_parameters()}, losses


@pytest.mark.parametrize("likelihood", [False, True])
def test_shards_add_up_to_the_gradient_and_the_losses_of_their_batch(monkeypatch, likelihood):
    draws = []
    monkeypatch.setattr(objectives, "noise_like", lambda mean, draw: draws.append(draw) or torch.ones_like(mean))
    whole, team, wanted = mixture(26), Team(shards=3), Objective(0.3, 0.0, likelihood, draw=(5, 7))
    batches = [to_device(whole.batch(2, part), CPU) for part in team.parts]
    assert [len(each.weight) for each in batches] == [9, 9, 8]
    assert len({float(each.weight.sum()) for each in batches}) == 3  # so that a mean of means would be another one

    expected, losses = gradient(lambda *given, rate: train_step(*given, to_device(whole.batch(2), CPU), rate, wanted))
    found, sharded = gradient(lambda *given, rate: team.step_along(*given, batches, rate, wanted))
    assert set(losses) == set(sharded) == {"mse", "nll", "reward", "termination", "kl"}
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(sharded, losses)
    assert draws == [(5, 7), (5, 7, 0), (5, 7, 1), (5, 7, 2)]  # a shard has noise of its own


def test_the_parts_of_a_batch_hold_each_of_its_windows_once():
    whole = mixture(26)
    batch, parts = whole.batch(3), [whole.batch(3, part) for part in Team(3).parts]
    for name in ("history", "planned_actions", "features", "weight", "observed", "present"):
        every = np.empty_like(getattr(batch, name))
        for shard, part in enumerate(parts):
            every[shard::3] = getattr(part, name)
        assert every.tobytes() == getattr(batch, name).tobytes()


def test_a_batch_without_any_weight_moves_nothing():
    batches = [to_device(mixture(26).batch(0, part), CPU) for part in Team(2).parts]
    batches = [each._replace(weight=torch.zeros_like(each.weight)) for each in batches]
    found, _ = gradient(lambda *given, rate: Team(2).step_along(*given, batches, rate, Objective()))
    assert not any(each.any() for each in found.values() if each is not None)


def test_how_many_shards_there_are_follows_from_the_batch():
    sizes = {1: 1, 64: 1, 511: 1, 512: 2, 1024: 4, 1100: 4}
    assert {size: shard_count(make_train(batch_size=size)) for size in sizes} == sizes
    assert shard_count(make_train(batch_size=1024, contrastive_weight=0.1)) == 1


def test_every_shard_is_of_one_process():
    for shards, size in ((4, 1), (4, 2), (5, 3), (7, 7)):
        own = [part.start for rank in range(size) for part in Team(shards, rank, size).parts]
        assert sorted(own) == list(range(shards))


def test_a_process_that_was_given_something_else_is_refused(monkeypatch):
    team = Team(2, 1, 2, work="this")
    for work in ("this", "that"):
        monkeypatch.setattr(Team, "_told", lambda *_, work=work: content_of(State({"step": 3}, {}), work))
        if work == "this":
            assert team.begun(CPU).numbers == {"step": 3}
        else:
            with pytest.raises(ValueError, match=r"^process 1 of this training has other params, data, code or"):
                team.begun(CPU)
