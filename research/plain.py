"""The world model as one writes it first: the same function and the same loss, a module call for every frame and head.

What is plain: the GRU is a cell called once a frame; the horizon is a Python loop, in which every step concatenates
its inputs anew, calls every head and adds up its own loss; AdamW takes one parameter at a time. It uses what PyTorch
offers as modules (nn.GRUCell, nn.LayerNorm, nn.SiLU), and it is fed from one batch that is already on the device: all
that it lacks is batching over the horizon and fused updates. `written_out` goes on to a network without fused kernels:
normalization and activation are spelled out as arithmetic.

Dimension key as in worldmodel/model.py.
"""

import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn

from worldmodel.model.optimization import BETAS, CLIP_NORM, WEIGHT_DECAY
from worldmodel.model.shape import Shape
from worldmodel.model.tensors import Tensors
from worldmodel.model.world_model import LOG_STD_RANGE, WorldModel


class Frame(NamedTuple):
    """One predicted frame."""

    features: Tensor  # [B, F]
    log_std: Tensor  # [B, F]
    reward: Tensor | None  # [B]


class WrittenLayerNorm(nn.LayerNorm):
    """nn.LayerNorm, spelled out."""

    def forward(self, input: Tensor) -> Tensor:
        centered = input - input.mean(-1, keepdim=True)
        variance = centered.square().mean(-1, keepdim=True)
        return centered / (variance + self.eps).sqrt() * self.weight + self.bias


class WrittenSiLU(nn.SiLU):
    """nn.SiLU, spelled out."""

    def forward(self, input: Tensor) -> Tensor:
        return input * (1 / (1 + (-input).exp()))


class PlainWorldModel(nn.Module):
    """Same parameters as a WorldModel with a GRU encoder; the GRU's have the names of nn.GRUCell."""

    delta_std: Tensor
    train_min: Tensor
    train_max: Tensor
    sensor_min: Tensor
    sensor_max: Tensor
    damping: Tensor
    log_std_offset: Tensor

    def __init__(self, shape: Shape, written_out: bool = False) -> None:
        super().__init__()
        assert shape.encoder == "gru"
        assert not shape.context_spread
        norm, activation = (WrittenLayerNorm, WrittenSiLU) if written_out else (nn.LayerNorm, nn.SiLU)
        self.shape, state, hidden = shape, shape.state_dim, shape.hidden_dim
        narrow = state < shape.features
        self.register_buffer("delta_std", torch.ones(state))
        self.register_buffer("train_min", torch.zeros(state))
        self.register_buffer("train_max", torch.zeros(state))
        self.register_buffer("sensor_min", torch.zeros(state))
        self.register_buffer("sensor_max", torch.zeros(state))
        self.register_buffer("damping", torch.zeros(()))
        self.register_buffer("log_std_offset", torch.zeros(shape.horizon))
        self.cell = nn.GRUCell(shape.features + shape.actions, shape.encoder_dim)
        self.head = nn.Linear(shape.encoder_dim, shape.context_dim)
        self.project = nn.Linear(shape.features, state, bias=False) if narrow else nn.Identity()
        self.unproject = nn.Linear(state, shape.features, bias=False) if narrow else nn.Identity()
        self.linear = nn.Linear(state + shape.velocity_dim + shape.actions, state)
        self.input_layer = nn.Sequential(nn.Linear(shape.z_dim + shape.actions, hidden), norm(hidden), activation())
        self.hidden_layer = nn.Sequential(nn.Linear(hidden, hidden), norm(hidden), activation())
        self.change = nn.Linear(hidden, state + shape.context_dim)
        self.log_std_head = nn.Linear(hidden, shape.features)
        self.reward = nn.Linear(hidden + state, 1) if shape.rewards else None

    @staticmethod
    def like(model: WorldModel, written_out: bool = False) -> "PlainWorldModel":
        """With the model's weights, on its device."""
        plain = PlainWorldModel(model.shape, written_out)
        plain.load_state_dict({plain_name(name): tensor for name, tensor in model.state_dict().items()})
        return plain.to(model.delta_std.device)

    def encode(self, features: Tensor, actions: Tensor) -> Tensor:
        """features [B, H, F], actions [B, H-1, A] between them -> z [B, Z]"""
        hidden = features.new_zeros(len(features), self.cell.hidden_size)
        action = features.new_zeros(len(features), actions.shape[-1])
        for t in range(features.shape[1]):
            if t > 0:
                action = actions[:, t - 1]
            hidden = self.cell(torch.cat([features[:, t], action], dim=-1), hidden)
        known = [self.project(features[:, -1])]
        if self.shape.velocity_dim:
            change, moves = known[0] - self.project(features[:, -2]), self.delta_std > 0
            known.append(torch.where(moves, change / torch.where(moves, self.delta_std, 1.0), 0.0))
        return torch.cat([*known, torch.tanh(self.head(hidden))], dim=-1)

    def forward(
        self, features: Tensor, past_actions: Tensor, planned_actions: Tensor, joint: bool = False
    ) -> Iterator[Frame]:
        """History and plan [B, K, A] -> one frame after the other; `joint`: the spread has a say in what is hidden."""
        z, dim = self.encode(features, past_actions), self.shape.state_dim
        known = dim + self.shape.velocity_dim
        for k in range(planned_actions.shape[1]):
            action = planned_actions[:, k]
            hidden = self.hidden_layer(self.input_layer(torch.cat([z, action], dim=-1)))
            change = self.change(hidden)
            motion = self.linear(torch.cat([z[:, :known], action], dim=-1)) + change[:, :dim]
            read = z[:, :dim].clamp(self.sensor_min, self.sensor_max)
            outside = read.detach() - read.detach().clamp(self.train_min, self.train_max)
            motion = motion / (1 + self.damping * (outside * outside).sum(-1, keepdim=True))
            state, context = read + self.delta_std * motion, z[:, known:] + change[:, dim:]
            z = torch.cat([state, motion, context] if self.shape.velocity_dim else [state, context], dim=-1)
            log_std = (
                self.log_std_head(hidden if joint else hidden.detach()).clamp(*LOG_STD_RANGE) + self.log_std_offset[k]
            )
            reward = None if self.reward is None else self.reward(torch.cat([hidden, state], dim=-1)).squeeze(-1)
            yield Frame(self.unproject(state.clamp(self.sensor_min, self.sensor_max)), log_std, reward)

    def loss(self, batch: Tensors, likelihood: bool = False) -> Tensor:
        """What total_loss minimizes, added up frame by frame."""
        total = batch.weight.new_zeros(())
        frames = self(batch.history, batch.past_actions, batch.planned_actions, likelihood)
        for k, frame in enumerate(frames):
            error = batch.features[:, k] - frame.features
            log_std = torch.where(batch.observed[:, None] > 0, frame.log_std, frame.log_std.detach())
            scaled = (error if likelihood else error.detach()) * (-log_std).exp()
            nats = 0.5 * scaled.square() + log_std + 0.5 * math.log(2 * math.pi)
            each = nats.mean(-1) if likelihood else error.square().mean(-1) + nats.mean(-1)
            if frame.reward is not None and batch.rewards is not None:
                each = each + (frame.reward - batch.rewards[:, k]).square() / batch.features.shape[-1]
            total = total + (each * batch.weight[:, k]).sum()
        return total / batch.weight.sum().clamp(min=torch.finfo(torch.float32).tiny)


def plain_name(name: str) -> str:
    """What a WorldModel's parameter is called here."""
    return name.replace("encoder.gru", "cell").replace("_l0", "").replace("encoder.head", "head")


def plain_optimizer(model: PlainWorldModel, rate: float) -> torch.optim.Optimizer:
    return torch.optim.AdamW(
        model.parameters(), lr=rate, betas=BETAS, weight_decay=WEIGHT_DECAY, foreach=False, fused=False
    )


def plain_update(model: PlainWorldModel, optimizer: torch.optim.Optimizer, batch: Tensors, likelihood: bool) -> None:
    """One optimizer step."""
    loss = model.loss(batch, likelihood)
    optimizer.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP_NORM)
    optimizer.step()
