"""One optimizer step by several processes: a batch is cut into shards, whose gradients are added up in a fixed order.

How many shards there are follows from the params alone, so that one process and many compute the same bits. First, each
process learns the weight of the whole batch, so that a shard's loss is its share of the batch's. Then, round by round,
each computes the gradient of one shard, sends every process a slice of it, and adds up the slices that it receives; at
last all receive all sums.
"""

import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.nn import functional as F
from torch.optim import Optimizer

from worldmodel.arrays.mixing import Mixture
from worldmodel.checkpoints.content import State, content_of, state_of
from worldmodel.core.params import Train
from worldmodel.model.losses import Share
from worldmodel.model.objective import Objective, objective_at, total_loss
from worldmodel.model.optimization import descend, learning_rate, train_step
from worldmodel.model.tensors import Tensors, to_device
from worldmodel.model.world_model import WorldModel

LOOK = 5e-4  # seconds between two looks whether all have answered
AGAIN = "run the same command again: it goes on from the last checkpoint"


class Lost(ValueError):
    """Another process of the training has ended, or does not answer."""

    def __init__(self, why: str) -> None:
        """`why` as gloo or NCCL says it, behind the place in their code."""
        said = re.sub(r"^\[[^]]*\] ", "", why).partition(". ")[0]
        super().__init__(f"another process of this training has ended, or does not answer ({said}); {AGAIN}")


@dataclass(frozen=True)
class Team:
    """Processes that take the same steps, of which this is one; without others it computes all shards itself."""

    shards: int
    rank: int = 0
    size: int = 1  # processes, at most one for each shard
    work: str = ""  # which they must have in common

    @property
    def parts(self) -> list[slice]:
        """The windows of a batch that this process computes, shard by shard."""
        return [slice(shard, None, self.shards) for shard in range(self.rank, self.shards, self.size)]

    def step(
        self, t: int, model: WorldModel, optimizer: Optimizer, mixture: Mixture, settings: Train, device: torch.device
    ) -> dict[str, Tensor]:
        """Step t, by all processes; returns the parts of the batch's loss before it. Raises Lost."""
        own = [to_device(mixture.batch(t, part), device) for part in self.parts]
        rate = learning_rate(t, settings.steps, settings.lr)
        return self.step_along(model, optimizer, own, rate, objective_at(t, settings))

    def step_along(
        self, model: WorldModel, optimizer: Optimizer, batches: Sequence[Tensors], rate: float, objective: Objective
    ) -> dict[str, Tensor]:
        """As `train_step` on the batch that has these parts and those of the other processes."""
        if self.shards == 1:
            return train_step(model, optimizer, batches[0], rate, objective)
        shares, total = self._shares(batches), None
        for turn, first in enumerate(range(0, self.shards, self.size)):
            if turn < len(batches):  # else the last one is sent again, for nobody to count
                drawn = objective._replace(draw=(*objective.draw, first + self.rank))
                optimizer.zero_grad()
                loss, parts = total_loss(model, batches[turn], drawn, shares[turn])
                loss.backward()  # type: ignore[no-untyped-call]
                row = _flat(model, [*parts.values()])
            for part in self._exchanged(_padded(row, self.size))[: self.shards - first]:
                total = part.clone() if total is None else total.add_(part)
        assert total is not None
        losses = _fill(model, self._exchanged(total.repeat(self.size)).flatten())
        descend(model, optimizer, rate)
        return dict(zip(parts, losses, strict=False))

    def _shares(self, batches: Sequence[Tensors]) -> list[Share]:
        """What each of this process's parts has of the batch's weight."""
        own = torch.stack([_weight(batch) for batch in batches])
        turns = -(-self.shards // self.size)
        padded = F.pad(own, (0, 0, 0, turns - len(own)))
        every = self._exchanged(padded.flatten().repeat(self.size)).view(self.size, turns, -1)
        whole = every.transpose(0, 1).reshape(turns * self.size, -1)[: self.shards].sum(0)
        return [Share(*each) for each in own / whole.clamp(min=torch.finfo(whole.dtype).tiny)]

    def _exchanged(self, flat: Tensor) -> Tensor:
        """Of `size` slices, each process gets one, and has those that it got: [size, ...]"""
        if self.size > 1:
            given, flat = flat, torch.empty_like(flat)
            _together(distributed.all_to_all_single, flat, given)
        return flat.view(self.size, -1)

    def begin(self, state: State, device: torch.device) -> None:
        """The first process tells the others where it stands. Raises Lost."""
        if self.size > 1:
            self._told(content_of(state, self.work), device)

    def begun(self, device: torch.device) -> State:
        """What another one hears. Raises Lost, or ValueError where the first one does other work."""
        try:
            return state_of(self._told(b"", device), self.work)
        except Lost:
            raise
        except ValueError:
            other = "other params, data, code or libraries, or another kind of processor, than the first one"
            raise ValueError(f"process {self.rank} of this training has {other}; make them the same") from None

    def _told(self, content: bytes, device: torch.device) -> bytes:
        """What the first process says."""
        size = torch.tensor([len(content)], device=device)
        _together(distributed.broadcast, size, 0)
        data = torch.zeros(int(size), dtype=torch.uint8, device=device)
        if content:
            data.copy_(torch.frombuffer(bytearray(content), dtype=torch.uint8))
        _together(distributed.broadcast, data, 0)
        return data.cpu().numpy().tobytes()


def _together(operation: Callable[..., Any], *arguments: Tensor | int) -> None:
    """Waits for the others, and hears Ctrl-C meanwhile. Raises Lost."""
    try:
        done = operation(*arguments, async_op=True)
        while not done.is_completed():
            time.sleep(LOOK)
        done.wait()
    except RuntimeError as error:
        raise Lost(str(error)) from None


def _weight(batch: Tensors) -> Tensor:
    """[2] of frames, and of readings."""
    frames = batch.weight.sum()
    readings = frames if batch.present is None else (batch.weight[..., None] * batch.present).sum()
    return torch.stack([frames, readings])


def _flat(model: nn.Module, losses: Sequence[Tensor]) -> Tensor:
    """The gradient that the parameters hold, and the losses, in one row."""
    gradients = [each.grad.flatten() for each in model.parameters() if each.grad is not None]
    return torch.cat([*gradients, torch.stack([*losses])])


def _padded(row: Tensor, multiple: int) -> Tensor:
    return F.pad(row, (0, -len(row) % multiple)) if len(row) % multiple else row


def _fill(model: nn.Module, row: Tensor) -> Tensor:
    """Let the parameters hold the gradient of a row; returns the losses behind it."""
    for parameter in model.parameters():
        if parameter.grad is not None:
            gradient, row = row.tensor_split([parameter.numel()])
            parameter.grad = gradient.view_as(parameter)
    return row
