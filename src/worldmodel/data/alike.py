"""What lines hold that differ from a first one in numbers alone, as columns."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from worldmodel.data.columns import Columns, Ints, float32, require
from worldmodel.data.frame import MAX_ACTIONS, Float32
from worldmodel.data.template import Template


@dataclass(frozen=True)
class Alike:
    """The first of such lines."""

    template: Template
    only: Columns  # what it holds itself

    def columns(self, text: bytes, numbers: NDArray[np.float64], first: int) -> Columns:
        """What template.numbers found, as columns."""
        small = float32(numbers)
        part = {name: small[:, where] for name, where in self.template.columns.items()}
        count, kind, zeros = len(numbers), self.only.signature.kind, np.zeros(len(numbers), np.int64)
        actions: Ints | Float32 | None = part.get("action")
        if kind == "discrete":
            actions = numbers[:, self.template.columns["action"]][:, 0].astype(np.int64)
            require(self.template.whole("action", text) and bool(actions.max() < MAX_ACTIONS))
        return replace(
            self.only,
            lines=np.arange(first, first + count),
            agent_index=zeros,
            timestamps=numbers[:, self.template.columns["timestamp"]][:, 0],
            features=part["features"],
            actions=actions,
            rewards=part["reward"][:, 0] if "reward" in part else None,
            meta_index=zeros,
        )
