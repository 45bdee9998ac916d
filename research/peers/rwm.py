"""RWM, the Robotic World Model: a GRU that is trained on its own forecasts (Li et al. 2025, arXiv 2501.10100).

Dual-autoregressive: the inner loop takes in the history frame by frame, the outer one feeds every forecast back in, in
training as in use. A head gives the change; forecasts of all frames weigh the same, as the paper's decay of 1 and the
published code have it. There 32 frames of history and 8 of forecasts, here what the others get. Squared error of the
mean: the published code takes that of a draw around it, and a Gaussian likelihood errs a sixth more here.
"""

from typing import ClassVar

import torch
from torch import Tensor, nn

from research.peers.peer import Peer, Sizes
from worldmodel.model.losses import squared_error
from worldmodel.model.tensors import Tensors

HIDDEN = 256
LAYERS = 2
HEAD = 128


class Rwm(Peer):
    lr: ClassVar[float] = 1e-3  # the paper's 1e-4 is for hours of training
    weight_decay: ClassVar[float] = 1e-5

    def __init__(self, sizes: Sizes, change_mean: Tensor, change_std: Tensor) -> None:
        super().__init__(sizes, change_mean, change_std)
        self.gru = nn.GRU(sizes.features + sizes.actions, HIDDEN, LAYERS, batch_first=True)
        self.change = nn.Sequential(nn.Linear(HIDDEN, HEAD), nn.ELU(), nn.Linear(HEAD, sizes.features))

    def predict(self, batch: Tensors) -> Tensor:
        seen = torch.cat([batch.history[:, :-1], batch.past_actions], dim=-1)
        memory = self.gru(seen)[1] if seen.shape[1] else None
        state, frames = batch.history[:, -1], []
        for action in batch.planned_actions.unbind(1):
            output, memory = self.gru(torch.cat([state, action], dim=-1)[:, None], memory)
            state = state + self.change_mean + self.change_std * self.change(output[:, 0])
            frames.append(state)
        return torch.stack(frames, dim=1)

    def loss(self, batch: Tensors) -> Tensor:
        return squared_error(self.predict(batch), batch.features, batch.weight)
