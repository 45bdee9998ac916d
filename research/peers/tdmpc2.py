"""TD-MPC2's latent dynamics (Hansen et al. 2023, arXiv 2310.16828), without its rewards, values and policy.

An encoder and an MLP dynamics share a latent of simplices (SimNorm); the rolled latent is drawn to the encoding of what
really came, which gets no gradient. As published: layers with LayerNorm and Mish, a second encoder layer into the
latent, weight 20 on consistency, 0.3 of the learning rate for the encoder, gradients clipped at 20. What differs, each
because it errs less on val episodes here, is named at its constant; and there is a decoder, which the paper has not: it
reads the change since the last frame out of a rolled latent, and its gradient shapes the latent.
"""

from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from research.peers.peer import Peer, Sizes, actions_of, frames_of
from worldmodel.model.losses import squared_error, weighted_mean
from worldmodel.model.tensors import Tensors

LATENT = 256  # 512 and HIDDEN 512, the paper's, make a third of the updates of the same time
SIMPLEX = 8  # units that share a softmax
ENCODER = 256
HIDDEN = 256
RHO = 0.9  # decay of a frame's weight; the paper's 0.5 is for 3 frames
CONSISTENCY = 20.0  # weight of the loss
DECODED = 5.0  # weight of the decoder's; 1 errs more
ENCODER_LR = 0.3  # of the learning rate


class TdMpc2(Peer):
    lr: ClassVar[float] = 1e-3  # the paper's 3e-4 is for hours of training
    clip_norm: ClassVar[float] = 20.0
    batch_size: ClassVar[int] = 32  # 64 errs more after the same time

    def __init__(self, sizes: Sizes, change_mean: Tensor, change_std: Tensor) -> None:
        super().__init__(sizes, change_mean, change_std)
        seen = sizes.features if sizes.history == 1 else 2 * sizes.features + sizes.actions
        self.encoder = nn.Sequential(*layer(seen, ENCODER), *simplices(ENCODER))
        self.dynamics = nn.Sequential(
            *layer(LATENT + sizes.actions, HIDDEN), *layer(HIDDEN, HIDDEN), *simplices(HIDDEN)
        )
        self.decoder = nn.Sequential(
            *layer(LATENT + sizes.features, HIDDEN), *layer(HIDDEN, HIDDEN), nn.Linear(HIDDEN, sizes.features)
        )

    def new_optimizer(self) -> torch.optim.Optimizer:
        others = [parameter for name, parameter in self.named_parameters() if not name.startswith("encoder")]
        groups: list[dict[str, Any]] = [
            {"params": list(self.encoder.parameters()), "lr": ENCODER_LR * self.lr},
            {"params": others},
        ]
        return torch.optim.Adam(groups, lr=self.lr, fused=True)

    def encode(self, frames: Tensor, actions: Tensor) -> Tensor:
        """The latent of each frame but the first ones, [B, T, F], [B, T - 1, A] -> [B, T - 1, Z] (T where H is 1).

        The paper's encoder sees one frame. This one also sees the change that led to it and the action between, as
        logs may hide velocities; the whole history, flattened, overfits where episodes are few.
        """
        if self.sizes.history > 1:
            change = (frames.diff(dim=1) - self.change_mean) / self.change_std
            frames = torch.cat([frames[:, 1:], change, actions], dim=-1)
        latents: Tensor = self.encoder(frames)
        return latents

    def roll(self, batch: Tensors) -> Tensor:
        """Latents after each planned action, [B, K, Z]"""
        latent, latents = self.encode(batch.history[:, -2:], batch.past_actions[:, -1:])[:, -1], []
        for action in batch.planned_actions.unbind(1):
            latent = self.dynamics(torch.cat([latent, action], dim=-1))
            latents.append(latent)
        return torch.stack(latents, dim=1)

    def decode(self, latents: Tensor, last: Tensor) -> Tensor:
        """[B, K, Z] and the last frame seen [B, F] -> features [B, K, F]"""
        repeated = last[:, None].expand(-1, latents.shape[1], -1)
        features: Tensor = repeated + self.decoder(torch.cat([latents, repeated], dim=-1))
        return features

    def loss(self, batch: Tensors) -> Tensor:
        latents, horizon = self.roll(batch), batch.features.shape[1]
        with torch.no_grad():
            reached = self.encode(frames_of(batch), actions_of(batch))[:, -horizon:]
        decay = batch.weight * RHO ** torch.arange(horizon)
        consistency = weighted_mean((latents - reached).square(), decay)
        decoded = self.decode(latents, batch.history[:, -1])
        return CONSISTENCY * consistency + DECODED * squared_error(decoded, batch.features, batch.weight)

    def predict(self, batch: Tensors) -> Tensor:
        return self.decode(self.roll(batch), batch.history[:, -1])


class SimNorm(nn.Module):
    """Softmax within groups of SIMPLEX units."""

    def forward(self, inputs: Tensor) -> Tensor:
        return inputs.reshape(*inputs.shape[:-1], -1, SIMPLEX).softmax(-1).flatten(-2)


def layer(inputs: int, outputs: int) -> list[nn.Module]:
    return [nn.Linear(inputs, outputs), nn.LayerNorm(outputs), nn.Mish()]


def simplices(inputs: int) -> list[nn.Module]:
    return [nn.Linear(inputs, LATENT), nn.LayerNorm(LATENT), SimNorm()]
