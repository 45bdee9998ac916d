"""What an optimizer step minimizes: the loss of the prediction and, by its weights, of z's context."""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from worldmodel.core.params import Train
from worldmodel.model.losses import Share, info_nce, kl_to_standard_normal, learn_from_observed, world_model_loss
from worldmodel.model.shape import MEMORY
from worldmodel.model.tensors import Tensors
from worldmodel.model.world_model import WorldModel

NOISE = 2  # numbers the noise among the random sequences of a seed; 0 and 1 are the mixture's
SHARD = 256  # windows: a batch has as many shards as it holds of these


class Objective(NamedTuple):
    """Weights of the losses of z's context, 0 is off, and how the prediction is judged."""

    kl_weight: float = 0.0
    contrastive_weight: float = 0.0
    likelihood: bool = False  # fit mean and std together by likelihood; else the mean by squared error
    draw: tuple[int, ...] = (0, 0)  # (seed, step), or (seed, step, shard): it alone decides sampled contexts' noise

    @property
    def names(self) -> tuple[str, ...]:
        """Parts of the loss that the weights add."""
        return ("kl",) * (self.kl_weight > 0) + ("contrastive",) * (self.contrastive_weight > 0)


PREDICTION_ALONE = Objective()


def objective_at(t: int, settings: Train) -> Objective:
    """What step t minimizes."""
    likelihood = t >= settings.nll_start * settings.steps
    return Objective(settings.kl_weight, settings.contrastive_weight, likelihood, draw=(settings.seed, t))


def shard_count(settings: Train) -> int:
    """Of a batch; one where its loss compares all of its windows with each other."""
    return 1 if settings.contrastive_weight else max(1, settings.batch_size // SHARD)


def total_loss(
    model: WorldModel, batch: Tensors, objective: Objective, share: Share | None = None
) -> tuple[Tensor, dict[str, Tensor]]:
    """(scalar to minimize, its parts without gradient); of a shard with its share, what it adds to those of its batch.

    With a kl_weight the prediction starts from a sampled context, else from the encoder's answer.
    """
    assert share is None or not objective.contrastive_weight  # which compares the windows of a whole batch
    given = (batch.history, batch.past_actions, batch.known)
    posterior = model.posterior(*given) if objective.kl_weight else None
    z = model.encode(*given) if posterior is None else posterior.sample(noise_like(posterior.mean, objective.draw))
    prediction = model.predict(z, batch.planned_actions, joint=objective.likelihood)
    prediction = learn_from_observed(prediction, batch.observed)
    real = (batch.features, batch.rewards, batch.weight)
    present, ended = batch.present, batch.ended
    loss, parts = world_model_loss(prediction, *real, objective.likelihood, present, ended=ended, share=share)
    if posterior is not None:
        nats = kl_to_standard_normal(posterior.mean, posterior.log_variance, batch.weight)
        nats = nats if share is None else nats * share.frames
        loss, parts = loss + objective.kl_weight * nats, parts | {"kl": nats.detach()}
    if objective.contrastive_weight:
        nats = _contrast(model, z, batch)
        loss, parts = loss + objective.contrastive_weight * nats, parts | {"contrastive": nats.detach()}
    return loss, parts


def noise_like(tensor: Tensor, draw: tuple[int, ...]) -> Tensor:
    """Standard normal, a pure function of `draw`: NumPy's own, which is the same on every device."""
    seed, *place = draw
    noise = np.random.default_rng([seed, NOISE, *place]).standard_normal(tuple(tensor.shape), np.float32)
    return torch.from_numpy(noise).to(tensor.device)


def _contrast(model: WorldModel, z: Tensor, batch: Tensors) -> Tensor:
    """The context of each window's history against that of the last history in it, among those of the batch; nats.

    Two crops of one trajectory are the positives, as in arXiv 2103.06386 (there for tasks, here for agents): what
    tells them from other windows is what persists, such as a hidden mass. Rolling z to the second crop along the
    actions (arXiv 1811.06407) does worse: it tells windows apart by state and actions, and forgets what the agent is
    (docs/notebook.md). The crops share no frame where the horizon is at least the history.
    """
    observed, history = model.shape.state_dim + model.shape.velocity_dim, model.shape.history
    features = torch.cat([batch.history, batch.features], dim=1)[:, -history:]
    known = None
    if batch.known is not None and batch.present is not None:
        known = torch.cat([batch.known, batch.present], dim=1)[:, -history:]
    actions = torch.cat([batch.past_actions, batch.planned_actions], dim=1)
    later = model.encode(features, actions[:, actions.shape[1] - (history - 1) :], known)
    return info_nce(z[:, observed:-MEMORY], later[:, observed:-MEMORY], batch.weight[:, -1])
