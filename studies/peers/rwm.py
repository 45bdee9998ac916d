"""RWM, the Robotic World Model: a GRU that is trained on its own forecasts (Li et al. 2025, arXiv 2501.10100).

Dual-autoregressive: the inner loop takes in the history frame by frame, the outer one feeds every forecast back in, in
training as in use. Heads give mean and std of the change; forecasts of all frames weigh the same, as the paper's decay
of 1 and the published code have it. There 32 frames of history and 8 of forecasts, here what the others get.
"""

from typing import ClassVar

import torch
from torch import Tensor, nn

from peers.peer import Peer, Sizes, gaussian_nats
from worldmodel.learning.learner import Tensors
from worldmodel.learning.losses import weighted_mean

HIDDEN = 256
LAYERS = 2
HEAD = 128
LOG_STD = (-5.0, 2.0)  # of the normalized change


class Rwm(Peer):
    lr: ClassVar[float] = 1e-3  # the paper's 1e-4 is for hours of training
    weight_decay: ClassVar[float] = 1e-5

    def __init__(self, sizes: Sizes, change_mean: Tensor, change_std: Tensor) -> None:
        super().__init__(sizes, change_mean, change_std)
        self.gru = nn.GRU(sizes.features + sizes.actions, HIDDEN, LAYERS, batch_first=True)
        self.mean, self.log_std = head(sizes.features), head(sizes.features)

    def forecast(self, batch: Tensors) -> tuple[Tensor, Tensor]:
        """Means [B, K, F], and log variances of a frame given the frame before."""
        seen = torch.cat([batch.history[:, :-1], batch.past_actions], dim=-1)
        memory = self.gru(seen)[1] if seen.shape[1] else None
        state, frames, log_variances = batch.history[:, -1], [], []
        for action in batch.planned_actions.unbind(1):
            output, memory = self.gru(torch.cat([state, action], dim=-1)[:, None], memory)
            state = state + self.change_mean + self.change_std * self.mean(output[:, 0])
            frames.append(state)
            log_variances.append(2 * (self.log_std(output[:, 0]).clamp(*LOG_STD) + self.change_std.log()))
        return torch.stack(frames, dim=1), torch.stack(log_variances, dim=1)

    def loss(self, batch: Tensors) -> Tensor:
        forecast, log_variance = self.forecast(batch)
        return weighted_mean(gaussian_nats(batch.features - forecast, log_variance), batch.weight)

    def predict(self, batch: Tensors) -> Tensor:
        return self.forecast(batch)[0]


def head(outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(HIDDEN, HEAD), nn.ELU(), nn.Linear(HEAD, outputs))
