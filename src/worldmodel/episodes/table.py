"""Table: some frames of one episode, column by column.

Shapes: T frames, F features, A actions, C context.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from worldmodel.core.typing import Floats, Reals


class Table(NamedTuple):
    timestamps: NDArray[np.float64]  # [T] seconds
    features: Reals  # [T, F], float64 where float32 would lose what moves; NaN where a reading is missing
    actions: NDArray[np.int64] | Floats | None  # [T] discrete, [T, A] continuous
    rewards: Floats | None  # [T]
    confidence: Floats | None  # [T], dreams that state it
    context: Floats | None = None  # [T, C], what is known ahead

    def map(self, function: Callable[[NDArray[Any]], NDArray[Any]]) -> "Table":
        """Of each column that is there."""
        return Table._make(None if column is None else function(column) for column in self)

    @staticmethod
    def joined(tables: Sequence["Table"]) -> "Table":
        """Tables of one shape, end to end."""
        if len(tables) == 1:
            return tables[0]
        columns = zip(*tables, strict=True)
        return Table._make(None if parts[0] is None else np.concatenate(parts) for parts in columns)
