"""WorldModel.unroll as runtimes have it fast: any number of frames, and few products, each as large as it can be.

Dimension key as in world_model.
"""

import torch
from torch import Tensor, nn
from torch._higher_order_ops.scan import scan
from torch.nn import functional as F

from worldmodel.model.shape import MEMORY, STATE_CLAMP
from worldmodel.model.world_model import Unrolled, WorldModel

State = tuple[Tensor, Tensor]  # [B, S], and the rest of z: [B, Z - S]


class Rollout(WorldModel):
    """The same model, for export: z and action are one input of one matrix wherever both are read.

    What keeps the context and counts the frames are more columns of the linear model's matrix, and the heads that read
    the hidden units are one matrix. A loop holds what depends on the frame before; all else is done for all at once.
    """

    enter: Tensor
    linear_moves: Tensor
    moves_bias: Tensor
    changes: Tensor
    damped: Tensor
    undamped: Tensor
    heads: Tensor
    heads_bias: Tensor

    def __init__(self, model: WorldModel) -> None:
        super().__init__(model.shape)
        self.load_state_dict(model.state_dict())
        self.requires_grad_(False)
        for name, each in self._joined().items():
            self.register_buffer(name, each.contiguous(), persistent=False)
        self.add_module("log_std_head", First(self.shape.features))
        self.damps = bool(self.damping.any())
        self.limited = bool((self.sensor_min > -STATE_CLAMP).any() or (self.sensor_max < STATE_CLAMP).any())

    def _joined(self) -> dict[str, Tensor]:
        """Weights [inputs, outputs]; moves are the velocity, then the rest of z without it."""
        shape, state = self.shape, self.shape.state_dim
        observed, kept = state + shape.velocity_dim, shape.context_dim + MEMORY
        linear = torch.zeros(shape.z_dim + shape.actions, state + kept)
        linear[:, :state] = _skipping(self.linear.weight, observed, kept)
        linear[observed : shape.z_dim, state:] = torch.eye(kept)
        bias = F.pad(self.change.bias, (0, MEMORY))
        bias[:state] += self.linear.bias
        bias[-MEMORY] = 1.0
        heads = [(self.log_std_head.weight, self.log_std_head.bias)]
        if self.reward is not None:
            heads.append((self.reward.weight[:, : shape.hidden_dim], self.reward.bias))
        return {
            "enter": _skipping(self.get_parameter("input_layer.0.weight"), shape.z_dim - MEMORY, MEMORY),
            "linear_moves": linear,
            "moves_bias": bias,
            "changes": F.pad(self.change.weight.T, (0, MEMORY)),
            "damped": F.pad(self.damping, (0, kept))[None],
            "undamped": torch.ones(state + kept),
            "heads": torch.cat([weight for weight, _ in heads]).T,
            "heads_bias": torch.cat([bias for _, bias in heads]),
        }

    def unroll(self, z: Tensor, actions: Tensor) -> Unrolled:
        """In place of hidden units, what the std's head makes of them."""
        size, plan = self.shape.state_dim, actions.transpose(0, 1)
        start = z[:, :size].clone(), z[:, size:].clone()
        if actions.shape[1] == 1:
            frames = [each[None] for each in self._frame(start, plan[0])[1]]
        else:
            _, frames = scan(self._frame, start, plan)
        state, rest, told = (each.transpose(0, 1) for each in frames)
        rewards = None
        if self.reward is not None:
            rewards = told[..., -1] + (state * self.reward.weight[0, self.shape.hidden_dim :]).sum(-1)
        features = self.unproject(self._reading(state))
        return Unrolled(features, told, rewards, torch.cat([state, rest], dim=-1))

    def _frame(self, z: State, action: Tensor) -> tuple[State, list[Tensor]]:
        """z, action [B, A] -> the next z, and what the loop collects: a copy of it, and what heads say [B, F + 1]."""
        state, rest = z
        inputs = torch.cat([state, rest, action], dim=-1)
        _, *norm = self.input_layer
        hidden = torch.addmm(self.get_parameter("input_layer.0.bias"), inputs, self.enter)
        for each in (*norm, self.hidden_layer):
            hidden = each(hidden)
        moves = torch.addmm(torch.addmm(self.moves_bias, inputs, self.linear_moves), hidden, self.changes)
        reading = self._reading(state)
        if self.damps:
            outside = reading - reading.clamp(self.train_min, self.train_max)
            moves = moves / torch.addmm(self.undamped, outside.square().sum(-1, keepdim=True), self.damped)
        size = self.shape.state_dim
        state = (reading + self.delta_std * moves[:, :size]).clamp(-STATE_CLAMP, STATE_CLAMP)
        rest = (moves if self.shape.velocity_dim else moves[:, size:]).clamp(-STATE_CLAMP, STATE_CLAMP)
        told = torch.addmm(self.heads_bias, hidden, self.heads)
        return (state, rest), [state.clone(), rest.clone(), told]

    def _reading(self, state: Tensor) -> Tensor:
        return super()._reading(state) if self.limited else state  # what z is held to is no narrower


class First(nn.Module):
    """The first of the numbers that it is given."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.count = count

    def forward(self, numbers: Tensor) -> Tensor:
        return numbers[..., : self.count]


def _skipping(weight: Tensor, at: int, count: int) -> Tensor:
    """[outputs, inputs] -> [inputs, outputs], with so many more inputs there that are not read."""
    return torch.cat([weight.T[:at], weight.new_zeros(count, len(weight)), weight.T[at:]])
