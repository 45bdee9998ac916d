"""WorldModel: encode a history into the latent z, step z by one action, predict features along a plan.

Everything here is in standardized units. Dimension key: B batch, H history, K horizon, F features, A actions (0 without
actions), Z latent, S state part of z, V velocity part of z (S or 0), C context part of z, D hidden.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from worldmodel.core.typing import Floats
from worldmodel.model.encoders import Encoder, GruEncoder, MlpEncoder, TransformerEncoder
from worldmodel.model.linear_start import LinearStart
from worldmodel.model.shape import MEMORY, STATE_CLAMP, Shape

LOG_STD_RANGE = (-7.0, 7.0)  # of what the network adds to the spread that training starts from
ENDING_UNITS = 16  # hidden units of what tells from a frame whether the task ends
DEGREES = 5.0  # of freedom of the Student's t that the std is trained for
START_LOG_VARIANCE = -4.0  # of the context: far below the prior's 0, so that the predictor learns to read it
ENCODERS: dict[str, type[Encoder]] = {"gru": GruEncoder, "mlp": MlpEncoder, "transformer": TransformerEncoder}


class Prediction(NamedTuple):
    features: Tensor  # [B, K, F]
    log_std: Tensor  # [B, K, F]
    rewards: Tensor | None  # [B, K], what each planned action earns
    termination: Tensor | None  # [B, K], log odds that the task ends with a frame, given that it has not ended before
    disagreement: Tensor  # [B, K], what is not known so far from the train frames, as a std over all features


class Unrolled(NamedTuple):
    features: Tensor  # [B, K, F]
    hidden: Tensor  # [B, K, D]
    rewards: Tensor | None  # [B, K]
    z: Tensor  # [B, K, Z] after each action


class Posterior(NamedTuple):
    """What a history says of z: state and velocity for sure, the context as a diagonal Gaussian."""

    state: Tensor  # [B, S + V]
    mean: Tensor  # [B, C]
    log_variance: Tensor  # [B, C]

    def sample(self, noise: Tensor) -> Tensor:
        """Standard normal noise [B, C] -> z [B, Z], with gradients to mean and variance (arXiv 1312.6114)."""
        z = torch.cat([self.state, self.mean + noise * (self.log_variance / 2).exp()], dim=-1)
        return F.pad(z, (0, MEMORY))


class WorldModel(nn.Module):
    """Latent residual dynamics, unrolled over the whole horizon.

    z = [state of the last frame, its velocity: the change that led there, context from the history]. The next velocity
    is linear + network, in units of delta_std; the next state adds it to the last one; the network alone moves the
    context. All that the network moves starts at zero, so that training starts from the linear model and has to earn
    what it adds; so does its std, from the spread that the linear model leaves at each frame. Outside of the states
    that the train episodes reach, the velocity is damped: nothing is known there. A state may go past the sensors'
    limits; what is read of it, and what the next velocity is added to, does not.
    """

    delta_std: Tensor
    train_min: Tensor
    train_max: Tensor
    sensor_min: Tensor
    sensor_max: Tensor
    damping: Tensor
    log_std_offset: Tensor
    log_std_slope: Tensor
    log_std_growth: Tensor
    familiar: Tensor
    unfamiliarity: Tensor
    degrees_of_freedom: Tensor

    def __init__(self, shape: Shape, dropout: float = 0.0) -> None:
        """dropout: share of hidden units of the rollout silenced at each training step; 0 draws nothing."""
        super().__init__()
        self.shape = shape
        state, hidden = shape.state_dim, shape.hidden_dim
        self.register_buffer("delta_std", torch.ones(state))
        self.register_buffer("train_min", torch.zeros(state))
        self.register_buffer("train_max", torch.zeros(state))
        self.register_buffer("sensor_min", torch.full((state,), -STATE_CLAMP))
        self.register_buffer("sensor_max", torch.full((state,), STATE_CLAMP))
        self.register_buffer("damping", torch.zeros(state))
        self.register_buffer("log_std_offset", torch.zeros(shape.horizon, shape.features))
        self.register_buffer("log_std_slope", torch.ones(()))
        self.register_buffer("log_std_growth", torch.full((shape.features,), 0.5))  # as that of a random walk
        self.register_buffer("familiar", torch.zeros(state + shape.actions))
        self.register_buffer("unfamiliarity", torch.zeros(state + shape.actions, state + shape.actions))
        self.register_buffer("degrees_of_freedom", torch.full((), DEGREES))  # of the std's Student's t; 0: normal
        inputs = shape.features * (2 if shape.masked else 1) + shape.actions
        self.encoder = ENCODERS[shape.encoder](inputs, shape.history, shape.encoder_dim, shape.context_dim)
        narrow = state < shape.features
        self.project = nn.Linear(shape.features, state, bias=False) if narrow else nn.Identity()
        self.unproject = nn.Linear(state, shape.features, bias=False) if narrow else nn.Identity()
        self.linear = nn.Linear(state + shape.velocity_dim + shape.actions, state)
        self.input_layer = _layer(shape.z_dim - MEMORY + shape.actions, hidden, dropout)
        self.hidden_layer = _layer(hidden, hidden, dropout)
        self.change = nn.Linear(hidden, state + shape.context_dim)
        self.log_std_head = nn.Linear(hidden, shape.features)
        self.reward = nn.Linear(hidden + state, 1) if shape.rewards else None
        # Drawn last: with or without it, a seed gives all others the same weights.
        self.log_variance = nn.Linear(shape.encoder_dim, shape.context_dim) if shape.context_spread else None
        self.ending_layer = nn.Linear(shape.features, ENDING_UNITS) if shape.terminals else None
        self.termination = nn.Linear(ENDING_UNITS, 1) if shape.terminals else None
        self.starting = nn.Linear(shape.encoder_dim, state) if shape.velocity_dim else None
        corrected = shape.features * (2 if shape.velocity_dim else 1)  # frames that state and velocity are read from
        self.correction = nn.Linear(shape.encoder_dim, corrected) if shape.masked else None

    @property
    def degrees(self) -> float:
        """Of freedom of the std's Student's t; infinite where it is that of a normal."""
        return float(self.degrees_of_freedom) or math.inf

    @torch.no_grad()
    def init_from_linear(self, start: LinearStart, log_std: Floats | float = 0.0) -> None:
        """Make the model predict what the linear model predicts, with this std at each frame and feature, [K, F]."""
        for name in ("delta_std", "train_min", "train_max", "sensor_min", "sensor_max", "damping"):
            getattr(self, name).copy_(torch.from_numpy(getattr(start, name)))
        self.log_std_offset.copy_(torch.as_tensor(log_std))
        weight, bias = start.of_velocity()
        actions = self.shape.actions
        states = weight.shape[1] - actions  # inputs that are no actions
        self.linear.weight.zero_()
        self.linear.weight[:, :states] = weight[:, :states]
        self.linear.weight[:, self.linear.in_features - actions :] = weight[:, states:]
        self.linear.bias.copy_(bias)
        if isinstance(self.project, nn.Linear) and isinstance(self.unproject, nn.Linear):
            self.project.weight.copy_(torch.from_numpy(start.projection))
            self.unproject.weight.copy_(torch.from_numpy(start.projection.T.copy()))
        heads = (self.change, self.log_std_head, self.reward, self.correction, self.log_variance, self.termination)
        for head in (*heads, self.starting):
            if head is not None:
                head.weight.zero_()
                head.bias.zero_()
        if self.log_variance is not None:
            self.log_variance.bias.fill_(START_LOG_VARIANCE)

    def encode(self, features: Tensor, actions: Tensor, known: Tensor | None = None) -> Tensor:
        """features [B, H, F], actions [B, H-1, A] between them -> z [B, Z]

        known [B, H, F], where the shape is masked: 1 for readings, 0 for what is missing.
        """
        observed, summary = self._observed(features, actions, known)
        context = self.encoder.head(summary)
        context = torch.tanh(context) if self.log_variance is None else context
        return F.pad(torch.cat([observed, context], dim=-1), (0, MEMORY))

    def posterior(self, features: Tensor, actions: Tensor, known: Tensor | None = None) -> Posterior:
        """The Gaussian whose mean `encode` answers; only where the shape has a context_spread.

        The mean has no tanh: its prior is unbounded, and the divergence from that prior is what bounds it.
        """
        assert self.log_variance is not None
        observed, summary = self._observed(features, actions, known)
        return Posterior(observed, self.encoder.head(summary), self.log_variance(summary))

    def _observed(self, features: Tensor, actions: Tensor, known: Tensor | None) -> tuple[Tensor, Tensor]:
        """[B, H, F], [B, H-1, A] -> state and velocity of the last frame [B, S + V], the encoder's summary [B, D]"""
        if self.correction is None:
            summary = self.encoder(_frames(features, actions))
        else:
            assert known is not None
            features = self._filled(features, actions, known)
            summary = self.encoder(_frames(torch.cat([features, known], dim=-1), actions))
            corrected = self.correction(summary).unflatten(-1, (-1, self.shape.features))  # of the last frames
            read = features[:, -corrected.shape[1] :]
            features = read + corrected * (1 - known[:, -corrected.shape[1] :])
        state: Tensor = self.project(features[:, -1])
        if not self.shape.velocity_dim:
            return state, summary
        velocity = self._velocity(self.project(features[:, -2]), state)
        if self.starting is not None:  # where nothing moved, it may be that nothing was known of it
            unmoved = (features[:, -1] == features[:, -2]).all(-1, keepdim=True)
            velocity = torch.where(unmoved & (self.delta_std > 0), self.starting(summary), velocity)
        return torch.cat([state, velocity], dim=-1), summary

    def _filled(self, features: Tensor, actions: Tensor, known: Tensor) -> Tensor:
        """[B, H, F], where a missing reading is what a step predicts from the frame before; the mean in the first.

        It stays within what the train episodes reach: nobody knows how many frames in a row miss it.
        """
        frames, size = [features[:, 0] * known[:, 0]], self.shape.state_dim
        state = self.project(frames[0])
        rest = state.new_zeros(state.shape[0], self.shape.z_dim - size)  # velocity and context
        for t, action in enumerate(actions.unbind(1), start=1):
            z, _ = self.step(torch.cat([state, rest], dim=-1), action)
            moved = z[:, :size].clamp(self.train_min, self.train_max)
            predicted = frames[-1] + self.unproject(moved - state)
            frames.append(torch.where(known[:, t] > 0, features[:, t], predicted))
            before, state, rest = state, self.project(frames[-1]), z[:, size:]
            if velocity := self.shape.velocity_dim:
                rest = torch.cat([self._velocity(before, state), rest[:, velocity:]], dim=-1)
        return torch.stack(frames, dim=1)

    def _velocity(self, before: Tensor, state: Tensor) -> Tensor:
        """Of two states [B, S] in a row: the change in units of delta_std, 0 where nothing changes."""
        change, moves = state - before, self.delta_std > 0
        return torch.where(moves, change / torch.where(moves, self.delta_std, 1.0), 0.0)

    def step(self, z: Tensor, action: Tensor) -> tuple[Tensor, Tensor]:
        """z [B, Z], action [B, A] -> the next z [B, Z], hidden units [B, D] for the heads.

        Of the memory, it counts the frame; `advance` adds up the rest.
        """
        state, observed = self.shape.state_dim, self.shape.state_dim + self.shape.velocity_dim
        hidden = self.hidden_layer(self.input_layer(torch.cat([z[:, :-MEMORY], action], dim=-1)))
        change = self.change(hidden)
        velocity = self.linear(torch.cat([z[:, :observed], action], dim=-1)) + change[:, :state]
        reading = self._reading(z[:, :state])
        velocity = velocity * damp(reading, self.train_min, self.train_max, self.damping)
        moved, context = reading + self.delta_std * velocity, z[:, observed:-MEMORY] + change[:, state:]
        parts = [moved, velocity, context] if self.shape.velocity_dim else [moved, context]
        known = torch.cat(parts, dim=-1).clamp(-STATE_CLAMP, STATE_CLAMP)
        return torch.cat([known, z[:, -MEMORY:-1] + 1, z[:, -1:]], dim=-1), hidden

    def unroll(self, z: Tensor, actions: Tensor) -> Unrolled:
        """z [B, Z], planned actions [B, K, A] -> K frames; frame k depends on actions 0..k alone. Any K."""
        latents, hiddens = [], []
        for action in actions.unbind(1):
            z, hidden = self.step(z, action)
            latents.append(z)
            hiddens.append(hidden)
        latent, hidden = torch.stack(latents, dim=1), torch.stack(hiddens, dim=1)
        state = latent[..., : self.shape.state_dim]
        rewards = None if self.reward is None else self.reward(torch.cat([hidden, state], dim=-1)).squeeze(-1)
        return Unrolled(self.unproject(self._reading(state)), hidden, rewards, latent)

    def _reading(self, state: Tensor) -> Tensor:
        """[..., S] -> the same within the sensors' limits"""
        return state.clamp(self.sensor_min, self.sensor_max)

    def predict(self, z: Tensor, actions: Tensor, joint: bool = False) -> Prediction:
        """What `unroll` answers, how sure that is, and whether the task ends.

        joint: whether gradients of the std reach the hidden units; else it takes them as they are.
        """
        return self.advance(z, actions, joint)[1]

    def advance(self, z: Tensor, actions: Tensor, joint: bool = False) -> tuple[Tensor, Prediction]:
        """z after the last action, [B, Z], and what `predict` answers: from there on it goes as if at one go."""
        features, hidden, rewards, latent = self.unroll(z, actions)
        log_std = self.log_std_head(hidden if joint else hidden.detach()).clamp(*LOG_STD_RANGE)
        log_std = self.log_std_slope * log_std + self._log_std_offset(latent[..., -MEMORY].detach())
        doubt = z[:, -1:] + self._unfamiliar(z, latent, actions).cumsum(-1)
        disagreement = doubt * (2 * log_std.detach()).exp().mean(-1).sqrt()
        z = torch.cat([latent[:, -1, :-1], doubt[:, -1:]], dim=-1)
        return z, Prediction(features, log_std, rewards, self.ending(features.detach()), disagreement)

    def ending(self, features: Tensor) -> Tensor | None:
        """Of predicted frames [B, K, F], log odds that the task ends there, [B, K].

        Few units, and nothing else of z: with more they learn the train episodes by heart (docs/model.md).
        """
        if self.ending_layer is None or self.termination is None:
            return None
        odds: Tensor = self.termination(F.silu(self.ending_layer(features))).squeeze(-1)
        return odds

    def _unfamiliar(self, z: Tensor, latent: Tensor, actions: Tensor) -> Tensor:
        """How far states and actions are from those of the train frames, [B, K] (see disagreement.py)."""
        size = self.shape.state_dim
        state = torch.cat([z[:, None, :size], latent[:, :-1, :size]], dim=1)
        state = state.detach() if self.training else state  # no loss of the model reads it, but a policy's does
        return ((torch.cat([state, actions], dim=-1) - self.familiar) @ self.unfamiliarity).square().sum(-1)

    def _log_std_offset(self, frame: Tensor) -> Tensor:
        """Of frames since the history [B, K], counted from 1 -> [B, K, F]; past the horizon it grows on."""
        horizon = self.shape.horizon
        beyond = (frame / horizon).clamp(min=1).log()[..., None] * self.log_std_growth
        return self.log_std_offset[frame.round().long().clamp(1, horizon) - 1] + beyond

    def forward(
        self, features: Tensor, past_actions: Tensor, planned_actions: Tensor, known: Tensor | None = None
    ) -> Prediction:
        return self.predict(self.encode(features, past_actions, known), planned_actions)


def damp(state: Tensor, train_min: Tensor, train_max: Tensor, damping: Tensor) -> Tensor:
    """[B, S] -> [B, S]: 1 within the range of the train states, less the farther outside. Without gradient."""
    state = state.detach()
    outside = state - state.clamp(train_min, train_max)
    return 1 / (1 + damping * outside.square().sum(-1, keepdim=True))


def _layer(inputs: int, outputs: int, dropout: float) -> nn.Sequential:
    silenced = [nn.Dropout(dropout)] if dropout else []
    return nn.Sequential(nn.Linear(inputs, outputs), nn.LayerNorm(outputs), nn.SiLU(), *silenced)


def _frames(features: Tensor, actions: Tensor) -> Tensor:
    """[B, H, F], [B, H-1, A] -> [B, H, F + A], each with the action that led to it; none is known of the first."""
    return torch.cat([features, F.pad(actions, (0, 0, 1, 0))], dim=-1)
