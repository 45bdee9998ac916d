"""The world model without fused kernels and without batching over the horizon: what bench.py compares it with.

The same function and the same loss: the GRU is a cell called once a frame, normalization and activation are spelled out
as arithmetic, and every frame of the horizon has its own heads and its own loss. Dimension key as in world_model.py.
"""

import copy
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from worldmodel.model.losses import learn_from_observed, world_model_loss
from worldmodel.model.optimization import BETAS, CLIP_NORM, WEIGHT_DECAY
from worldmodel.model.tensors import Tensors
from worldmodel.model.world_model import Prediction, WorldModel


class LayerNorm(nn.LayerNorm):
    def forward(self, input: Tensor) -> Tensor:
        centered = input - input.mean(-1, keepdim=True)
        variance = centered.square().mean(-1, keepdim=True)
        return centered / (variance + self.eps).sqrt() * self.weight + self.bias


class SiLU(nn.SiLU):
    def forward(self, input: Tensor) -> Tensor:
        return input * (1 / (1 + (-input).exp()))


class Gru(nn.Module):
    """One layer, a cell called frame by frame; parameters in the order of nn.GRU's."""

    def __init__(self, gru: nn.GRU) -> None:
        super().__init__()
        self.cell = nn.GRUCell(gru.input_size, gru.hidden_size)
        for own, parameter in zip(self.cell.parameters(), gru.parameters(), strict=True):
            own.data = parameter.data

    def forward(self, frames: Tensor) -> tuple[None, Tensor]:
        hidden = frames.new_zeros(len(frames), self.cell.hidden_size)
        for frame in frames.unbind(1):
            hidden = self.cell(frame, hidden)
        return None, hidden[None]


class Unfused(nn.Module):
    """With weights of its own, as the given model has them now, in the same order."""

    def __init__(self, model: WorldModel) -> None:
        super().__init__()
        self.model = copy.deepcopy(model)
        for parent in list(self.model.modules()):
            for name, child in parent.named_children():
                parent.register_module(name, _spelled_out(child))

    def frames(self, batch: Tensors, likelihood: bool) -> Iterator[Prediction]:
        """One frame of the horizon after the other, [B, 1, ...]."""
        model, stepped = self.model, dict[str, Tensor]()
        z = model.encode(batch.history, batch.past_actions)

        def step(z: Tensor, action: Tensor) -> tuple[Tensor, Tensor]:
            stepped["z"], hidden = WorldModel.step(model, z, action)
            return stepped["z"], hidden

        model.step = step  # type: ignore[method-assign]  # `predict` then says where it has stepped to
        for action in batch.planned_actions.unbind(1):
            yield model.predict(z, action[:, None], joint=likelihood)
            z = stepped["z"]

    def loss(self, batch: Tensors, likelihood: bool = False) -> Tensor:
        """What total_loss minimizes, added up frame by frame."""
        total = batch.weight.new_zeros(())
        for k, frame in enumerate(self.frames(batch, likelihood)):
            features, weight = batch.features[:, k : k + 1], batch.weight[:, k : k + 1]
            rewards = None if batch.rewards is None else batch.rewards[:, k : k + 1]
            loss, _ = world_model_loss(
                learn_from_observed(frame, batch.observed), features, rewards, weight, likelihood
            )
            total = total + loss * weight.sum()
        return total / batch.weight.sum().clamp(min=torch.finfo(torch.float32).tiny)

    def new_optimizer(self, rate: float) -> torch.optim.Optimizer:
        """AdamW that takes one parameter at a time."""
        return torch.optim.AdamW(
            self.parameters(), lr=rate, betas=BETAS, weight_decay=WEIGHT_DECAY, foreach=False, fused=False
        )

    def update(self, optimizer: torch.optim.Optimizer, batch: Tensors, likelihood: bool) -> None:
        loss = self.loss(batch, likelihood)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.parameters(), CLIP_NORM)
        optimizer.step()


def _spelled_out(module: nn.Module) -> nn.Module:
    if isinstance(module, nn.LayerNorm):
        module.__class__ = LayerNorm
    elif isinstance(module, nn.SiLU):
        module.__class__ = SiLU
    elif isinstance(module, nn.GRU):
        return Gru(module)
    return module
