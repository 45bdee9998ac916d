"""One optimizer step and what surrounds it: start, learning rate, selection, calibration. Callers own the loops."""

import copy
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from worldmodel.arrays.windows import Batch, Packed, Windows
from worldmodel.core.typing import Floats, Ints
from worldmodel.model.baselines import linear_starts
from worldmodel.model.losses import info_nce, kl_to_standard_normal, spread_by, world_model_loss
from worldmodel.model.world_model import NORMAL_90, LinearStart, Prediction, Shape, WorldModel

WEIGHT_DECAY = 1e-4
BETAS = (0.9, 0.95)  # of AdamW; a longer memory lets a good model run away (docs/results.md, a shorter memory)
CLIP_NORM = 1.0
WARM_UP = 100  # steps, and at most a tenth of all
DECAY = 0.4  # share of the steps, the last ones, over which the learning rate goes down
EVALUATION_BATCH = 1024  # windows
SELECTION_WINDOWS = 1024
FADINGS = (0.0, 0.1, 0.3, 1.0)  # of the motion outside of the train states, to choose from (docs/results.md)
NOISE = 2  # numbers the noise among the random sequences of a seed; 0 and 1 are the mixture's


class Objective(NamedTuple):
    """What an optimizer step minimizes."""

    kl_weight: float = 0.0  # this and the next are asked of z's context beside predicting well; 0 is off
    contrastive_weight: float = 0.0
    likelihood: bool = False  # whether mean and spread are fitted together by likelihood, or the mean by squared error
    draw: tuple[int, int] = (0, 0)  # (seed, step), which alone decide the noise of sampled contexts

    @property
    def names(self) -> tuple[str, ...]:
        """Parts of the loss that the weights add."""
        return ("kl",) * (self.kl_weight > 0) + ("contrastive",) * (self.contrastive_weight > 0)


PREDICTION_ALONE = Objective()


class Tensors(NamedTuple):
    """A Batch on the device."""

    history: Tensor
    past_actions: Tensor
    planned_actions: Tensor
    features: Tensor
    rewards: Tensor | None
    weight: Tensor
    observed: Tensor


def to_device(batch: Batch, device: torch.device) -> Tensors:
    def move(array: Floats) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(array)).to(device)

    return Tensors(
        move(batch.history),
        move(batch.past_actions),
        move(batch.planned_actions),
        move(batch.features),
        None if batch.rewards is None else move(batch.rewards),
        move(batch.weight),
        move(batch.observed),
    )


def new_model(
    shape: Shape,
    packed: Packed,
    episodes: Ints,
    seed: int,
    device: torch.device,
    dropout: float = 0.0,
    held_out: Windows | None = None,
) -> WorldModel:
    """Seeded weights, with a ridge of the given train episodes as linear start.

    Of the ridges with and without the last change among their inputs, and of the ways in which they may fade outside of
    the train states, it is the one that does best on held-out windows; without those, the first of each.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = WorldModel(shape, dropout)
    features, actions = packed.each(packed.features, episodes), packed.each(packed.actions, episodes)
    model = model.to(device)
    motions = (True, False) if shape.motion_dim else (False,)
    ridges = linear_starts(features, actions, shape.state_dim, motions)
    starts = [replace(ridge, fading=fading) for ridge in ridges for fading in FADINGS]

    def error(start: LinearStart) -> float:
        model.start_from(start)
        return mean_error(model, held_out, device) if held_out is not None else math.inf

    model.start_from(min(starts, key=error))
    return model


def new_optimizer(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.AdamW(model.parameters(), betas=BETAS, weight_decay=WEIGHT_DECAY, fused=True)


def learning_rate(t: int, steps: int, peak: float) -> float:
    """Linear warm-up, the peak, then linearly down to nothing (arXiv 2405.18392)."""
    warm_up = min(WARM_UP, max(1, steps // 10))
    return peak * min(1.0, (t + 1) / warm_up, (steps - t) / (DECAY * steps))


def due(t: int, steps: int, looks: int) -> bool:
    """Whether step t of so many is followed by one of about so many looks at what is held out; the last one is."""
    return (t + 1) % max(1, steps // looks) == 0 or t + 1 == steps


def update(
    model: WorldModel,
    optimizer: torch.optim.Optimizer,
    batch: Tensors,
    rate: float,
    objective: Objective = PREDICTION_ALONE,
) -> dict[str, Tensor]:
    """One optimizer step; returns the parts of the loss before it."""
    loss, parts = whole_loss(model, batch, objective)
    descend(model, optimizer, loss, rate)
    return parts


def descend(model: nn.Module, optimizer: torch.optim.Optimizer, loss: Tensor, rate: float) -> None:
    """One step along the clipped gradient of the loss."""
    for group in optimizer.param_groups:
        group["lr"] = rate
    optimizer.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    nn.utils.clip_grad_norm_(model.parameters(), CLIP_NORM)
    optimizer.step()


def whole_loss(model: WorldModel, batch: Tensors, objective: Objective) -> tuple[Tensor, dict[str, Tensor]]:
    """The loss of the prediction, plus what is asked of the context: (to minimize, parts to look at).

    With a kl_weight the prediction starts from a sampled context, else from the encoder's answer.
    """
    posterior = model.posterior(batch.history, batch.past_actions) if objective.kl_weight else None
    if posterior is None:
        z = model.encode(batch.history, batch.past_actions)
    else:
        z = posterior.sample(noise_like(posterior.mean, objective.draw))
    prediction = model.predict(z, batch.planned_actions, joint=objective.likelihood)
    prediction = spread_by(batch.observed, prediction)
    loss, parts = world_model_loss(prediction, batch.features, batch.rewards, batch.weight, objective.likelihood)
    if posterior is not None:
        nats = kl_to_standard_normal(posterior.mean, posterior.log_variance, batch.weight)
        loss, parts = loss + objective.kl_weight * nats, parts | {"kl": nats.detach()}
    if objective.contrastive_weight:
        nats = _contrast(model, z, batch)
        loss, parts = loss + objective.contrastive_weight * nats, parts | {"contrastive": nats.detach()}
    return loss, parts


def noise_like(tensor: Tensor, draw: tuple[int, int]) -> Tensor:
    """Standard normal, a pure function of `draw`: NumPy's own, which is the same on every device."""
    seed, step = draw
    noise = np.random.default_rng([seed, NOISE, step]).standard_normal(tuple(tensor.shape), np.float32)
    return torch.from_numpy(noise).to(tensor.device)


def _contrast(model: WorldModel, z: Tensor, batch: Tensors) -> Tensor:
    """The context of each window's history against that of the last history it holds, among those of the batch.

    Two crops of one trajectory are the positives, as in arXiv 2103.06386 (there for tasks, here for agents): what
    tells them from other windows is what persists, such as a hidden mass. z rolled to the second crop along the actions
    (arXiv 1811.06407) was tried instead: it tells windows apart by state and actions, and forgets what the agent is
    (docs/results.md). The crops share no frame where the horizon is at least the history. One more encoder call.
    """
    context, history = -model.shape.context_dim, model.shape.history
    features = torch.cat([batch.history, batch.features], dim=1)[:, -history:]
    moves = torch.cat([batch.past_actions, batch.planned_actions], dim=1)
    later = model.encode(features, moves[:, moves.shape[1] - (history - 1) :])
    return info_nce(z[:, context:], later[:, context:], batch.weight[:, -1])


def predictions(model: nn.Module, windows: Windows, device: torch.device) -> Iterator[tuple[Tensors, Prediction]]:
    """All windows in order, without gradients, of a WorldModel or of what is called as one."""
    model.eval()
    with torch.no_grad():
        for begin in range(0, len(windows), EVALUATION_BATCH):
            batch = to_device(windows.take(np.arange(begin, min(begin + EVALUATION_BATCH, len(windows)))), device)
            yield batch, model(batch.history, batch.past_actions, batch.planned_actions)
    model.train()


def thinned(windows: Windows) -> Windows:
    """About SELECTION_WINDOWS of them, evenly spaced."""
    return windows.every(max(1, len(windows) // SELECTION_WINDOWS))


def mean_error(model: nn.Module, windows: Windows, device: torch.device) -> float:
    """Open-loop mean squared error over all frames, standardized units; infinite without windows."""
    if not len(windows):
        return math.inf
    total, weight = 0.0, 0.0
    for batch, prediction in predictions(model, windows, device):
        squared = (prediction.features - batch.features).square().mean(-1) * batch.weight
        total, weight = total + float(squared.double().sum()), weight + float(batch.weight.sum())
    return total / weight


@dataclass(frozen=True)
class Selected:
    """The best weights so far by error on held-out windows; the linear start takes part, so none does worse.

    Without held-out windows the latest weights are the best ones.
    """

    step: int
    error: float  # standardized units squared; infinite where nothing is held out
    weights: dict[str, Tensor]

    @staticmethod
    def at(model: nn.Module, windows: Windows, step: int, device: torch.device) -> "Selected":
        return Selected(step, mean_error(model, windows, device), copy.deepcopy(model.state_dict()))

    def or_better(self, other: "Selected") -> "Selected":
        return other if other.error <= self.error else self


def choose_fading(model: WorldModel, windows: Windows, device: torch.device) -> float:
    """Give a trained model the fading that does best on held-out windows, and answer that error.

    It was chosen for ridge; what training adds is often right farther out. Without windows it stays.
    """
    if not len(windows):
        return math.inf

    def error(fading: float) -> float:
        model.fading.fill_(fading)
        return mean_error(model, windows, device)

    errors = {fading: error(fading) for fading in FADINGS}
    best = min(errors, key=errors.__getitem__)
    model.fading.fill_(best)
    return errors[best]


def calibrate(model: WorldModel, windows: Windows, device: torch.device) -> None:
    """One multiplier of the std for each frame of the horizon: 90 % intervals then hold 90 % of the given windows."""
    if not len(windows):
        return
    ratios, weights = [], []
    for batch, prediction in predictions(model, windows, device):
        ratios.append(((batch.features - prediction.features).abs() * (-prediction.log_std).exp()).cpu().numpy())
        weights.append(batch.weight.cpu().numpy() > 0)
    ratio, exists = np.concatenate(ratios), np.concatenate(weights)
    for step in range(ratio.shape[1]):
        if exists[:, step].any():
            reached = float(np.quantile(ratio[exists[:, step], step], 0.9))
            model.log_std_offset[step] += math.log(max(reached, 1e-3) / NORMAL_90)
