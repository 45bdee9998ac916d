"""D4RL: flat HDF5 with a row for each frame: observations, actions, rewards, terminals, timeouts.

An episode ends behind a row of `terminals` (the task ended) or `timeouts` (the recording stopped).
"""

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from worldmodel.episodes.schema import Episode
from worldmodel.readers.hdf5 import frame_times, holds, numbers, observed_and_taken, opened
from worldmodel.readers.source import Source

KEYS = ("features", "rate")
BLOCK = 1 << 16  # rows read at once, and more where an episode has more


def recognizes(path: Path) -> bool:
    return holds(path, "observations")


def episodes(source: Source) -> Iterator[Episode]:
    with opened(source.path) as file:
        observed, taken = observed_and_taken(source, file, "observations")
        earned = numbers(file, ("rewards",), source)
        terminals = file["terminals"][:].astype(bool).reshape(-1)
        timeouts = file["timeouts"][:].astype(bool).reshape(-1) if "timeouts" in file else np.zeros_like(terminals)
        lengths = [len(each.datasets[0]) for each in (observed, taken, earned)] + [len(terminals), len(timeouts)]
        if len(set(lengths)) > 1:
            raise ValueError(f"rows of observations, actions, rewards, terminals, timeouts: {lengths}, expected equal")
        number = 0
        for bounds in _blocks(terminals | timeouts):
            features, actions, rewards = (each.rows(bounds[0], bounds[-1]) for each in (observed, taken, earned))
            for begin, end in pairwise(bounds):
                own = slice(begin - bounds[0], end - bounds[0])
                yield source.episode(
                    f"episode {number}",
                    str(number),
                    frame_times(end - begin, source.fields.rate),
                    features[own],
                    actions[own],
                    rewards[own],
                    rows=np.arange(begin, end),
                    terminal=bool(terminals[end - 1]),
                    truncated=bool(timeouts[end - 1]),
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
