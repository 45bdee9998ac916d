import math

import pytest
import torch
from torch.distributions import Normal, kl_divergence

from worldmodel.core.student_t import log_density
from worldmodel.model.losses import (
    TEMPERATURE,
    info_nce,
    kl_to_standard_normal,
    learn_from_observed,
    negative_log_likelihood,
    squared_error,
    weighted_mean,
    world_model_loss,
)
from worldmodel.model.world_model import DEGREES, Prediction

B, K, F = 3, 4, 2


def tensor(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


WEIGHT = torch.tensor([[1.0, 1, 1, 1], [1, 1, 0, 0], [0.5, 0.25, 0, 0]])


def test_the_mean_is_over_frames_by_their_weight():
    values = tensor(B, K, F)
    rows = [(values[b, k].mean(), WEIGHT[b, k]) for b in range(B) for k in range(K)]
    expected = sum(value * weight for value, weight in rows) / sum(weight for _, weight in rows)
    torch.testing.assert_close(weighted_mean(values, WEIGHT), expected)
    torch.testing.assert_close(weighted_mean(values[..., 0], WEIGHT), (values[..., 0] * WEIGHT).sum() / WEIGHT.sum())


def test_likelihood_is_the_normal_distributions():
    error, log_std = tensor(B, K, F), tensor(B, K, F, seed=1)
    expected = -Normal(torch.zeros(F), log_std.exp()).log_prob(error).mean()
    torch.testing.assert_close(negative_log_likelihood(error, log_std, torch.ones(B, K)), expected)


@pytest.mark.parametrize("loss", [squared_error, negative_log_likelihood])
def test_frames_of_weight_0_do_not_exist(loss):
    one, two = tensor(1, K, F), tensor(1, K, F, seed=1)
    weight = torch.tensor([[1.0, 1, 0, 0]])
    torch.testing.assert_close(loss(one, two, weight), loss(one[:, :2], two[:, :2], weight[:, :2]))


def test_a_batch_that_nobody_trusts_gives_no_loss_and_no_gradient():
    values = tensor(B, K, F).requires_grad_()
    loss = squared_error(values, tensor(B, K, F, seed=1), torch.zeros(B, K))
    loss.backward()
    assert loss == 0
    assert (values.grad == 0).all()


def prediction(rewards=True, ending=None):
    rewards = tensor(B, K, seed=2) if rewards else None
    return Prediction(tensor(B, K, F), tensor(B, K, F, seed=1), rewards, ending, torch.zeros(B, K))


def test_the_loss_is_error_and_likelihood_with_the_reward_as_one_more_feature():
    features, rewards = tensor(B, K, F, seed=3), tensor(B, K, seed=4)
    total, parts = world_model_loss(prediction(), features, rewards, WEIGHT)
    error = squared_error(prediction().features, features, WEIGHT)
    missed, log_std = features - prediction().features, prediction().log_std
    nats = negative_log_likelihood(missed, log_std, WEIGHT, degrees=DEGREES)
    earned = squared_error(prediction().rewards, rewards, WEIGHT)
    torch.testing.assert_close(total, error + nats + earned / F)
    assert parts == {"mse": error, "nll": nats, "reward": earned}


def test_without_rewards_there_is_no_reward_loss():
    features = tensor(B, K, F, seed=3)
    total, parts = world_model_loss(prediction(rewards=False), features, None, WEIGHT)
    assert set(parts) == {"mse", "nll"}
    torch.testing.assert_close(total, parts["mse"] + parts["nll"])


def test_the_spread_does_not_pull_on_the_mean():
    mean, log_std = (tensor(B, K, F, seed=seed).requires_grad_() for seed in (0, 1))
    target = tensor(B, K, F, seed=2)
    total, _ = world_model_loss(Prediction(mean, log_std, None, None, torch.zeros(B, K)), target, None, WEIGHT)
    found = torch.autograd.grad(total, mean)[0]
    expected = torch.autograd.grad(squared_error(mean, target, WEIGHT), mean)[0]
    torch.testing.assert_close(found, expected)


def test_the_likelihood_is_that_of_the_distribution_with_this_std():
    error, log_std = tensor(B, K, F), tensor(B, K, F, seed=1)
    for degrees in (2.1, 5.0, math.inf):
        found = negative_log_likelihood(error, log_std, torch.ones(B, K), degrees=degrees)
        nats = log_density(error.numpy(), log_std.exp().numpy(), degrees)
        assert float(found) == pytest.approx(-nats.mean(), rel=1e-5)


def test_by_likelihood_alone_an_error_pulls_on_the_mean_by_its_precision():
    mean, log_std = tensor(B, K, F).requires_grad_(), tensor(B, K, F, seed=1)
    target = tensor(B, K, F, seed=2)
    total, parts = world_model_loss(
        Prediction(mean, log_std, None, None, torch.zeros(B, K)), target, None, WEIGHT, likelihood=True
    )
    found = torch.autograd.grad(total, mean)[0]
    ratio = ((mean - target) / log_std.exp()).square()
    less = (DEGREES + 1) / (DEGREES - 2 + ratio)  # the farther off, the less: an outlier moves little
    expected = (mean - target) * (-2 * log_std).exp() * less * WEIGHT[..., None] / (F * WEIGHT.sum())
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(total, parts["nll"])


def test_spread_and_ending_learn_from_observed_windows_alone_and_their_values_stay():
    log_std = tensor(3, K, F, seed=1).requires_grad_()
    odds = tensor(3, K, seed=3).requires_grad_()
    given = Prediction(tensor(3, K, F), log_std, None, odds, torch.zeros(3, K))
    found = learn_from_observed(given, torch.tensor([1.0, 0.0, 1.0]))
    torch.testing.assert_close(found.log_std, log_std)
    torch.testing.assert_close(found.termination, odds)
    real, weight = tensor(3, K, F, seed=2), torch.ones(3, K)
    total, _ = world_model_loss(found, real, None, weight, likelihood=True, ended=torch.zeros(3, K))
    for gradient in torch.autograd.grad(total, [log_std, odds]):
        assert gradient.flatten(1).any(1).tolist() == [True, False, True]


def test_what_an_ending_is_off_its_odds_counts_as_one_more_feature():
    features, ended = tensor(B, K, F, seed=3), (tensor(B, K, seed=4) > 0).float()
    odds = tensor(B, K, seed=5)
    total, parts = world_model_loss(prediction(False, odds), features, None, WEIGHT, ended=ended)
    likely = torch.where(ended > 0, torch.sigmoid(odds), torch.sigmoid(-odds))
    torch.testing.assert_close(parts["termination"], (-likely.log() * WEIGHT).sum() / WEIGHT.sum())
    torch.testing.assert_close(total, parts["mse"] + parts["nll"] + parts["termination"] / F)


def test_the_divergence_is_the_normal_distributions_and_windows_count_by_their_frames():
    mean, log_variance = tensor(B, F), tensor(B, F, seed=1)
    nats = kl_divergence(Normal(mean, (log_variance / 2).exp()), Normal(0.0, 1.0)).sum(-1)
    frames = WEIGHT.sum(1)
    expected = (nats * frames).sum() / frames.sum()
    torch.testing.assert_close(kl_to_standard_normal(mean, log_variance, WEIGHT), expected)
    assert kl_to_standard_normal(torch.zeros(B, F), torch.zeros(B, F), WEIGHT) == 0


def test_info_nce_is_the_likelihood_of_the_own_one_among_all():
    predicted, encoded = tensor(4, 5), tensor(4, 5, seed=1)
    cosines = torch.nn.functional.cosine_similarity(predicted[:, None], encoded[None], dim=-1)
    expected = -torch.log_softmax(cosines / TEMPERATURE, dim=1).diagonal().mean()
    torch.testing.assert_close(info_nce(predicted, encoded, torch.ones(4)), expected)
    assert info_nce(encoded, encoded, torch.ones(4)) < info_nce(encoded.flip(0), encoded, torch.ones(4))


def test_windows_of_weight_0_are_neither_asked_for_nor_offered():
    predicted, encoded = tensor(5, F), tensor(5, F, seed=1)
    weight = torch.tensor([1.0, 0, 0.5, 0, 1])
    there = weight > 0
    torch.testing.assert_close(
        info_nce(predicted, encoded, weight), info_nce(predicted[there], encoded[there], weight[there])
    )


def test_a_batch_without_later_windows_has_no_contrast_and_no_gradient():
    predicted = tensor(5, F).requires_grad_()
    loss = info_nce(predicted, tensor(5, F, seed=1), torch.zeros(5))
    loss.backward()
    assert loss == 0
    assert (predicted.grad == 0).all()


def test_missing_readings_have_no_part_in_a_loss():
    features, present = tensor(B, K, F, seed=1), (tensor(B, K, F, seed=3) > 0).float()
    total, parts = world_model_loss(prediction(), features, None, WEIGHT, present=present)
    other = torch.where(present > 0, features, 1e3)
    assert torch.equal(total, world_model_loss(prediction(), other, None, WEIGHT, present=present)[0])
    weight = WEIGHT[..., None] * present
    expected = ((prediction().features - features).square() * weight).sum() / weight.sum()
    torch.testing.assert_close(parts["mse"], expected)
    whole = world_model_loss(prediction(), features, None, WEIGHT, present=torch.ones_like(present))[0]
    torch.testing.assert_close(whole, world_model_loss(prediction(), features, None, WEIGHT)[0])
