"""The optimizer, its learning rate and one step of it. Callers own the loops."""

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from worldmodel.model.objective import PREDICTION_ALONE, Objective, total_loss
from worldmodel.model.tensors import Tensors
from worldmodel.model.world_model import WorldModel

WEIGHT_DECAY = 1e-4
BETAS = (0.9, 0.95)  # of AdamW; a longer memory lets a good model run away (docs/notebook.md, a shorter memory)
CLIP_NORM = 1.0
WARM_UP = 100  # steps, and at most a tenth of all
DECAY = 0.4  # share of the steps, the last ones, over which the learning rate goes down


def new_optimizer(model: nn.Module) -> Optimizer:
    return torch.optim.AdamW(model.parameters(), betas=BETAS, weight_decay=WEIGHT_DECAY, fused=True)


def learning_rate(t: int, steps: int, peak: float) -> float:
    """Of step t: linear warm-up, the peak, then linearly down to nothing (arXiv 2405.18392)."""
    warm_up = min(WARM_UP, max(1, steps // 10))
    return peak * min(1.0, (t + 1) / warm_up, (steps - t) / (DECAY * steps))


def should_evaluate(t: int, steps: int, evaluations: int) -> bool:
    """Whether an evaluation follows step t: about so many in all, evenly spaced, one after the last step."""
    return (t + 1) % max(1, steps // evaluations) == 0 or t + 1 == steps


def train_step(
    model: WorldModel, optimizer: Optimizer, batch: Tensors, rate: float, objective: Objective = PREDICTION_ALONE
) -> dict[str, Tensor]:
    """One optimizer step; returns the parts of the loss before it."""
    loss, parts = total_loss(model, batch, objective)
    optimizer_step(model, optimizer, loss, rate)
    return parts


def optimizer_step(model: nn.Module, optimizer: Optimizer, loss: Tensor, rate: float) -> None:
    """One step along the clipped gradient of the loss."""
    optimizer.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    descend(model, optimizer, rate)


def descend(model: nn.Module, optimizer: Optimizer, rate: float) -> None:
    """One step along the gradient that the parameters hold, clipped."""
    for group in optimizer.param_groups:
        group["lr"] = rate
    nn.utils.clip_grad_norm_(model.parameters(), CLIP_NORM)
    optimizer.step()
