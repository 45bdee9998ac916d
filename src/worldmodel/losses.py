"""Losses: pure functions of (prediction, target, weight). Dimension key as in model.py."""

import math

import torch
from torch import Tensor

from worldmodel.model import Prediction


def weighted_mean(values: Tensor, weight: Tensor) -> Tensor:
    """Mean of values [B, K, ...] under weight [B, K]; frames of weight 0 do not exist, and the mean of none is 0."""
    per_frame = values.flatten(2).mean(-1) if values.ndim > 2 else values
    return (per_frame * weight).sum() / weight.sum().clamp(min=torch.finfo(weight.dtype).tiny)


def squared_error(prediction: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Mean squared error, standardized units squared."""
    return weighted_mean((prediction - target).square(), weight)


def negative_log_likelihood(error: Tensor, log_std: Tensor, weight: Tensor) -> Tensor:
    """Exact Gaussian negative log-likelihood, nats a feature; error and log_std [B, K, F]."""
    nats = 0.5 * (error * (-log_std).exp()).square() + log_std + 0.5 * math.log(2 * math.pi)
    return weighted_mean(nats, weight)


def world_model_loss(
    prediction: Prediction, features: Tensor, rewards: Tensor | None, weight: Tensor
) -> tuple[Tensor, dict[str, Tensor]]:
    """Squared error of features, with the reward as one more feature, plus the likelihood of the spread around it.

    The spread sees a detached error: the mean is a least-squares fit whatever the spread does.
    """
    error = squared_error(prediction.features, features, weight)
    spread = negative_log_likelihood((features - prediction.features).detach(), prediction.log_std, weight)
    parts = {"mse": error, "nll": spread}
    total = error + spread
    if prediction.rewards is not None and rewards is not None:
        parts["reward"] = squared_error(prediction.rewards, rewards, weight)
        total = total + parts["reward"] / features.shape[-1]
    return total, {name: part.detach() for name, part in parts.items()}
