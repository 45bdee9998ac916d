"""Networks of one-step changes: what ridge leaves over of a change, given the last frame and the action alone.

An ensemble of one-step networks, as in PETS (arXiv 1805.12114). Where the last frame says all, they learn from few logs
what world models, which see a history, learn by heart; where it does not, their share of a dream is little. Layers are
not normalized, which would cost three times the error on Pendulum (docs/notebook.md). Dimension key: S state (the
coordinates of linear_starts), A actions, B batch, H history, K horizon, F features.
"""

from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor, nn

from worldmodel.arrays.scaler import MIN_SPREAD
from worldmodel.arrays.windows import Packed
from worldmodel.core.typing import Ints
from worldmodel.model.linear_start import LinearStart, linear_starts
from worldmodel.model.losses import squared_error
from worldmodel.model.tensors import Tensors
from worldmodel.model.world_model import WorldModel, damp

TRANSITIONS = 256  # in a batch
RATE = 1e-3  # peak learning rate


class Predicted(NamedTuple):
    features: Tensor  # [B, K, F]


class TransitionNetwork(nn.Module):
    """(state, action) -> change, in units of the usual one: linear + two layers, damped outside of the train states."""

    projection: Tensor
    delta_std: Tensor
    train_min: Tensor
    train_max: Tensor
    sensor_min: Tensor
    sensor_max: Tensor
    damping: Tensor

    def __init__(self, start: LinearStart, hidden: int) -> None:
        super().__init__()
        for name in ("projection", "delta_std", "train_min", "train_max", "sensor_min", "sensor_max", "damping"):
            self.register_buffer(name, torch.from_numpy(getattr(start, name)))
        state, known = start.weight.shape
        self.linear = nn.Linear(known, state)
        self.body = nn.Sequential(nn.Linear(known, hidden), nn.SiLU(), nn.Linear(hidden, hidden), nn.SiLU())
        self.change = nn.Linear(hidden, state)
        weight, bias = start.of_velocity()
        with torch.no_grad():
            self.linear.weight.copy_(weight)
            self.linear.bias.copy_(bias)
            self.change.weight.zero_()
            self.change.bias.zero_()

    def motion(self, state: Tensor, action: Tensor) -> Tensor:
        """[B, S], [B, A] -> the change of the state in units of delta_std, [B, S]"""
        known = torch.cat([state, action], dim=-1)
        change: Tensor = self.linear(known) + self.change(self.body(known))
        return change * damp(state, self.train_min, self.train_max, self.damping)

    def forward(self, features: Tensor, past_actions: Tensor, planned_actions: Tensor) -> Predicted:
        """A history [B, H, F], of which the last frame counts, and planned actions [B, K, A] -> K frames."""
        state, states = features[:, -1] @ self.projection.T, []
        for action in planned_actions.unbind(1):
            moved = state + self.delta_std * self.motion(state, action)
            state = moved.clamp(self.sensor_min, self.sensor_max)
            states.append(state)
        return Predicted(torch.stack(states, dim=1) @ self.projection)

    def loss(self, batch: Tensors) -> Tensor:
        """Squared error of the first change, in units of the usual one."""
        state, after = batch.history[:, -1] @ self.projection.T, batch.features @ self.projection.T
        motion, spread = self.motion(state, batch.planned_actions[:, 0]), self.delta_std.clamp(min=MIN_SPREAD)
        moved = state + self.delta_std * motion
        motion = motion - (moved - moved.clamp(self.sensor_min, self.sensor_max)) / spread
        changed = (after[:, 0] - state) / spread
        return squared_error(motion[:, None], changed[:, None], batch.weight[:, :1])


def new_network(packed: Packed, trained: Ints, member: WorldModel, seed: int) -> TransitionNetwork:
    """Untrained, as good as ridge on the episodes that it will be trained on; damped as the member is."""
    features, actions = packed.each(packed.features, trained), packed.each(packed.actions, trained)
    [start] = linear_starts(features, actions, member.shape.state_dim)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return TransitionNetwork(replace(start, damping=member.damping.cpu().numpy()), member.shape.hidden_dim)
