from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn.functional import silu

from factories import make_episodes, make_packed
from worldmodel.arrays.windows import windows
from worldmodel.model.initialization import new_model
from worldmodel.model.losses import world_model_loss
from worldmodel.model.shape import MEMORY, Shape
from worldmodel.model.tensors import to_device
from worldmodel.model.world_model import ENCODERS, Prediction, WorldModel

CPU = torch.device("cpu")
SHAPE = Shape(features=4, actions=3, rewards=True, history=3, horizon=5, z_dim=10, hidden_dim=16, encoder="gru")


def context_of(model, z):
    """[B, C] of z."""
    return z[:, model.shape.state_dim + model.shape.velocity_dim : -MEMORY]


every_encoder = pytest.mark.parametrize("encoder", ENCODERS)


def random_model(shape=SHAPE):
    """Nothing at zero, so that every path counts."""
    torch.manual_seed(0)
    model = WorldModel(shape).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
        model.log_std_offset.copy_(torch.linspace(0, 1, shape.horizon)[:, None])
        model.log_std_slope.fill_(0.7)
        model.train_min.fill_(-0.5)
        model.train_max.fill_(0.5)
        model.damping.fill_(0.3)
        model.unfamiliarity.copy_(torch.randn_like(model.unfamiliarity))
    return model


def random_inputs(shape=SHAPE, batch=6):
    source = torch.Generator().manual_seed(1)
    sizes = [(shape.history, shape.features), (shape.history - 1, shape.actions), (shape.horizon, shape.actions)]
    return [torch.randn(batch, *size, generator=source) for size in sizes]


def assert_equal(found, expected, **tolerances):
    for one, other in zip(found, expected, strict=True):
        if one is not None:
            torch.testing.assert_close(one, other, **tolerances)


@every_encoder
@pytest.mark.parametrize("actions", [0, 3])
@pytest.mark.parametrize(("history", "horizon"), [(3, 5), (1, 1)])
@pytest.mark.parametrize("rewards", [True, False])
def test_shapes_are_as_promised(encoder, actions, history, horizon, rewards):
    shape = replace(SHAPE, encoder=encoder, actions=actions, history=history, horizon=horizon, rewards=rewards)
    model, (features, past, planned) = random_model(shape), random_inputs(shape)
    z = model.encode(features, past)
    prediction = model.predict(z, planned)
    assert z.shape == (6, 10)
    assert prediction.features.shape == prediction.log_std.shape == (6, horizon, 4)
    assert prediction.rewards is None if not rewards else prediction.rewards.shape == (6, horizon)


@every_encoder
@pytest.mark.parametrize("history", [1, 3])
def test_the_context_lies_within_minus_1_and_1(encoder, history):
    shape = replace(SHAPE, encoder=encoder, history=history)
    model, (features, past, _) = random_model(shape), random_inputs(shape)
    assert context_of(model, model.encode(1e3 * features, past)).abs().max() <= 1


@every_encoder
@pytest.mark.parametrize("t", range(SHAPE.horizon))
def test_a_changed_action_leaves_earlier_predictions_alone(encoder, t):
    shape = replace(SHAPE, encoder=encoder, terminals=True)
    model, (features, past, planned) = random_model(shape), random_inputs(shape)
    other = planned.clone()
    other[:, t] += 1
    before, after = model(features, past, planned), model(features, past, other)
    for one, changed in zip(before, after, strict=True):
        assert torch.equal(one[:, :t], changed[:, :t])
        assert (one[:, t:] != changed[:, t:]).flatten(2).any(-1).all() if one.ndim == 3 else True
    assert (before.rewards[:, t:] != after.rewards[:, t:]).all()


def stepped(model, z, planned):
    """Prediction by a plain loop over step, and the last z."""
    z = z.clone()
    frames = []
    for k, action in enumerate(planned.unbind(1)):
        inputs = torch.cat([z[:, : model.shape.state_dim].detach(), action], -1)
        doubt = z[:, -1] + ((inputs - model.familiar) @ model.unfamiliarity).square().sum(-1)
        z, hidden = model.step(z, action)
        z = torch.cat([z[:, :-1], doubt[:, None]], dim=-1)
        state = z[:, : model.shape.state_dim]
        frame = model.unproject(state)
        said = model.log_std_head(hidden.detach()).clamp(-7, 7)
        log_std = model.log_std_slope * said + model.log_std_offset[k]
        ending = model.termination(silu(model.ending_layer(frame.detach())))[:, 0] if model.termination else None
        reward = model.reward(torch.cat([hidden, state], -1))[:, 0]
        disagreement = doubt * log_std.detach().exp().square().mean(-1).sqrt()
        frames.append(Prediction(frame, log_std, reward, ending, disagreement))
    parts = (None if part[0] is None else torch.stack(part, 1) for part in zip(*frames, strict=True))
    return Prediction(*parts), z


@pytest.mark.parametrize("grad", [True, False])
@pytest.mark.parametrize(("features", "actions"), [(4, 3), (4, 0), (9, 3)])
def test_predicting_in_one_go_is_stepping(grad, features, actions):
    shape = replace(SHAPE, features=features, actions=actions, terminals=True)
    model, (frames, past, planned) = random_model(shape), random_inputs(shape)
    model.delta_std.copy_(torch.linspace(0.1, 2, shape.state_dim))
    with torch.set_grad_enabled(grad):
        z = model.encode(frames, past)
        expected, last = stepped(model, z, planned)
        assert_equal(model.predict(z, planned), expected)
        torch.testing.assert_close(model.advance(z, planned)[0], last)


@pytest.mark.parametrize("first", [1, 3, 5, 7])
def test_a_plan_in_two_parts_is_the_plan_even_past_the_horizon(first):
    shape = replace(SHAPE, terminals=True)
    model, (frames, past, planned) = random_model(shape), random_inputs(shape)
    planned, z = planned.repeat(1, 2, 1), model.encode(frames, past)
    between, begun = model.advance(z, planned[:, :first])
    _, rest = model.advance(between, planned[:, first:])
    whole = model.predict(z, planned)
    assert_equal([torch.cat(parts, 1) for parts in zip(begun, rest, strict=True)], whole)
    assert between[:, -2].tolist() == [first] * 6


def test_the_std_grows_on_past_the_horizon():
    model, (frames, past, planned) = random_model(), random_inputs()
    with torch.no_grad():
        model.log_std_slope.zero_()
        model.log_std_growth.copy_(torch.tensor([0.0, 0.5, 1.0, 1.0]))
    found = model.predict(model.encode(frames, past), planned.repeat(1, 4, 1)).log_std
    torch.testing.assert_close(found[:, :5], model.log_std_offset.expand(6, 5, 4))
    grown = (found[:, 19] - found[:, 4]).exp()
    torch.testing.assert_close(grown, torch.tensor([1.0, 2.0, 4.0, 4.0]).expand(6, 4))


@pytest.mark.parametrize("features", [4, 9])
def test_its_gradient_is_that_of_stepping(features):
    shape = replace(SHAPE, features=features)
    model, (frames, past, planned) = random_model(shape), random_inputs(shape)
    model.delta_std.copy_(torch.linspace(0.1, 2, shape.state_dim))
    target, rewards, weight = torch.randn(6, 5, features), torch.randn(6, 5), torch.rand(6, 5)

    def gradient(predict):
        loss, _ = world_model_loss(predict(model.encode(frames, past), planned), target, rewards, weight)
        return torch.autograd.grad(loss, list(model.parameters()))

    assert_equal(gradient(model.predict), gradient(lambda z, plan: stepped(model, z, plan)[0]), rtol=1e-4, atol=1e-6)


@every_encoder
def test_past_actions_reach_z_and_each_stands_at_the_frame_it_led_to(encoder):
    shape = replace(SHAPE, encoder=encoder)
    model, (features, past, _) = random_model(shape), random_inputs(shape)
    seen = []
    model.encoder.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    model.encode(features, past)
    assert torch.equal(seen[0][..., :4], features)
    assert torch.equal(seen[0][:, 1:, 4:], past)
    assert (seen[0][:, 0, 4:] == 0).all()


@every_encoder
def test_rows_do_not_see_each_other_and_calls_leave_nothing_behind(encoder):
    shape = replace(SHAPE, encoder=encoder)
    model, inputs = random_model(shape), random_inputs(shape)
    whole = model(*inputs)
    alone = [model(*(part[row : row + 1] for part in inputs)) for row in range(6)]
    joined = [None if parts[0] is None else torch.cat(parts) for parts in zip(*alone, strict=True)]
    assert_equal(joined, whole)
    assert_equal(model(*inputs), whole, rtol=0, atol=0)


def test_from_a_single_frame_the_velocity_is_read_by_a_head_and_else_it_is_the_last_change():
    shape = replace(SHAPE, features=2, z_dim=12)
    model, (features, past, _) = random_model(shape), random_inputs(shape)
    model.delta_std.copy_(torch.tensor([2.0, 0.0]))
    moved = model.encode(features, past)[:, 2:4]
    torch.testing.assert_close(moved[:, 0], (features[:, -1, 0] - features[:, -2, 0]) / 2)
    features = features[:, -1:].expand(-1, 3, -1)
    read = model.encode(features, past)[:, 2:4]
    assert (read[:, 0] != 0).all()
    assert (read[:, 1] == moved[:, 1]).all()  # what never moves
    assert (moved[:, 1] == 0).all()
    torch.nn.init.zeros_(model.starting.weight)
    torch.nn.init.zeros_(model.starting.bias)
    assert (model.encode(features, past)[:, 2:4] == 0).all()


def with_motion(features=3):
    """A packed data set, and a shape that has room for motion."""
    packed = make_packed(make_episodes(6, 12, features=features))
    return packed, replace(SHAPE, features=features, actions=packed.actions.shape[1])


def test_outside_of_the_train_states_the_motion_fades():
    model, (features, past, planned) = random_model(), random_inputs()
    model.train_min.copy_(torch.tensor([-1.0, -2.0, -3.0, -4.0]))
    model.train_max.copy_(-model.train_min)
    z = model.encode(features, past)
    z[0, :4] = torch.tensor([1.0, -2.0, 3.0, 0.0])
    z[1, :4] = torch.tensor([2.0, -4.0, 3.0, 0.0])  # 1 too high, 2 too low
    (faded, hidden), shrunk = model.step(z, planned[:, 0]), torch.tensor([[1.0], [1 / (1 + 0.3 * (1 + 4))]])
    model.damping.zero_()
    whole, same = model.step(z, planned[:, 0])
    torch.testing.assert_close(faded[:2, :4] - z[:2, :4], shrunk * (whole[:2, :4] - z[:2, :4]))
    torch.testing.assert_close(faded[:, 4:], whole[:, 4:])
    torch.testing.assert_close(hidden, same)


def test_readings_go_no_farther_than_their_stops():
    model, (features, past, planned) = random_model(), random_inputs()
    z = model.encode(features, past)
    free = model.unroll(z, planned).features.detach()
    model.sensor_min.fill_(float(free[:, 0].quantile(0.3)))
    model.sensor_max.fill_(float(free[:, 0].quantile(0.7)))
    z[:, :4] = z[:, :4].clamp(model.sensor_min, model.sensor_max)
    free, held = model.step(z, planned[:, 0])[0][:, :4], model.unroll(z, planned[:, :1]).features[:, 0]
    torch.testing.assert_close(held, free.clamp(model.sensor_min, model.sensor_max))
    assert not torch.equal(held, free)


def test_the_next_motion_is_added_to_what_is_read_and_knows_what_is_behind_it():
    model, (features, past, planned) = random_model(), random_inputs()
    model.sensor_max.fill_(0.5)
    model.damping.zero_()
    model.linear.weight.data.zero_()
    model.linear.bias.data.zero_()
    z = model.encode(features, past)
    beyond, at = z.clone(), z.clone()
    beyond[:, :4], at[:, :4] = 2.0, 0.5
    (moved, _), (same, _) = model.step(beyond, planned[:, 0]), model.step(at, planned[:, 0])
    model.change.weight.data.zero_()
    model.change.bias.data.zero_()
    torch.testing.assert_close(model.step(beyond, planned[:, 0])[0][:, :4], at[:, :4])
    assert not torch.allclose(moved[:, :4], same[:, :4])


def test_before_training_the_context_stands_still():
    packed, shape = with_motion()
    model, (features, past, planned) = new_model(shape, packed, np.arange(6), seed=0, device=CPU), random_inputs(shape)
    z = model.encode(features, past)
    moved, _ = model.step(z, planned[:, 0])
    assert context_of(model, z).all()
    assert torch.equal(context_of(model, moved), context_of(model, z))


def test_z_holds_the_last_change_in_units_of_the_usual_one():
    shape = replace(SHAPE, features=3)
    model, (features, past, planned) = random_model(shape), random_inputs(shape)
    model.delta_std.copy_(torch.tensor([0.5, 2.0, 0.0]))
    change = features[:, -1] - features[:, -2]
    expected = torch.stack([2 * change[:, 0], change[:, 1] / 2, torch.zeros(6)], dim=1)
    z = model.encode(features, past)
    torch.testing.assert_close(z[:, 3:6], expected)
    moved, _ = model.step(z, planned[:, 0])
    torch.testing.assert_close(moved[:, :3] - z[:, :3], model.delta_std * moved[:, 3:6])


@pytest.mark.parametrize(
    ("history", "features", "z_dim", "motion"), [(8, 17, 64, 17), (8, 24, 64, 24), (8, 25, 64, 0), (1, 17, 64, 0)]
)
def test_the_last_change_is_known_where_there_is_one_and_room_for_it(history, features, z_dim, motion):
    shape = replace(SHAPE, history=history, features=features, z_dim=z_dim)
    assert (shape.velocity_dim, shape.context_dim) == (motion, z_dim - features - motion - MEMORY)


def wide_packed():
    """9 features that live on 3 directions, plus a little noise."""
    episodes = make_episodes(6, 12, features=3)
    rng = np.random.default_rng(0)
    mix = rng.normal(size=(3, 9))
    widened = [
        replace(e, features=(e.features @ mix + 1e-3 * rng.normal(size=(12, 9))).astype(np.float32)) for e in episodes
    ]
    return make_packed(widened)


def test_many_features_are_compressed_along_principal_directions():
    packed = wide_packed()
    shape = replace(SHAPE, features=9, z_dim=6)  # 3 of its numbers are for the last frame
    assert shape.state_dim == 3
    model = new_model(shape, packed, np.arange(6), seed=0, device=CPU)
    with torch.no_grad():
        frames = torch.from_numpy(np.array(packed.features))
        back = model.unproject(model.project(frames)).numpy()
    np.testing.assert_allclose(back, packed.features, atol=0.01)
    directions = np.linalg.svd(packed.features.astype(np.float64), full_matrices=False)[2][:3]
    projection = model.project.weight.detach().numpy()
    np.testing.assert_allclose(projection @ projection.T, np.eye(3), atol=1e-5)
    np.testing.assert_allclose(np.abs(projection @ directions.T), np.eye(3), atol=1e-3)


@pytest.mark.parametrize(("features", "z_dim", "state"), [(1, 4, 1), (9, 4, 1), (6, 8, 5), (9, 12, 9), (49, 64, 48)])
def test_the_last_frame_takes_three_quarters_of_z_at_most_and_leaves_room(features, z_dim, state):
    assert replace(SHAPE, features=features, z_dim=z_dim).state_dim == state


def test_a_feature_that_never_changed_is_predicted_to_stay():
    episodes = [replace(e, features=np.c_[e.features, np.full(12, 5, np.float32)]) for e in make_episodes(4, 12)]
    packed = make_packed(episodes)
    shape = replace(SHAPE, features=3)
    model = new_model(shape, packed, np.arange(4), seed=0, device=CPU)
    features, past, planned = random_inputs(shape)
    predicted = model(features, past, planned).features
    assert torch.equal(predicted[..., 2], features[:, -1:, 2].expand(-1, 5))
    assert torch.isfinite(predicted).all()


def test_one_episode_of_one_frame_predicts_that_nothing_changes():
    packed = make_packed(make_episodes(1, 1, features=4))
    model = new_model(SHAPE, packed, np.arange(1), seed=0, device=CPU)
    features, past, planned = random_inputs()
    assert torch.equal(model(features, past, planned).features, features[:, -1:].expand(-1, 5, -1))


def test_the_spread_bends_nothing_but_itself():
    model, inputs = random_model(), random_inputs()
    model(*inputs).log_std.sum().backward()
    reached = {name for name, parameter in model.named_parameters() if parameter.grad is not None}
    assert reached == {"log_std_head.weight", "log_std_head.bias"}


def test_frames_without_weight_change_neither_loss_nor_gradient():
    model, inputs = random_model(), random_inputs()
    features, rewards = torch.randn(6, 5, 4), torch.randn(6, 5)
    weight = (torch.arange(5) < torch.tensor([[1], [2], [3], [4], [5], [5]])).float()

    def gradient(features, rewards, planned):
        loss, _ = world_model_loss(model(*inputs[:2], planned), features, rewards, weight)
        return [loss, *torch.autograd.grad(loss, list(model.parameters()))]

    missing = weight == 0
    noisy = [part.clone() for part in (features, rewards, inputs[2])]
    for part in noisy:
        part[missing] = 1e3
    assert_equal(gradient(*noisy), gradient(features, rewards, inputs[2]), rtol=0, atol=0)


def test_the_same_seed_gives_the_same_weights_and_leaves_torchs_own_alone():
    packed = make_packed(make_episodes(3, 9, features=4))
    torch.manual_seed(5)
    models = [new_model(SHAPE, packed, np.arange(3), seed, CPU).state_dict() for seed in (0, 0, 1)]
    assert torch.rand(1) == torch.rand(1, generator=torch.Generator().manual_seed(5))
    same = [all(torch.equal(models[0][name], other[name]) for name in other) for other in models[1:]]
    assert same == [True, False]


def test_untrained_heads_say_the_mean_reward_and_the_same_spread_of_all_windows():
    packed = make_packed(make_episodes(4, 12, features=4))
    model = new_model(SHAPE, packed, packed.where("train"), seed=0, device=CPU)
    prediction = model(*random_inputs())
    assert torch.all(prediction.rewards == 0)
    assert torch.equal(prediction.log_std, model.log_std_offset.expand_as(prediction.log_std))
    assert len(prediction.log_std[0].unique()) > SHAPE.horizon


MASKED = replace(SHAPE, masked=True)


def some_known(shape, share=0.6):
    return (torch.rand(6, shape.history, shape.features, generator=torch.Generator().manual_seed(2)) < share).float()


@every_encoder
@pytest.mark.parametrize(("features", "history", "z_dim"), [(4, 3, 8), (4, 1, 8), (4, 3, 20), (9, 3, 8)])
def test_what_stands_at_a_missing_reading_does_not_count_and_that_it_is_missing_does(encoder, features, history, z_dim):
    shape = replace(MASKED, encoder=encoder, features=features, history=history, z_dim=z_dim)
    model, (frames, past, planned) = random_model(shape), random_inputs(shape)
    known = some_known(shape)
    found = model(frames, past, planned, known)
    other = model(torch.where(known > 0, frames, 77.0), past, planned, known)
    assert_equal(found, other)
    assert found.features.isfinite().all()
    assert not torch.allclose(found.features, model(frames, past, planned, torch.ones_like(known)).features)


def test_a_model_that_starts_fills_in_what_ridge_predicts():
    packed = make_packed(make_episodes(8, 60, features=4, noise=0))
    shape = replace(MASKED, z_dim=20)
    model = new_model(shape, packed, np.arange(8), seed=0, device=CPU)
    batch = to_device(windows(packed, np.arange(8), shape.history, shape.horizon).take(np.arange(6)), CPU)
    known = torch.ones_like(batch.history)
    known[:, 1:, 1] = 0
    with torch.no_grad():
        whole = model.encode(batch.history, batch.past_actions, torch.ones_like(known))
        part = model.encode(batch.history, batch.past_actions, known)
    state = shape.state_dim + shape.velocity_dim
    assert torch.equal(whole[:, : shape.state_dim], batch.history[:, -1])
    torch.testing.assert_close(part[:, :state], whole[:, :state], atol=0.05, rtol=0.05)


def test_a_reading_that_is_missing_for_long_stays_within_the_train_episodes():
    shape = replace(MASKED, history=200, encoder="mlp")
    model, (frames, past, _) = random_model(shape), random_inputs(shape)
    with torch.no_grad():
        model.correction.weight.zero_()
        model.correction.bias.zero_()
        model.linear.weight.mul_(10)
    known = torch.zeros_like(frames)
    known[:, 0] = 1
    last = model.encode(frames, past, known)[:, : shape.state_dim]
    assert last.abs().max() <= 0.5
