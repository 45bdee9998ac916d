"""ADMPO's any-step dynamics: a state and k actions become the state k frames later, in one go (arXiv 2405.17031).

A GRU reads the k actions, each beside the same state; a head gives the change since that state. Training takes every k
up to the horizon at once, which is the expectation over the paper's random k. No forecast is ever fed back. Squared
error in place of the paper's Gaussian likelihood: its mean errs less.
"""

from typing import ClassVar

import torch
from torch import Tensor, nn

from research.peers.peer import Peer, Sizes
from worldmodel.model.losses import squared_error
from worldmodel.model.tensors import Tensors

HIDDEN = 256


class Admpo(Peer):
    lr: ClassVar[float] = 1e-3

    def __init__(self, sizes: Sizes, change_mean: Tensor, change_std: Tensor) -> None:
        super().__init__(sizes, change_mean, change_std)
        self.enter = nn.Sequential(nn.Linear(sizes.features + sizes.actions, HIDDEN), nn.SiLU())
        self.gru = nn.GRU(HIDDEN, HIDDEN, batch_first=True)
        self.leave = nn.Sequential(nn.Linear(2 * HIDDEN, HIDDEN), nn.SiLU(), nn.Linear(HIDDEN, HIDDEN), nn.SiLU())
        self.change = nn.Linear(HIDDEN, sizes.features)

    def forward(self, state: Tensor, actions: Tensor) -> Tensor:
        """[B, F], [B, K, A] -> the states 1..K frames later, [B, K, F]"""
        repeated = state[:, None].expand(-1, actions.shape[1], -1)
        inputs = self.enter(torch.cat([repeated, actions], dim=-1))
        hidden = self.leave(torch.cat([self.gru(inputs)[0], inputs], dim=-1))
        states: Tensor = repeated + self.change(hidden)
        return states

    def loss(self, batch: Tensors) -> Tensor:
        return squared_error(self.predict(batch), batch.features, batch.weight)

    def predict(self, batch: Tensors) -> Tensor:
        predicted: Tensor = self(batch.history[:, -1], batch.planned_actions)
        return predicted
