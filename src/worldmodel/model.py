"""WorldModel: encode a history into the latent z, step z by one action, predict features along a plan.

Everything here is in standardized units. Dimension key: B batch, H history, K horizon, F features, A actions (0 without
actions), Z latent, S state part of z, D hidden.
"""

from dataclasses import asdict, dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from worldmodel.encoders import Encoder, GruEncoder, MlpEncoder, TransformerEncoder

LOG_STD_RANGE = (-7.0, 3.0)
ENCODERS: dict[str, type[Encoder]] = {"gru": GruEncoder, "mlp": MlpEncoder, "transformer": TransformerEncoder}

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Shape:
    """What fixes the size of every tensor."""

    features: int
    actions: int
    rewards: bool
    history: int
    horizon: int
    z_dim: int
    hidden_dim: int
    encoder: Literal["gru", "mlp", "transformer"]

    @property
    def state_dim(self) -> int:
        """S, the part of z for the last frame: the frame itself where it fits into 3/4 of z, else projections of it."""
        return min(self.features, max(1, self.z_dim * 3 // 4))

    @property
    def encoder_dim(self) -> int:
        """Hidden units of the encoder; a wider one predicts no better (docs/results.md)."""
        return max(1, self.hidden_dim // 2)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class LinearStart:
    """Where training starts from: ridge in the coordinates of z's state part (see floors.linear_start)."""

    projection: Floats  # [S, F], rows orthonormal; the identity where S = F
    weight: Floats  # [S, S + A]
    bias: Floats  # [S]
    change_std: Floats  # [S]


class Prediction(NamedTuple):
    features: Tensor  # [B, K, F]
    log_std: Tensor  # [B, K, F]
    rewards: Tensor | None  # [B, K], what each planned action earns


class WorldModel(nn.Module):
    """Latent residual dynamics: z' = z + [change_std * (linear + network), network], unrolled over the whole horizon.

    z = [state of the last frame, context from the history]. The network's share of the state's change starts at zero,
    so that training starts from ridge and has to earn what it adds.
    """

    change_std: Tensor
    log_std_offset: Tensor

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        state, hidden = shape.state_dim, shape.hidden_dim
        self.register_buffer("change_std", torch.ones(state))
        self.register_buffer("log_std_offset", torch.zeros(shape.horizon))
        self.encoder = ENCODERS[shape.encoder](
            shape.features + shape.actions, shape.history, shape.encoder_dim, shape.z_dim - state
        )
        self.compress = nn.Linear(shape.features, state, bias=False) if state < shape.features else nn.Identity()
        self.expand = nn.Linear(state, shape.features, bias=False) if state < shape.features else nn.Identity()
        self.linear = nn.Linear(state + shape.actions, state)
        self.enter = nn.Sequential(nn.Linear(shape.z_dim + shape.actions, hidden), nn.LayerNorm(hidden), nn.SiLU())
        self.trunk = nn.Sequential(nn.Linear(hidden, hidden), nn.LayerNorm(hidden), nn.SiLU())
        self.change = nn.Linear(hidden, shape.z_dim)
        self.spread = nn.Linear(hidden, shape.features)
        self.reward = nn.Linear(hidden + state, 1) if shape.rewards else None

    def start_from(self, start: LinearStart) -> None:
        """Make the untrained model predict what ridge predicts."""
        state = self.shape.state_dim
        divisor = np.where(start.change_std > 0, start.change_std, np.inf)
        with torch.no_grad():
            self.change_std.copy_(torch.from_numpy(start.change_std))
            self.linear.weight.copy_(torch.from_numpy(start.weight / divisor[:, None]))
            self.linear.bias.copy_(torch.from_numpy(start.bias / divisor))
            self.change.weight[:state] = 0
            self.change.bias.zero_()
            self.spread.weight.zero_()
            self.spread.bias.fill_(-2.0)
            if self.reward is not None:  # the mean reward
                self.reward.weight.zero_()
                self.reward.bias.zero_()
            if isinstance(self.compress, nn.Linear) and isinstance(self.expand, nn.Linear):
                self.compress.weight.copy_(torch.from_numpy(start.projection))
                self.expand.weight.copy_(torch.from_numpy(start.projection.T.copy()))

    def encode(self, features: Tensor, actions: Tensor) -> Tensor:
        """features [B, H, F], actions [B, H-1, A] between them -> z [B, Z]"""
        led_here = F.pad(actions, (0, 0, 1, 0))  # the action that led to each frame; none is known of the first
        context = self.encoder(torch.cat([features, led_here], dim=-1))
        return torch.cat([self.compress(features[:, -1]), context], dim=-1)

    def step(self, z: Tensor, action: Tensor) -> tuple[Tensor, Tensor]:
        """z [B, Z], action [B, A] -> the next z [B, Z], hidden units [B, D] for the heads"""
        state = self.shape.state_dim
        hidden = self.trunk(self.enter(torch.cat([z, action], dim=-1)))
        change = self.change(hidden)
        moved = self.change_std * (self.linear(torch.cat([z[:, :state], action], dim=-1)) + change[:, :state])
        return z + torch.cat([moved, change[:, state:]], dim=-1), hidden

    def predict(self, z: Tensor, actions: Tensor) -> Prediction:
        """z [B, Z], planned actions [B, K, A] -> K frames; frame k depends on actions 0..k alone. K <= horizon."""
        states, hiddens = [], []
        for action in actions.unbind(1):
            z, hidden = self.step(z, action)
            states.append(z[:, : self.shape.state_dim])
            hiddens.append(hidden)
        state, hidden = torch.stack(states, dim=1), torch.stack(hiddens, dim=1)
        # The spread is fitted on hidden units as they are, so that it never bends the mean.
        log_std = self.spread(hidden.detach()).clamp(*LOG_STD_RANGE)
        log_std = log_std + self.log_std_offset[: state.shape[1], None]
        rewards = None if self.reward is None else self.reward(torch.cat([hidden, state], dim=-1)).squeeze(-1)
        return Prediction(self.expand(state), log_std, rewards)

    def forward(self, features: Tensor, past_actions: Tensor, planned_actions: Tensor) -> Prediction:
        return self.predict(self.encode(features, past_actions), planned_actions)
