"""What the compared models share: how one is made, updated and asked. All in standardized units.

Dimension key: B batch, H history, K horizon, T = H + K, F features, A actions, M members, D hidden, Z latent.
"""

from dataclasses import dataclass
from typing import ClassVar, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from worldmodel.arrays.scaler import MIN_SPREAD
from worldmodel.arrays.windows import Packed
from worldmodel.core.typing import Ints
from worldmodel.model.tensors import Tensors

Kind = TypeVar("Kind", bound="Peer")


@dataclass(frozen=True)
class Sizes:
    features: int
    actions: int
    rewards: bool
    history: int
    horizon: int


class Peer(nn.Module):
    """A dynamics model that is trained on windows; `new_peer` makes one."""

    lr: ClassVar[float]  # peak learning rate
    weight_decay: ClassVar[float] = 0.0
    clip_norm: ClassVar[float] = 1.0
    batch_size: ClassVar[int] = 64  # windows an update
    single_transitions: ClassVar[bool] = False  # trains on windows of two frames
    rollouts: int = 1  # of each plan, whose mean is predicted

    change_mean: Tensor  # [F] of the change from a frame to the next
    change_std: Tensor  # [F]
    optimizer: torch.optim.Optimizer
    draws: torch.Generator  # all randomness after the start

    def __init__(self, sizes: Sizes, change_mean: Tensor, change_std: Tensor) -> None:
        super().__init__()
        self.sizes = sizes
        self.register_buffer("change_mean", change_mean)
        self.register_buffer("change_std", change_std)

    def loss(self, batch: Tensors) -> Tensor:
        """What an update descends."""
        raise NotImplementedError

    def predict(self, batch: Tensors) -> Tensor:
        """Features [B, K, F] of the planned actions; sees history, past and planned actions alone."""
        raise NotImplementedError

    def new_optimizer(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.parameters(), lr=self.lr, weight_decay=self.weight_decay, fused=True)

    def update(self, batch: Tensors, share: float = 1.0) -> None:
        """One optimizer step at `share` of every peak learning rate."""
        for group in self.optimizer.param_groups:
            group["lr"] = share * group.setdefault("peak", group["lr"])
        loss = self.loss(batch)
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.parameters(), self.clip_norm)
        self.optimizer.step()


def new_peer(kind: type[Kind], packed: Packed, episodes: Ints, seed: int, history: int, horizon: int) -> Kind:
    """Weights and later draws follow from the seed; scales of changes from the given train episodes."""
    sizes = Sizes(packed.features.shape[1], packed.actions.shape[1], packed.rewards is not None, history, horizon)
    change = np.concatenate([np.diff(packed.features[packed.rows(episode)], axis=0) for episode in episodes])
    spread = change.std(axis=0)
    std = np.where(spread < MIN_SPREAD, 1, spread).astype(np.float32)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        peer = kind(sizes, torch.from_numpy(change.mean(axis=0)), torch.from_numpy(std))
    peer.optimizer, peer.draws = peer.new_optimizer(), torch.Generator().manual_seed(seed)
    return peer


def frames_of(batch: Tensors) -> Tensor:
    """History and what came, [B, T, F]"""
    return torch.cat([batch.history, batch.features], dim=1)


def actions_of(batch: Tensors) -> Tensor:
    """Past and planned actions, [B, T - 1, A]: number t leads from frame t to frame t + 1."""
    return torch.cat([batch.past_actions, batch.planned_actions], dim=1)


def exists_of(batch: Tensors) -> Tensor:
    """Weights of all frames, [B, T]; those of the history are 1."""
    return torch.cat([torch.ones_like(batch.history[..., 0]), batch.weight], dim=1)


def gaussian_nats(error: Tensor, log_variance: Tensor) -> Tensor:
    """Negative log-likelihood but for its constant, elementwise."""
    return 0.5 * (error.square() * (-log_variance).exp() + log_variance)
