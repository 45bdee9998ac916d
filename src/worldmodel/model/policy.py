"""What to do at a z, and what is earned from there on: an actor and a critic, for planners.

Dimension key: B batch, Z latent, A actions.
"""

import torch
from torch import Tensor, nn

from worldmodel.model.shape import MEMORY

UNITS = 128  # of each hidden layer
FARTHEST = 10.0  # standard deviations of a z from those of the train windows, as the networks read it
VALUE_UNIT = 10.0  # standard deviations of a reward: what a change of 1 in the critic's output means
LEAST = 1e-2  # of them, as a share of a unit of z


class Policy(nn.Module):
    """Standardized actions and discounted rewards from z's; it starts out with the middle of the actions, and 0."""

    discount: Tensor
    unknown: Tensor
    center: Tensor
    spread: Tensor
    low: Tensor
    high: Tensor

    def __init__(self, z_dim: int, actions: int, discount: float = 1.0, unknown: float = 0.0) -> None:
        """discount: of a frame; unknown: what one counts that nothing is known of, standard deviations of a reward."""
        super().__init__()
        self.z_dim, known = z_dim, z_dim - MEMORY
        self.register_buffer("discount", torch.full((), discount))
        self.register_buffer("unknown", torch.full((), unknown))
        self.register_buffer("center", torch.zeros(known))
        self.register_buffer("spread", torch.ones(known))
        self.register_buffer("low", torch.zeros(actions))
        self.register_buffer("high", torch.ones(actions))
        self.actor, self.critic = _network(known, actions), _network(known, 1)

    @torch.no_grad()
    def fit_inputs(self, z: Tensor) -> None:
        """z of train windows [N, Z]"""
        known = z[:, :-MEMORY]
        self.center.copy_(known.mean(0))
        self.spread.copy_(known.std(0, correction=0).clamp(min=LEAST))

    def forward(self, z: Tensor, noise: Tensor | None = None) -> Tensor:
        """z [B, Z] -> actions [B, A]; noise [B, A] is added before they are limited."""
        found: Tensor = self.actor(self._read(z))
        found = found if noise is None else found + noise
        return self.low + (found.tanh() + 1) / 2 * (self.high - self.low)

    def value(self, z: Tensor) -> Tensor:
        """[B, Z] -> discounted rewards from there on, standard deviations of a reward, [B]"""
        found: Tensor = VALUE_UNIT * self.critic(self._read(z)).squeeze(-1)
        return found

    def _read(self, z: Tensor) -> Tensor:
        return ((z[:, :-MEMORY] - self.center) / self.spread).clamp(-FARTHEST, FARTHEST)


def _network(inputs: int, outputs: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for width in (inputs, UNITS):
        layers += [nn.Linear(width, UNITS), nn.LayerNorm(UNITS), nn.SiLU()]
    last = nn.Linear(UNITS, outputs)
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
    return nn.Sequential(*layers, last)
