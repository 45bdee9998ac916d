"""What train.kl_weight and train.contrastive_weight do to the context part of z."""

import csv
from dataclasses import replace

import numpy as np
import pytest
import torch

from factories import make_episodes, make_packed
from pendulums import CPU, SHAPE, pendulums
from projects import make_project
from test_train import data as data
from test_train import trained, weights
from worldmodel.arrays.mixing import Mixture
from worldmodel.arrays.windows import windows
from worldmodel.model.initialization import new_model
from worldmodel.model.losses import world_model_loss
from worldmodel.model.objective import Objective, noise_like, total_loss
from worldmodel.model.optimization import CLIP_NORM, learning_rate, new_optimizer, train_step
from worldmodel.model.shape import Shape
from worldmodel.model.tensors import to_device
from worldmodel.model.world_model import ENCODERS

SPREAD = replace(SHAPE, context_spread=True)


def train(shape, packed, episodes, steps, latent, update=train_step):
    """A model trained on the given episodes, and the parts of its last loss."""
    model = new_model(shape, packed, episodes, seed=0, device=CPU)
    observed = windows(packed, episodes, shape.history, shape.horizon)
    none = windows(packed, episodes[:0], shape.history, shape.horizon)
    mixture = Mixture(observed, none, 32, np.zeros(steps), 0, confidence=False)
    optimizer, parts = new_optimizer(model), {}
    for t in range(steps):
        batch, rate = to_device(mixture.batch(t), CPU), learning_rate(t, steps, 3e-3)
        parts = update(model, optimizer, batch, rate, latent._replace(draw=(0, t)))
    return model, parts


def prediction_alone(model, optimizer, batch, rate, _):
    """One step that knows of no latent loss."""
    for group in optimizer.param_groups:
        group["lr"] = rate
    prediction = model(batch.history, batch.past_actions, batch.planned_actions)
    loss, parts = world_model_loss(prediction, batch.features, batch.rewards, batch.weight)
    optimizer.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP_NORM)
    optimizer.step()
    return parts


def first_batch(shape=SHAPE, count=8):
    packed = make_packed(pendulums(2, 0))
    found = windows(packed, np.arange(2), shape.history, shape.horizon)
    model = new_model(shape, packed, np.arange(2), 0, CPU)
    return model, to_device(found.take(np.arange(count)), CPU)


@pytest.mark.parametrize("encoder", ENCODERS)
def test_weights_of_0_train_the_same_bytes_as_no_latent_losses(encoder):
    packed, every = make_packed(pendulums(4, 0)), np.arange(4)
    shape = replace(SHAPE, encoder=encoder)
    found, parts = train(shape, packed, every, 10, Objective())
    expected, plain = train(shape, packed, every, 10, Objective(), prediction_alone)
    assert set(parts) == set(plain) == {"mse", "nll"}
    assert list(found.state_dict()) == list(expected.state_dict())
    assert not [name for name in found.state_dict() if "variance" in name]
    for name, tensor in expected.state_dict().items():
        assert tensor.numpy().tobytes() == found.state_dict()[name].numpy().tobytes()


def test_a_spread_adds_one_head_and_leaves_the_other_weights_as_the_seed_gives_them():
    plain, spread = (first_batch(shape)[0].state_dict() for shape in (SHAPE, SPREAD))
    assert set(spread) - set(plain) == {"log_variance.weight", "log_variance.bias"}
    assert all(torch.equal(plain[name], spread[name]) for name in plain)


def test_the_encoder_answers_the_mean_in_training_and_after():
    model, batch = first_batch(SPREAD)
    posterior = model.posterior(batch.history, batch.past_actions)
    for found in (model.train(), model.eval()):
        z = found.encode(batch.history, batch.past_actions)
        assert torch.equal(z, posterior.sample(torch.zeros_like(posterior.mean)))
    torch.testing.assert_close(posterior.mean, torch.atanh(first_batch()[0].encode(*batch[:2])[:, 4:-2]))


def test_a_sample_is_the_mean_plus_noise_of_the_posteriors_std():
    model, batch = first_batch(SPREAD)
    posterior = model.posterior(batch.history, batch.past_actions)
    z = posterior.sample(torch.ones_like(posterior.mean))
    assert torch.equal(z[:, :2], batch.history[:, -1])
    torch.testing.assert_close(z[:, 4:-2] - posterior.mean, torch.full_like(posterior.mean, np.exp(-2)))


def test_noise_is_normal_and_depends_on_seed_and_step_alone():
    like = torch.empty(500, 20)
    noise = noise_like(like, (0, 3))
    torch.manual_seed(1)
    np.random.seed(1)
    assert torch.equal(noise, noise_like(like, (0, 3)))
    assert torch.equal(torch.rand(1), torch.rand(1, generator=torch.Generator().manual_seed(1)))
    others = [noise_like(like, draw) for draw in ((0, 4), (1, 3), (3, 0))]
    assert not any(torch.equal(noise, other) for other in others)
    assert noise.dtype == torch.float32
    assert abs(float(noise.mean())) < 0.03
    assert abs(float(noise.std()) - 1) < 0.03


def test_the_parts_are_added_by_their_weights():
    model, batch = first_batch(SPREAD)
    plain, _ = total_loss(model, batch, Objective(kl_weight=1e-30))
    loss, parts = total_loss(model, batch, Objective(0.5, 0.25))
    assert set(parts) == {"mse", "nll", "kl", "contrastive"}
    assert not any(part.requires_grad for part in parts.values())
    torch.testing.assert_close(loss, plain + 0.5 * parts["kl"] + 0.25 * parts["contrastive"])


def test_a_large_kl_weight_moves_the_posterior_to_the_prior():
    packed, every = make_packed(pendulums(12, 0)), np.arange(12)
    (near, nats), (far, many) = (train(SPREAD, packed, every, 300, Objective(weight)) for weight in (10.0, 1e-4))
    assert nats["kl"] < many["kl"] / 20
    found = windows(packed, every, SHAPE.history, SHAPE.horizon)
    batch = to_device(found.take(np.arange(len(found))), CPU)
    posterior = near.posterior(batch.history, batch.past_actions)
    assert posterior.mean.abs().mean() < 0.05
    assert posterior.log_variance.abs().max() < 0.1
    assert far.posterior(batch.history, batch.past_actions).mean.abs().mean() > 0.2


def gains(count, seed):
    """Episodes of agents of two kinds, which one frame does not tell apart: a push moves one three times as far."""
    episodes = []
    for number, base in enumerate(make_episodes(count, 24, features=2, actions=2, seed=seed, rewards=False)):
        rng = np.random.default_rng([seed, number])
        x = [rng.normal(0, 1, 2)]
        for push in base.actions[:-1]:
            x.append(0.5 * x[-1] + (0.4, 1.2)[number % 2] * push + 0.05 * rng.normal(size=2))
        episodes.append(replace(base, features=np.array(x, np.float32)))
    return episodes


def silhouette(model, held_out):
    """Of contexts grouped by kind of agent, -1..1 by cosine: 0 is no groups. An episode is not compared with itself."""
    batch = to_device(held_out.take(np.arange(len(held_out))), CPU)
    with torch.no_grad():
        context = model.encode(batch.history, batch.past_actions)[:, -model.shape.context_dim - 2 : -2]
    context = torch.nn.functional.normalize(context, dim=-1).numpy()
    distance, episode = 1 - context @ context.T, held_out.episode
    same = episode[:, None] % 2 == episode % 2
    inside = np.mean(distance, axis=1, where=same & (episode[:, None] != episode))
    outside = np.mean(distance, axis=1, where=~same)
    return ((outside - inside) / np.maximum(outside, inside)).mean()


def test_contrast_tells_agents_apart_by_what_only_their_dynamics_show():
    packed, observed = make_packed(gains(96, 10) + gains(40, 11)), np.arange(96)
    shape = Shape(features=2, actions=2, rewards=False, history=4, horizon=8, z_dim=10, hidden_dim=32, encoder="mlp")
    held_out = windows(packed, np.arange(96, 136), 4, 8)
    plain, contrasted = (
        silhouette(train(shape, packed, observed, 300, Objective(0.0, weight))[0], held_out) for weight in (0.0, 0.1)
    )
    assert contrasted > 0.5
    assert contrasted > plain + 0.2


def test_later_crops_that_do_not_exist_have_no_part():
    model, batch = first_batch()
    weight = batch.weight.clone()
    weight[:, -1] = 0
    _, parts = total_loss(model, batch._replace(weight=weight), Objective(0.0, 1.0))
    assert parts["contrastive"] == 0


@pytest.mark.parametrize("fields", [{"kl_weight": 0.01}, {"contrastive_weight": 0.1}])
def test_training_with_them_is_repeatable_and_shown(tmp_path, data, fields):
    one, same, plain, other = (
        trained(tmp_path / str(number), data, **arguments)
        for number, arguments in enumerate([fields, fields, {}, fields | {"seed": 1}])
    )
    assert weights(one) == weights(same)
    assert weights(one) not in (weights(plain), weights(other))
    ((name, value),) = fields.items()
    with (one.plots / "loss.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["series"] for row in rows} == {"train", name.removesuffix("_weight")}
    assert all(float(row["loss"]) > 0 for row in rows)
    assert one.read_trained().manifest["arguments"][name] == value


def test_a_model_with_both_exports_to_onnx_and_answers_as_torch_does(tmp_path):
    project = make_project(tmp_path, encoder="transformer", kl_weight=0.01, contrastive_weight=0.1)
    project.train()
    project.export()
    assert project.validate()["onnx"]["equivalent"]


@pytest.mark.parametrize(("history", "horizon"), [(1, 1), (1, 4), (3, 1)])
def test_the_smallest_windows_have_both_losses(tmp_path, history, horizon):
    project = make_project(tmp_path, history=history, horizon=horizon, kl_weight=0.01, contrastive_weight=0.1)
    project.train()
    assert all(torch.isfinite(tensor).all() for tensor in project.read_trained().model.state_dict().values())
