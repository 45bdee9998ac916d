"""PETS: an ensemble of probabilistic one-step networks (Chua et al. 2018, arXiv 1805.12114).

Sizes, bounds and weight decay are the defaults of mbrl-lib (Pineda et al. 2021, arXiv 2104.10159). A rollout feeds
each member its own mean, all the way, and the prediction is the mean of the members' trajectories.
"""

from itertools import pairwise
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from research.peers.peer import Peer, Sizes, gaussian_nats
from worldmodel.model.losses import weighted_mean
from worldmodel.model.tensors import Tensors

MEMBERS = 7
HIDDEN = 200
HIDDEN_LAYERS = 4
TRANSITIONS = 256  # a member and update
LOG_VARIANCE = (-10.0, 0.5)  # where its learned bounds start
BOUND_PENALTY = 0.01  # of the distance between them


class Pets(Peer):
    lr: ClassVar[float] = 1e-3
    weight_decay: ClassVar[float] = 5e-5
    batch_size: ClassVar[int] = MEMBERS * TRANSITIONS
    single_transitions: ClassVar[bool] = True

    def __init__(self, sizes: Sizes, change_mean: Tensor, change_std: Tensor) -> None:
        super().__init__(sizes, change_mean, change_std)
        widths = [sizes.features + sizes.actions, *[HIDDEN] * HIDDEN_LAYERS, 2 * sizes.features]
        self.layers = nn.ModuleList(MemberLinear(inputs, outputs) for inputs, outputs in pairwise(widths))
        self.lowest = nn.Parameter(torch.full((sizes.features,), LOG_VARIANCE[0]))
        self.highest = nn.Parameter(torch.full((sizes.features,), LOG_VARIANCE[1]))

    def new_optimizer(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=self.lr, weight_decay=self.weight_decay, fused=True)

    def forward(self, state: Tensor, action: Tensor) -> tuple[Tensor, Tensor]:
        """[M, B, F], [M, B, A] -> mean and log variance of the normalized change, [M, B, F]"""
        hidden = torch.cat([state, action], dim=-1)
        for layer in self.layers[:-1]:
            hidden = F.silu(layer(hidden))
        mean, log_variance = self.layers[-1](hidden).chunk(2, dim=-1)
        log_variance = self.highest - F.softplus(self.highest - log_variance)
        return mean, self.lowest + F.softplus(log_variance - self.lowest)

    def loss(self, batch: Tensors) -> Tensor:
        """Each member gets its own share of shuffled transitions: windows of two frames."""
        state, action, after, weight = (
            tensor.reshape(MEMBERS, len(tensor) // MEMBERS, *tensor.shape[1:])
            for tensor in (batch.history[:, -1], batch.planned_actions[:, 0], batch.features[:, 0], batch.weight[:, 0])
        )
        mean, log_variance = self(state, action)
        target = (after - state - self.change_mean) / self.change_std
        nats = MEMBERS * weighted_mean(gaussian_nats(target - mean, log_variance), weight)
        return nats + BOUND_PENALTY * (self.highest - self.lowest).sum()

    def predict(self, batch: Tensors) -> Tensor:
        state, frames = batch.history[:, -1].expand(MEMBERS, -1, -1), []
        for action in batch.planned_actions.unbind(1):
            mean, _ = self(state, action.expand(MEMBERS, -1, -1))
            state = state + self.change_mean + self.change_std * mean
            frames.append(state.mean(dim=0))
        return torch.stack(frames, dim=1)


class MemberLinear(nn.Module):
    """One linear layer a member: [M, B, I] -> [M, B, O]"""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(MEMBERS, inputs, outputs))
        self.bias = nn.Parameter(torch.zeros(MEMBERS, 1, outputs))
        std = 1 / (2 * inputs**0.5)
        nn.init.trunc_normal_(self.weight, std=std, a=-2 * std, b=2 * std)

    def forward(self, inputs: Tensor) -> Tensor:
        return torch.baddbmm(self.bias, inputs, self.weight)
