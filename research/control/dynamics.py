"""A peer as something to plan in: the planner's Dynamics, of a model of research/peers.

Peers predict frames alone. What a step earns and whether it ends the task is judged by one network for all of them,
fitted on the train split, so that they are compared by their dynamics.
Dimension key: B plans, H history, K frames of a plan, F features, A actions.
"""

import copy
import math
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn
from torch.nn import functional as F

from research.peers.peer import Peer
from worldmodel.arrays.scaler import Scaler
from worldmodel.arrays.windows import Batch, Packed, Windows, windows
from worldmodel.bundle import Range
from worldmodel.client import Future
from worldmodel.core.typing import Floats
from worldmodel.evaluation.scoring import chunks
from worldmodel.model.optimization import learning_rate
from worldmodel.model.tensors import Tensors

HIDDEN = 256
STEPS, LOOK = 5000, 250  # updates, and between two looks at val transitions
TRANSITIONS = 256  # an update
LR = 1e-3


class Judge(nn.Module):
    """A frame, the action there and the next frame -> reward, standardized, and log-odds of the task's end."""

    def __init__(self, features: int, actions: int) -> None:
        super().__init__()
        widths = [2 * features + actions, HIDDEN, HIDDEN]
        layers = [part for pair in pairwise(widths) for part in (nn.Linear(*pair), nn.SiLU())]
        self.layers = nn.Sequential(*layers, nn.Linear(HIDDEN, 2))

    def forward(self, before: Tensor, action: Tensor, after: Tensor) -> tuple[Tensor, Tensor]:
        reward, odds = self.layers(torch.cat([before, action, after], dim=-1)).unbind(-1)
        return reward, odds

    def loss(self, batch: Batch) -> Tensor:
        """Of windows of two frames."""
        parts = batch.history, batch.planned_actions, batch.features
        reward, odds = self(*(torch.from_numpy(each[:, 0]) for each in parts))
        assert batch.rewards is not None
        loss = F.mse_loss(reward, torch.from_numpy(batch.rewards[:, 0]))
        if batch.ended is not None:
            loss = loss + F.binary_cross_entropy_with_logits(odds, torch.from_numpy(batch.ended[:, 0]))
        return loss


def new_judge(packed: Packed, seed: int) -> Judge:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Judge(packed.features.shape[1], packed.actions.shape[1])


def fit_judge(packed: Packed, seed: int, steps: int = STEPS) -> Judge:
    """Adam on train transitions; the weights that err least on val ones."""
    train, val = (windows(packed, packed.where(split), 1, 1) for split in ("train", "val"))
    judge, rng = new_judge(packed, seed), np.random.default_rng(seed)
    optimizer = torch.optim.Adam(judge.parameters())
    best, weights = math.inf, judge.state_dict()
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = learning_rate(step, steps, LR)
        loss = judge.loss(train.take(rng.integers(len(train), size=TRANSITIONS)))
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        if (step + 1) % LOOK == 0 or step + 1 == steps:
            error = _error(judge, val) if len(val) else -step
            if error < best:
                best, weights = error, copy.deepcopy(judge.state_dict())
    judge.load_state_dict(weights)
    return judge


def _error(judge: Judge, val: Windows) -> float:
    with torch.no_grad():
        losses = [(len(batch.weight), judge.loss(batch).item()) for batch in chunks(val)]
    return sum(count * loss for count, loss in losses) / sum(count for count, _ in losses)


@dataclass
class PeerDynamics:
    """Raw units in and out; z is the history and its actions, standardized, end to end."""

    peer: Peer
    judge: Judge
    scaler: Scaler
    discrete: bool
    action_range: Range | None  # of the logs, as ours has it
    ends: bool  # whether the task ends in the logs

    context_count: ClassVar[int] = 0

    @property
    def history(self) -> int:
        return self.peer.sizes.history

    @property
    def horizon(self) -> int:
        return self.peer.sizes.horizon

    @property
    def feature_count(self) -> int:
        return self.scaler.features.width

    @property
    def action_count(self) -> int:
        return self.peer.sizes.actions

    def encode(self, features: ArrayLike, actions: ArrayLike | None = None, context: ArrayLike | None = None) -> Floats:
        """Frames [T, F] and the actions [T-1, A] between them -> z [Z]; fewer than H are padded as for ours."""
        frames, lacking = np.asarray(features, np.float32), self.history - len(np.asarray(features))
        past = np.zeros((0, self.action_count), np.float32) if actions is None else np.asarray(actions, np.float32)
        frames, past = np.pad(frames, ((lacking, 0), (0, 0)), "edge"), np.pad(past, ((lacking, 0), (0, 0)))
        parts = self.scaler.features.transform(frames), self.scaler.actions.transform(past)
        return np.concatenate([part.ravel() for part in parts])

    def predict(self, z: ArrayLike, actions: ArrayLike | None = None, context: ArrayLike | None = None) -> Future:
        """z [B, Z] and plans [B, K, A] -> K frames."""
        with torch.no_grad():
            planned = self.scaler.actions.transform(np.asarray(actions, np.float32))
            batch = self._batch(np.asarray(z, np.float32), planned)
            features = self.peer.predict(batch)
            before = torch.cat([batch.history[:, -1:], features[:, :-1]], dim=1)
            reward, odds = self.judge(before, batch.planned_actions, features)
        assert self.scaler.rewards is not None
        raw = self.scaler.features.inverse(features.numpy())
        earned = self.scaler.rewards.inverse(reward.numpy()[..., None])[..., 0].astype(np.float32)
        ended = odds.sigmoid().numpy() if self.ends else None
        return Future(raw, np.zeros(raw.shape, np.float32), earned, None, ended)

    def _batch(self, z: Floats, planned: Floats) -> Tensors:
        history, frames = self.history, len(self.scaler.features.center) * self.history
        number, length = planned.shape[:2]
        none = torch.zeros(number, length)
        return Tensors(
            history=torch.from_numpy(np.ascontiguousarray(z[:, :frames]).reshape(number, history, -1)),
            past_actions=torch.from_numpy(np.ascontiguousarray(z[:, frames:]).reshape(number, history - 1, -1)),
            planned_actions=torch.from_numpy(planned),
            features=none,
            rewards=None,
            weight=none,
            observed=none[:, 0],
        )
