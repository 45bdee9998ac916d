"""ADMPO's any-step dynamics: a state and k actions become the state k frames later, in one go (arXiv 2405.17031).

A GRU reads the k actions, each beside the same state; heads give the change since that state. Training takes every k
up to the horizon at once, which is the expectation over the paper's random k. No forecast is ever fed back.
"""

from typing import ClassVar

import torch
from torch import Tensor, nn

from peers.peer import Peer, Sizes, gaussian_nats
from worldmodel.learner import Tensors
from worldmodel.losses import weighted_mean

HIDDEN = 256
LOG_VARIANCE = (-10.0, 2.0)


class Admpo(Peer):
    lr: ClassVar[float] = 1e-3

    def __init__(self, sizes: Sizes, change_mean: Tensor, change_std: Tensor) -> None:
        super().__init__(sizes, change_mean, change_std)
        self.enter = nn.Sequential(nn.Linear(sizes.features + sizes.actions, HIDDEN), nn.SiLU())
        self.gru = nn.GRU(HIDDEN, HIDDEN, batch_first=True)
        self.leave = nn.Sequential(nn.Linear(2 * HIDDEN, HIDDEN), nn.SiLU(), nn.Linear(HIDDEN, HIDDEN), nn.SiLU())
        self.mean, self.log_variance = nn.Linear(HIDDEN, sizes.features), nn.Linear(HIDDEN, sizes.features)

    def forward(self, state: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
        """[B, F], [B, K, A] -> mean and log variance of the states 1..K frames later, [B, K, F]"""
        repeated = state[:, None].expand(-1, actions.shape[1], -1)
        inputs = self.enter(torch.cat([repeated, actions], dim=-1))
        hidden = self.leave(torch.cat([self.gru(inputs)[0], inputs], dim=-1))
        return repeated + self.mean(hidden), self.log_variance(hidden).clamp(*LOG_VARIANCE)

    def loss(self, batch: Tensors) -> Tensor:
        mean, log_variance = self(batch.history[:, -1], batch.planned_actions)
        return weighted_mean(gaussian_nats(batch.features - mean, log_variance), batch.weight)

    def predict(self, batch: Tensors) -> Tensor:
        mean: Tensor = self(batch.history[:, -1], batch.planned_actions)[0]
        return mean
