"""Table: some frames of one episode, column by column.

Shapes: T frames, F features, A actions, C context.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from worldmodel.core.typing import Floats, Reals
from worldmodel.episodes.frame import Frame, is_number, wrong


class Table(NamedTuple):
    timestamps: NDArray[np.float64]  # [T] seconds
    features: Reals  # [T, F], float64 where float32 would lose what moves; NaN where a reading is missing
    actions: NDArray[np.int64] | Floats | None  # [T] discrete, [T, A] continuous
    rewards: Floats | None  # [T]
    confidence: Floats | None  # [T], dreams that state it
    context: Floats | None = None  # [T, C], what is known ahead

    @staticmethod
    def of(frames: Sequence[Frame], dream: bool) -> "Table":
        """Raises ValueError where frames of different shapes, or with and without confidence, are mixed."""
        return Table(
            timestamps=np.array([frame.timestamp for frame in frames], np.float64),
            features=np.stack([frame.features for frame in frames]),
            actions=_column([frame.action for frame in frames], np.int64),
            rewards=_column([frame.reward for frame in frames], np.float32),
            confidence=_column([_confidence(frame) for frame in frames], np.float32) if dream else None,
            context=_column([frame.context for frame in frames], np.float32),
        )

    @staticmethod
    def joined(tables: Sequence["Table"]) -> "Table":
        """Tables of one shape, end to end."""
        if len(tables) == 1:
            return tables[0]
        columns = zip(*tables, strict=True)
        return Table._make(None if parts[0] is None else np.concatenate(parts) for parts in columns)


def _confidence(frame: Frame) -> float | None:
    """Trust in a dreamed frame, 0..1, or None. Raises ValueError for other values."""
    confidence = frame.meta.get("confidence")
    if "confidence" in frame.meta and not is_number(confidence, 0, 1):
        raise wrong("meta.confidence", confidence, "a number from 0 to 1, or no such key")
    return confidence


def _column(values: Sequence[Any], scalar: type[np.generic]) -> Any:
    """[T] of scalars or [T, A] of vectors; None where no frame has a value."""
    missing = sum(value is None for value in values)
    if missing == len(values):
        return None
    if missing:
        raise ValueError(f"{missing} of {len(values)} frames lack a value that the others have")
    return np.stack(values) if isinstance(values[0], np.ndarray) else np.array(values, scalar)
