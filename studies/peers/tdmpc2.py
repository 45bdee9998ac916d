"""TD-MPC2's latent dynamics (Hansen et al. 2023, arXiv 2310.16828), without its values and policy.

An encoder of the stacked history and an MLP dynamics share a latent of simplices (SimNorm); the rolled latent is drawn
to the encoding of what really came, which gets no gradient. There is no decoder in the paper: a probe that sends no
gradient back reads features out.
"""

from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from peers.peer import Peer, Sizes, frames_of, moves_of
from worldmodel.learning.learner import Tensors
from worldmodel.learning.losses import weighted_mean

LATENT = 256  # 512 and HIDDEN 512, the paper's, make a third of the updates of the same time
SIMPLEX = 8  # units that share a softmax
ENCODER = 256
HIDDEN = 256
RHO = 0.5  # decay of a frame's weight
CONSISTENCY, REWARD = 20.0, 0.1  # weights of the losses
ENCODER_LR = 0.3  # of the learning rate


class TdMpc2(Peer):
    lr: ClassVar[float] = 1e-3
    clip_norm: ClassVar[float] = 20.0

    def __init__(self, sizes: Sizes, change_mean: Tensor, change_std: Tensor) -> None:
        super().__init__(sizes, change_mean, change_std)
        stacked = sizes.history * sizes.features + (sizes.history - 1) * sizes.actions
        self.encoder = nn.Sequential(*layer(stacked, ENCODER), *simplices(ENCODER))
        moved = LATENT + sizes.actions
        self.dynamics = nn.Sequential(*layer(moved, HIDDEN), *layer(HIDDEN, HIDDEN), *simplices(HIDDEN))
        self.reward = nn.Sequential(*layer(moved, HIDDEN), *layer(HIDDEN, HIDDEN), nn.Linear(HIDDEN, 1))
        self.probe = nn.Sequential(*layer(LATENT, HIDDEN), *layer(HIDDEN, HIDDEN), nn.Linear(HIDDEN, sizes.features))

    def new_optimizer(self) -> torch.optim.Optimizer:
        others = [parameter for name, parameter in self.named_parameters() if not name.startswith("encoder")]
        groups: list[dict[str, Any]] = [
            {"params": list(self.encoder.parameters()), "lr": ENCODER_LR * self.lr},
            {"params": others},
        ]
        return torch.optim.Adam(groups, lr=self.lr, fused=True)

    def encode(self, frames: Tensor, moves: Tensor) -> Tensor:
        """[..., H, F], [..., H - 1, A] -> [..., Z]"""
        latent: Tensor = self.encoder(torch.cat([frames.flatten(-2), moves.flatten(-2)], dim=-1))
        return latent

    def roll(self, batch: Tensors) -> tuple[Tensor, Tensor]:
        """Latents after each planned action [B, K, Z], and what went into each step [B, K, Z + A]."""
        latent = self.encode(batch.history, batch.past_actions)
        latents, inputs = [], []
        for action in batch.planned_actions.unbind(1):
            inputs.append(torch.cat([latent, action], dim=-1))
            latent = self.dynamics(inputs[-1])
            latents.append(latent)
        return torch.stack(latents, dim=1), torch.stack(inputs, dim=1)

    def loss(self, batch: Tensors) -> Tensor:
        latents, inputs = self.roll(batch)
        with torch.no_grad():
            reached = self._encodings(batch)
        decay = batch.weight * RHO ** torch.arange(batch.weight.shape[1])
        loss = CONSISTENCY * weighted_mean((latents - reached).square(), decay)
        if batch.rewards is not None:
            told = self.reward(inputs)[..., 0]
            loss = loss + REWARD * weighted_mean((told - batch.rewards).square(), decay)
        read = [self.probe(latents.detach()), self.probe(reached)]
        return loss + sum(weighted_mean((each - batch.features).square(), batch.weight) for each in read)

    def predict(self, batch: Tensors) -> Tensor:
        features: Tensor = self.probe(self.roll(batch)[0])
        return features

    def _encodings(self, batch: Tensors) -> Tensor:
        """Of the histories that end at each frame of the horizon, [B, K, Z]"""
        history = self.sizes.history
        frames, moves = frames_of(batch)[:, 1:], moves_of(batch)[:, 1:]
        ends = range(history, frames.shape[1] + 1)
        stacked = torch.stack([frames[:, end - history : end] for end in ends], dim=1)
        between = torch.stack([moves[:, end - history : end - 1] for end in ends], dim=1)
        return self.encode(stacked, between)


class SimNorm(nn.Module):
    """Softmax within groups of SIMPLEX units."""

    def forward(self, inputs: Tensor) -> Tensor:
        return inputs.reshape(*inputs.shape[:-1], -1, SIMPLEX).softmax(-1).flatten(-2)


def layer(inputs: int, outputs: int) -> list[nn.Module]:
    return [nn.Linear(inputs, outputs), nn.LayerNorm(outputs), nn.Mish()]


def simplices(inputs: int) -> list[nn.Module]:
    return [nn.Linear(inputs, LATENT), nn.LayerNorm(LATENT), SimNorm()]
