"""WorldModel: encode a history into the latent z, step z by one action, predict features along a plan.

Everything here is in standardized units. Dimension key: B batch, H history, K horizon, F features, A actions (0 without
actions), Z latent, S state part of z, M motion part of z (S or 0), C context part of z, D hidden.
"""

from dataclasses import asdict, dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from worldmodel.core.typing import Floats
from worldmodel.model.encoders import Encoder, GruEncoder, MlpEncoder, TransformerEncoder

LOG_STD_RANGE = (-7.0, 3.0)
FARTHEST = 1e6  # standardized units; a rollout that runs away stays there, so that squares and gradients are finite
NORMAL_90 = 1.6448536269514722  # half width of a normal 90 % interval, in std
START_LOG_VARIANCE = -4.0  # of the context: far below the prior's 0, so that the predictor learns to read it
ENCODERS: dict[str, type[Encoder]] = {"gru": GruEncoder, "mlp": MlpEncoder, "transformer": TransformerEncoder}


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
    context_spread: bool = False  # whether the encoder also says how sure it is of the context

    @property
    def state_dim(self) -> int:
        """S, the part of z for the last frame: the frame itself where it fits into 3/4 of z, else projections of it."""
        return min(self.features, max(1, self.z_dim * 3 // 4))

    @property
    def motion_dim(self) -> int:
        """M, the part of z for the state's last change: none where that is unknown or the context would lack room."""
        return self.state_dim if self.history > 1 and 2 * self.state_dim <= self.z_dim * 3 // 4 else 0

    @property
    def context_dim(self) -> int:
        """C, what z has left for all else that the history tells."""
        return self.z_dim - self.state_dim - self.motion_dim

    @property
    def encoder_dim(self) -> int:
        """Hidden units of the encoder; a wider one predicts no better (docs/results.md)."""
        return max(1, self.hidden_dim // 2)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class LinearStart:
    """Where training starts from: ridge in the coordinates of z's state part (see floors.linear_starts)."""

    projection: Floats  # [S, F], rows orthonormal, or 0 where nothing varies; the identity where S = F
    weight: Floats  # [S, S + A], or [S, 2S + A]: of state, last change in units of change_std if it takes part, action
    bias: Floats  # [S]
    change_std: Floats  # [S]
    lower_stop: Floats  # [S], which no reading is below (see floors.stops)
    upper_stop: Floats  # [S], which none is above
    lowest: Floats  # [S], of the train states, as is the next
    highest: Floats  # [S]
    fading: float = 0.0  # how fast the motion fades outside of them, per squared unit; 0: it does not

    def of_motion(self) -> tuple[Tensor, Tensor]:
        """Weight and bias of the change in units of change_std: nothing where nothing changes."""
        divisor = np.where(self.change_std > 0, self.change_std, np.inf).astype(np.float32)
        return torch.from_numpy(self.weight / divisor[:, None]), torch.from_numpy(self.bias / divisor)


class Prediction(NamedTuple):
    features: Tensor  # [B, K, F]
    log_std: Tensor  # [B, K, F]
    rewards: Tensor | None  # [B, K], what each planned action earns


class Unrolled(NamedTuple):
    features: Tensor  # [B, K, F]
    hidden: Tensor  # [B, K, D]
    rewards: Tensor | None  # [B, K]


class Posterior(NamedTuple):
    """What a history says of z: the state for sure, the context as a diagonal Gaussian."""

    state: Tensor  # [B, S + M], with the motion
    mean: Tensor  # [B, C]
    log_variance: Tensor  # [B, C]

    def sample(self, noise: Tensor) -> Tensor:
        """Standard normal noise [B, C] -> z [B, Z], with gradients to mean and variance (arXiv 1312.6114)."""
        return torch.cat([self.state, self.mean + noise * (self.log_variance / 2).exp()], dim=-1)


class WorldModel(nn.Module):
    """Latent residual dynamics, unrolled over the whole horizon.

    z = [state of the last frame, its motion: the change that led there, context from the history]. The next motion is
    linear + network, in units of the usual change; the next state adds it to the last one; the network alone moves the
    context. All that the network moves starts at zero, so that training starts from ridge and has to earn what it adds.
    Outside of the states that the train episodes reach, the motion fades: there is nothing that it could be known from.
    A state may go past the stops of its readings; what is read of it, and what the next motion is added to, does not.
    """

    change_std: Tensor
    lowest: Tensor
    highest: Tensor
    lower_stop: Tensor
    upper_stop: Tensor
    fading: Tensor
    log_std_offset: Tensor

    def __init__(self, shape: Shape, dropout: float = 0.0) -> None:
        """dropout: share of hidden units of the rollout silenced at each training step; 0 draws nothing."""
        super().__init__()
        self.shape = shape
        state, hidden = shape.state_dim, shape.hidden_dim
        self.register_buffer("change_std", torch.ones(state))
        self.register_buffer("lowest", torch.zeros(state))
        self.register_buffer("highest", torch.zeros(state))
        self.register_buffer("lower_stop", torch.full((state,), -FARTHEST))
        self.register_buffer("upper_stop", torch.full((state,), FARTHEST))
        self.register_buffer("fading", torch.zeros(()))
        self.register_buffer("log_std_offset", torch.zeros(shape.horizon))
        self.encoder = ENCODERS[shape.encoder](
            shape.features + shape.actions, shape.history, shape.encoder_dim, shape.context_dim
        )
        self.compress = nn.Linear(shape.features, state, bias=False) if state < shape.features else nn.Identity()
        self.expand = nn.Linear(state, shape.features, bias=False) if state < shape.features else nn.Identity()
        self.linear = nn.Linear(state + shape.motion_dim + shape.actions, state)
        self.enter = _layer(shape.z_dim + shape.actions, hidden, dropout)
        self.trunk = _layer(hidden, hidden, dropout)
        self.change = nn.Linear(hidden, state + shape.context_dim)
        self.spread = nn.Linear(hidden, shape.features)
        self.reward = nn.Linear(hidden + state, 1) if shape.rewards else None
        # Drawn last: with or without it, a seed gives all others the same weights.
        self.log_variance = nn.Linear(shape.encoder_dim, shape.context_dim) if shape.context_spread else None

    def start_from(self, start: LinearStart) -> None:
        """Make the untrained model predict what ridge predicts."""
        weight, bias = start.of_motion()
        given, actions = start.weight.shape[1], self.shape.actions
        with torch.no_grad():
            for name in ("change_std", "lowest", "highest", "lower_stop", "upper_stop"):
                getattr(self, name).copy_(torch.from_numpy(getattr(start, name)))
            self.fading.fill_(start.fading)
            self.linear.weight.zero_()
            self.linear.weight[:, : given - actions] = weight[:, : given - actions]
            self.linear.weight[:, self.linear.in_features - actions :] = weight[:, given - actions :]
            self.linear.bias.copy_(bias)
            self.change.weight.zero_()
            self.change.bias.zero_()
            self.spread.weight.zero_()
            self.spread.bias.fill_(-2.0)
            if self.reward is not None:  # the mean reward
                self.reward.weight.zero_()
                self.reward.bias.zero_()
            if self.log_variance is not None:
                self.log_variance.weight.zero_()
                self.log_variance.bias.fill_(START_LOG_VARIANCE)
            if isinstance(self.compress, nn.Linear) and isinstance(self.expand, nn.Linear):
                self.compress.weight.copy_(torch.from_numpy(start.projection))
                self.expand.weight.copy_(torch.from_numpy(start.projection.T.copy()))

    def encode(self, features: Tensor, actions: Tensor) -> Tensor:
        """features [B, H, F], actions [B, H-1, A] between them -> z [B, Z]"""
        if self.log_variance is not None:
            posterior = self.posterior(features, actions)
            return torch.cat([posterior.state, posterior.mean], dim=-1)
        return torch.cat([self._known(features), self.encoder(_frames(features, actions))], dim=-1)

    def posterior(self, features: Tensor, actions: Tensor) -> Posterior:
        """The Gaussian whose mean `encode` answers; only where the shape has a context_spread.

        The mean has no tanh: its prior is unbounded, and the divergence from that prior is what bounds it.
        """
        assert self.log_variance is not None
        summary = self.encoder.summarize(_frames(features, actions))
        return Posterior(self._known(features), self.encoder.head(summary), self.log_variance(summary))

    def _known(self, features: Tensor) -> Tensor:
        """[B, H, F] -> state and motion of the last frame [B, S + M]"""
        state: Tensor = self.compress(features[:, -1])
        if not self.shape.motion_dim:
            return state
        change, moves = state - self.compress(features[:, -2]), self.change_std > 0
        motion = torch.where(moves, change / torch.where(moves, self.change_std, 1.0), 0.0)
        return torch.cat([state, motion], dim=-1)

    def step(self, z: Tensor, action: Tensor) -> tuple[Tensor, Tensor]:
        """z [B, Z], action [B, A] -> the next z [B, Z], hidden units [B, D] for the heads"""
        state, known = self.shape.state_dim, self.shape.state_dim + self.shape.motion_dim
        hidden = self.trunk(self.enter(torch.cat([z, action], dim=-1)))
        change = self.change(hidden)
        motion = self.linear(torch.cat([z[:, :known], action], dim=-1)) + change[:, :state]
        read = self._read(z[:, :state])
        motion = motion * fade(read, self.lowest, self.highest, self.fading)
        moved, context = read + self.change_std * motion, z[:, known:] + change[:, state:]
        parts = [moved, motion, context] if self.shape.motion_dim else [moved, context]
        return torch.cat(parts, dim=-1).clamp(-FARTHEST, FARTHEST), hidden

    def unroll(self, z: Tensor, actions: Tensor) -> Unrolled:
        """z [B, Z], planned actions [B, K, A] -> K frames; frame k depends on actions 0..k alone. Any K."""
        states, hiddens = [], []
        for action in actions.unbind(1):
            z, hidden = self.step(z, action)
            states.append(z[:, : self.shape.state_dim])
            hiddens.append(hidden)
        state, hidden = torch.stack(states, dim=1), torch.stack(hiddens, dim=1)
        rewards = None if self.reward is None else self.reward(torch.cat([hidden, state], dim=-1)).squeeze(-1)
        return Unrolled(self.expand(self._read(state)), hidden, rewards)

    def _read(self, state: Tensor) -> Tensor:
        """[..., S] -> the same up to the stops"""
        return state.clamp(self.lower_stop, self.upper_stop)

    def predict(self, z: Tensor, actions: Tensor, joint: bool = False) -> Prediction:
        """What `unroll` answers, and how sure that is; K <= horizon, for which the std is calibrated.

        joint: whether gradients of the spread reach the hidden units; else it takes them as they are.
        """
        features, hidden, rewards = self.unroll(z, actions)
        log_std = self.spread(hidden if joint else hidden.detach()).clamp(*LOG_STD_RANGE)
        return Prediction(features, log_std + self.log_std_offset[: hidden.shape[1], None], rewards)

    def forward(self, features: Tensor, past_actions: Tensor, planned_actions: Tensor) -> Prediction:
        return self.predict(self.encode(features, past_actions), planned_actions)


def fade(state: Tensor, lowest: Tensor, highest: Tensor, fading: Tensor) -> Tensor:
    """[B, S] -> [B, 1]: 1 within the range of the train states, less the farther outside. Without gradient."""
    state = state.detach()
    outside = state - state.clamp(lowest, highest)
    return 1 / (1 + fading * outside.square().sum(-1, keepdim=True))


def _layer(inputs: int, outputs: int, dropout: float) -> nn.Sequential:
    silenced = [nn.Dropout(dropout)] if dropout else []
    return nn.Sequential(nn.Linear(inputs, outputs), nn.LayerNorm(outputs), nn.SiLU(), *silenced)


def _frames(features: Tensor, actions: Tensor) -> Tensor:
    """[B, H, F], [B, H-1, A] -> [B, H, F + A], each with the action that led to it; none is known of the first."""
    return torch.cat([features, F.pad(actions, (0, 0, 1, 0))], dim=-1)
