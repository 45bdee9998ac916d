"""Columns: good frame lines of one signature, field by field. Dimension key: N frames, F features, A actions."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from worldmodel.core.typing import Floats, Ints
from worldmodel.episodes.frame import Frame
from worldmodel.episodes.schema import Kind
from worldmodel.episodes.table import Table
from worldmodel.logs.rows import Row

Value = TypeVar("Value", str, bytes)


class Signature(NamedTuple):
    """What all rows of one data set have in common."""

    features: int
    kind: Kind
    action: int  # length of a continuous action, else 0
    reward: bool

    @classmethod
    def of(cls, frame: Frame) -> "Signature":
        action = frame.action
        if isinstance(action, np.ndarray):
            return cls(frame.features.size, "continuous", action.size, frame.reward is not None)
        return cls(frame.features.size, "none" if action is None else "discrete", 0, frame.reward is not None)


@dataclass(frozen=True)
class Columns:
    """Good frame lines of one signature, in order."""

    lines: Ints  # [N] numbers in their file
    agent_index: Ints  # [N] into agents
    agents: Sequence[str]
    timestamps: NDArray[np.float64]  # [N]
    features: Floats  # [N, F]
    actions: Ints | Floats | None  # [N] or [N, A]
    rewards: Floats | None  # [N]
    meta_index: Ints  # [N] into metas
    metas: Sequence[Mapping[str, Any]]
    signature: Signature

    def __len__(self) -> int:
        return len(self.lines)

    def agent(self, index: int) -> str:
        return self.agents[int(self.agent_index[index])]

    def table(self, indices: Ints, confidence: float | None) -> Table:
        """Some of the rows, in order, all of one confidence; no copy where they stand together."""
        first, end = int(indices[0]), int(indices[-1]) + 1
        rows = slice(first, end) if end - first == len(indices) else indices
        return Table(
            timestamps=self.timestamps[rows],
            features=self.features[rows],
            actions=None if self.actions is None else self.actions[rows],
            rewards=None if self.rewards is None else self.rewards[rows],
            confidence=None if confidence is None else np.full(len(indices), confidence, np.float32),
        )

    def row(self, index: int) -> Row:
        """What rows.py would say of the same line."""
        meta, agent = self.metas[self.meta_index[index]], self.agent(index)
        action = None if self.actions is None else self.actions[index]
        frame = Frame(
            agent_id=agent,
            timestamp=float(self.timestamps[index]),
            features=self.features[index].copy(),
            action=int(action) if isinstance(action, np.integer) else action,
            reward=None if self.rewards is None else float(self.rewards[index]),
            meta=meta,
        )
        return Row(int(self.lines[index]), "", frame, agent, meta)


def indexed(values: Sequence[Value]) -> tuple[Ints, list[Value]]:
    """Where each value stands among the distinct ones, and these in order of their first appearance."""
    numbers = {value: number for number, value in enumerate(dict.fromkeys(values))}
    return np.fromiter(map(numbers.__getitem__, values), np.int64, len(values)), list(numbers)
