"""Good frame lines of one signature, field by field. Dimension key: N frames, F features, A actions."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from worldmodel.core.typing import Doubles, Floats, Ints
from worldmodel.episodes.frame import Frame, is_number
from worldmodel.episodes.schema import Episode, Kind
from worldmodel.episodes.table import Table
from worldmodel.logs.rows import Row

HANDLED_ALONE = (
    "episode_segment",
    "terminal",
    "truncated",
)  # a frame whose meta has one of these begins or ends an episode


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

    @classmethod
    def of_episode(cls, episode: Episode) -> "Signature":
        actions = episode.actions
        kind: Kind = "none" if actions is None else "discrete" if actions.ndim == 1 else "continuous"
        width = actions.shape[1] if actions is not None and actions.ndim == 2 else 0
        return cls(episode.features.shape[1], kind, width, episode.rewards is not None)


class Label(NamedTuple):
    """What a frame's meta says about its episode: frames with equal labels belong together unless time says no."""

    episode: str | None
    source: str | None
    split: str | None
    has_confidence: bool  # a number from 0 to 1
    alone: bool  # the frame needs a look by itself

    @classmethod
    def of(cls, meta: Mapping[str, Any]) -> "Label":
        good = "confidence" in meta and is_number(meta["confidence"], 0, 1)
        alone = ("confidence" in meta and not good) or any(key in meta for key in HANDLED_ALONE)
        episode = str(meta["episode"]) if "episode" in meta else None
        return cls(episode, meta.get("source"), meta.get("split"), good, alone)


@dataclass(frozen=True)
class FrameBatch:
    """Good frame lines of one signature, in order."""

    lines: Ints  # [N] numbers in their file
    agents: Sequence[str]  # [N]
    timestamps: Doubles  # [N] seconds
    features: Doubles  # [N, F]
    actions: Ints | Floats | None  # [N] discrete, [N, A] continuous
    rewards: Floats | None  # [N]
    metas: Sequence[Mapping[str, Any]]  # [N]
    labels: Sequence[Label]  # [N]
    signature: Signature

    def __len__(self) -> int:
        return len(self.lines)

    def table(self, indices: Ints, with_confidence: bool) -> Table:
        """Some of the rows, in order; no copy where they stand together."""
        first, end = int(indices[0]), int(indices[-1]) + 1
        rows = slice(first, end) if end - first == len(indices) else indices
        confidence = [self.metas[index]["confidence"] for index in indices] if with_confidence else None
        return Table(
            timestamps=self.timestamps[rows],
            features=self.features[rows],
            actions=None if self.actions is None else self.actions[rows],
            rewards=None if self.rewards is None else self.rewards[rows],
            confidence=None if confidence is None else np.array(confidence, np.float32),
        )

    def row(self, index: int) -> Row:
        """What rows.py would say of the same line."""
        meta, agent = self.metas[index], self.agents[index]
        action = None if self.actions is None else self.actions[index]
        frame = Frame(
            agent_id=agent,
            timestamp=float(self.timestamps[index]),
            features=self.features[index].astype(np.float64),
            action=int(action) if isinstance(action, np.integer) else action,
            reward=None if self.rewards is None else float(self.rewards[index]),
            meta=meta,
        )
        return Row(int(self.lines[index]), "", frame, agent, meta)


Rows = FrameBatch | list[Row]
