"""What all frames of a data set have in common, and how one deviates from it."""

from dataclasses import replace
from typing import NamedTuple

import numpy as np

from worldmodel.episodes.frame import Frame
from worldmodel.episodes.schema import Kind
from worldmodel.episodes.table import Table
from worldmodel.logs.rows import Row


class Signature(NamedTuple):
    """How many numbers of which kind a frame holds."""

    features: int
    kind: Kind
    action: int  # length of a continuous action, else 0
    reward: bool
    context: int = 0  # 0: none

    @classmethod
    def of(cls, frame: Frame) -> "Signature":
        action, context = frame.action, 0 if frame.context is None else frame.context.size
        kind: Kind = "none" if action is None else "continuous" if isinstance(action, np.ndarray) else "discrete"
        width = action.size if isinstance(action, np.ndarray) else 0
        return cls(frame.features.size, kind, width, frame.reward is not None, context)

    @classmethod
    def of_table(cls, table: Table) -> "Signature":
        actions, context = table.actions, 0 if table.context is None else table.context.shape[1]
        kind: Kind = "none" if actions is None else "discrete" if actions.ndim == 1 else "continuous"
        width = actions.shape[1] if actions is not None and actions.ndim == 2 else 0
        return cls(table.features.shape[1], kind, width, table.rewards is not None, context)

    def only_lacks(self, common: "Signature") -> bool:
        """Whether the common one with an action, a reward or a context less, as the last frame of an episode may be."""
        return (
            self.features == common.features
            and self[1:3] in (("none", 0), common[1:3])
            and self.reward <= common.reward
            and self.context in (0, common.context)
        )

    def unlike(self, common: "Signature") -> str:
        """In what it differs from the common one."""
        found = zip(("features", "action", "reward", "context"), self._told(), common._told(), strict=True)
        return "; ".join(
            f"{name}: found {own}, expected {other.removesuffix(' numbers') if name == 'features' else other} "
            "as in most rows"
            for name, own, other in found
            if own != other
        )

    def _told(self) -> list[str]:
        action = {"none": "none", "discrete": "an integer", "continuous": f"{self.action} numbers"}[self.kind]
        context = f"{self.context} numbers" if self.context else "none"
        return [f"{self.features} numbers", action, "one" if self.reward else "none", context]


def conforming(row: Row, signature: Signature) -> Row:
    """The row, refused where its frame deviates from the signature; one that only lacks something may be a last one."""
    if row.frame is None or (own := Signature.of(row.frame)) == signature:
        return row
    reason = own.unlike(signature)
    return replace(row, unless_last=reason) if own.only_lacks(signature) else replace(row, reason=reason)
