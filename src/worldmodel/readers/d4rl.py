"""D4RL: flat HDF5 with a row for each frame: observations, actions, rewards, terminals, timeouts.

An episode ends behind a row of `terminals` (the task ended) or `timeouts` (the recording stopped).
"""

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from worldmodel.readers.field_map import FieldMap
from worldmodel.readers.hdf5 import columns, frame_times, holds, opened
from worldmodel.readers.source import Names, Recorded

KEYS = ("features", "rate")
BLOCK = 1 << 16  # rows read at once, and more where an episode has more


def recognizes(path: Path) -> bool:
    return holds(path, "observations")


def episodes(path: Path, fields: FieldMap, names: Names) -> Iterator[Recorded]:
    with opened(path) as file:
        observed = columns(file, fields.features or ("observations",), names)
        taken, earned = columns(file, ("actions",), names), columns(file, ("rewards",), names)
        names.features, names.actions = observed.names(), taken.names()
        terminals = file["terminals"][:].astype(bool).reshape(-1)
        timeouts = file["timeouts"][:].astype(bool).reshape(-1) if "timeouts" in file else np.zeros_like(terminals)
        lengths = [len(each.datasets[0]) for each in (observed, taken, earned)] + [len(terminals), len(timeouts)]
        if len(set(lengths)) > 1:
            raise ValueError(f"rows of observations, actions, rewards, terminals, timeouts: {lengths}, expected equal")
        number = 0
        for bounds in _blocks(terminals | timeouts):
            start, stop = bounds[0], bounds[-1]
            features, actions, rewards = (each.rows(start, stop) for each in (observed, taken, earned))
            for begin, end in pairwise(bounds):
                own = slice(begin - start, end - start)
                yield Recorded(
                    agent_id=path.stem,
                    name=str(number),
                    place=f"episode {number}",
                    row=begin,
                    timestamps=frame_times(end - begin, fields.rate),
                    features=features[own],
                    actions=actions[own],
                    rewards=rewards[own],
                    terminal=bool(terminals[end - 1]),
                )
                number += 1


def _blocks(ends: NDArray[np.bool_]) -> Iterator[list[int]]:
    """Where the episodes of each block begin, and where its last one ends."""
    bounds = [0]
    for end in sorted({*(np.flatnonzero(ends) + 1).tolist(), len(ends)} - {0}):
        bounds.append(end)
        if end - bounds[0] >= BLOCK:
            yield bounds
            bounds = [end]
    if len(bounds) > 1:
        yield bounds
