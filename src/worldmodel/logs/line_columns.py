"""What msgspec makes of lines, as columns."""

from collections.abc import Iterable, Sequence
from itertools import chain, pairwise
from typing import Annotated, Any, NamedTuple

import numpy as np
from msgspec import UNSET, Meta, Struct, UnsetType
from msgspec.structs import astuple

from worldmodel.episodes.frame import FLOAT32_MAX, MAX_ACTIONS, MAX_NUMBERS
from worldmodel.episodes.table import Table

Number = Annotated[float, Meta(ge=-FLOAT32_MAX, le=FLOAT32_MAX)]
Vector = Annotated[list[Number], Meta(min_length=1, max_length=MAX_NUMBERS)]


class Line(Struct, forbid_unknown_fields=True, gc=False, kw_only=True):
    agent_id: str | UnsetType
    timestamp: float
    features: Annotated[list[Number | None], Meta(min_length=1, max_length=MAX_NUMBERS)]
    action: Vector | Annotated[int, Meta(ge=0, lt=MAX_ACTIONS)] | UnsetType = UNSET
    reward: Number | UnsetType = UNSET
    context: Vector | UnsetType = UNSET
    meta: dict[str, Any] | UnsetType = UNSET


class InnerLine(Line, forbid_unknown_fields=True, gc=False, kw_only=True):
    agent_id: str | UnsetType = UNSET


class EpisodeLine(Struct, forbid_unknown_fields=True, gc=False):
    agent_id: str
    episode: Annotated[list[InnerLine], Meta(min_length=1)]


class Fields(NamedTuple):
    """The fields of lines, one by one; UNSET where a line lacks it."""

    agent_id: Sequence[Any]
    timestamp: Sequence[float]
    features: Sequence[Sequence[float | None]]
    action: Sequence[Any]
    reward: Sequence[Any]
    context: Sequence[Any]
    meta: Sequence[Any]

    @classmethod
    def of(cls, lines: Iterable[Line]) -> "Fields":
        return cls(*zip(*map(astuple, lines), strict=True))

    def shapes(self) -> list[tuple[int, int]]:
        """First and last + 1 of lines that stand together and lack the same fields, as long as each other."""
        some = self[2:6]
        if all(len(set(map(type, column))) == 1 for column in some) and all(
            len(set(map(len, column))) == 1 for column in some if type(column[0]) is list
        ):
            return [(0, len(self.meta))]
        kinds = [[len(each) if type(each) is list else type(each) for each in column] for column in some]
        rows = list(zip(*kinds, strict=True))
        changes = [number for number in range(1, len(rows)) if rows[number] != rows[number - 1]]
        return list(pairwise([0, *changes, len(rows)]))


def table_of(columns: Fields) -> Table:
    action, reward = columns.action, columns.reward
    return Table(
        timestamps=np.array(columns.timestamp, np.float64),
        features=_matrix(columns.features, np.float64),
        actions=np.array(action, np.int64) if type(action[0]) is int else _matrix(action, np.float32),
        rewards=None if reward[0] is UNSET else np.array(reward, np.float64).astype(np.float32),
        confidence=None,
        context=_matrix(columns.context, np.float32),
    )


def _matrix(rows: Sequence[Any], scalar: type[np.floating[Any]]) -> Any:
    """Rows of one length as float64, rounded to `scalar`; None where there are none."""
    if rows[0] is UNSET:
        return None
    shape = len(rows), len(rows[0])
    try:
        flat = np.fromiter(chain.from_iterable(rows), np.float64, shape[0] * shape[1])
    except TypeError:  # a null
        flat = np.array(list(chain.from_iterable(rows)), np.float64)
    return flat.reshape(shape).astype(scalar, copy=False)
