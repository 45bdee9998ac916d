"""Losses: pure functions of (prediction, target, weight). Dimension key as in world_model.py."""

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from worldmodel.model.world_model import DEGREES, Prediction

READINGS = ("mse", "nll")  # parts of a loss that are means over readings; the others' are over frames
TEMPERATURE = 0.1  # of cosines in info_nce: the best of those compared in SimCLR (arXiv 2002.05709, table 5)


class Share(NamedTuple):
    """What a shard has of its batch's weight: its loss, times this, is its share of the batch's."""

    frames: Tensor  # ()
    readings: Tensor  # (), of frames and features where readings may be missing


def weighted_mean(values: Tensor, weight: Tensor, present: Tensor | None = None) -> Tensor:
    """Mean of values [B, K, ...] under weight [B, K]; frames of weight 0 do not exist, and the mean of none is 0.

    With present [B, K, F], of those of the values [B, K, F] for which it is 1.
    """
    if present is not None:
        weight = weight[..., None] * present
    elif values.ndim > 2:
        values = values.flatten(2).mean(-1)
    return (values * weight).sum() / weight.sum().clamp(min=torch.finfo(weight.dtype).tiny)


def squared_error(prediction: Tensor, target: Tensor, weight: Tensor, present: Tensor | None = None) -> Tensor:
    """Mean squared error, standardized units squared."""
    return weighted_mean((prediction - target).square(), weight, present)


def negative_log_likelihood(
    error: Tensor, log_std: Tensor, weight: Tensor, present: Tensor | None = None, degrees: float = math.inf
) -> Tensor:
    """Exact negative log-likelihood under Student's t of that standard deviation, nats a feature; [B, K, F] each."""
    ratio = (error * (-log_std).exp()).square()
    if math.isinf(degrees):
        nats = 0.5 * ratio + log_std + 0.5 * math.log(2 * math.pi)
    else:
        constant = math.lgamma(degrees / 2) - math.lgamma((degrees + 1) / 2) + 0.5 * math.log(math.pi * (degrees - 2))
        nats = (degrees + 1) / 2 * (1 + ratio / (degrees - 2)).log() + log_std + constant  # log1p would ask MKL
    return weighted_mean(nats, weight, present)


def learn_from_observed(prediction: Prediction, observed: Tensor) -> Prediction:
    """The same prediction; std and termination learn where `observed` [B] is 1 alone: dreams have no noise, and end
    where the teacher says so.
    """
    log_std, ending, real = prediction.log_std, prediction.termination, observed[:, None] > 0
    log_std = torch.where(real[..., None], log_std, log_std.detach())
    if ending is not None:
        ending = torch.where(real, ending, ending.detach())
    return prediction._replace(log_std=log_std, termination=ending)


def world_model_loss(
    prediction: Prediction,
    features: Tensor,
    rewards: Tensor | None,
    weight: Tensor,
    likelihood: bool = False,
    present: Tensor | None = None,
    degrees: float = DEGREES,
    ended: Tensor | None = None,
    share: Share | None = None,
) -> tuple[Tensor, dict[str, Tensor]]:
    """(scalar to minimize, its parts without gradient): squared error plus the likelihood of the std, or likelihood.

    Beside the squared error the std sees a detached error: the mean is a least-squares fit whatever the std does. By
    likelihood alone a frame pulls on the mean the less, the less certain it is. The reward's squared error counts as
    that of one more feature, and so does what the end of the task, 1 in `ended` [B, K], is off its predicted odds.
    """
    parts = {"mse": squared_error(prediction.features, features, weight, present)}
    missed = features - prediction.features
    parts["nll"] = negative_log_likelihood(
        missed if likelihood else missed.detach(), prediction.log_std, weight, present, degrees
    )
    if prediction.rewards is not None and rewards is not None:
        parts["reward"] = squared_error(prediction.rewards, rewards, weight)
    if prediction.termination is not None and ended is not None:
        nats = F.binary_cross_entropy_with_logits(prediction.termination, ended, reduction="none")
        parts["termination"] = weighted_mean(nats, weight)
    if share is not None:
        parts = {name: part * (share.readings if name in READINGS else share.frames) for name, part in parts.items()}
    total = parts["nll"] if likelihood else parts["mse"] + parts["nll"]
    for name in [name for name in parts if name not in READINGS]:
        total = total + parts[name] / features.shape[-1]
    return total, {name: part.detach() for name, part in parts.items()}


def kl_to_standard_normal(mean: Tensor, log_variance: Tensor, weight: Tensor) -> Tensor:
    """KL(N(mean, variance) || N(0, I)) in nats a window, mean and log_variance [B, C], weight [B, K].

    A window counts by the sum of its frames' weights, as it does in the errors of its frames.
    """
    nats = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum(-1)
    return weighted_mean(nats[:, None].expand_as(weight), weight)


def info_nce(predicted: Tensor, encoded: Tensor, weight: Tensor) -> Tensor:
    """InfoNCE (arXiv 1807.03748): nats to tell each window's own `encoded` from those of the batch, [B, C] and [B].

    Scores are cosines over TEMPERATURE. Windows of weight 0 take no part.
    """
    scores = F.normalize(predicted, dim=-1) @ F.normalize(encoded, dim=-1).T / TEMPERATURE
    own = torch.arange(len(scores), device=scores.device)
    missing = (weight == 0) & (own[:, None] != own)  # its own one stays: a row of minus infinity has no likelihood
    nats = F.cross_entropy(scores.masked_fill(missing, -math.inf), own, reduction="none")
    return weighted_mean(nats[:, None], weight[:, None])
