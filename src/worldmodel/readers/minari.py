"""Minari: a dataset's folder, or its data/main_data.hdf5 with a group `episode_N` each.

T actions lead through T+1 observations. The last frame repeats the last action and its reward is 0: nothing follows
it, so nothing is learned from either. `terminations` end a task; `truncations` end a recording.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from worldmodel.core.regular import read_text
from worldmodel.episodes.schema import Episode
from worldmodel.readers.hdf5 import frame_times, holds, numbered, observed_and_taken, opened
from worldmodel.readers.source import Source

KEYS = ("features", "rate")
FILE = "main_data.hdf5"


def recognizes(path: Path) -> bool:
    return _file(path).is_file() if path.is_dir() else holds(path, "episode_")


def episodes(source: Source) -> Iterator[Episode]:
    agent = _dataset(_file(source.path))
    with opened(_file(source.path)) as file:
        for name, group in numbered(file, "episode_"):
            features, actions = (each.rows() for each in observed_and_taken(source, group, "observations"))
            if len(features) - len(actions) not in (0, 1) or not len(actions):
                raise ValueError(f"{name}: {len(features)} observations of {len(actions)} actions, expected one more")
            length = len(features)
            yield source.episode(
                name,
                name.removeprefix("episode_"),
                frame_times(length, source.fields.rate),
                features,
                _padded(actions, length, actions[-1:]),
                _padded(group["rewards"][:], length, np.zeros(1, np.float32)),
                agent_id=agent,
                terminal=_last(group, "terminations"),
                truncated=_last(group, "truncations"),
            )


def _last(group: Any, name: str) -> bool:
    return name in group and bool(group[name][-1:].any())


def _file(path: Path) -> Path:
    return path / "data" / FILE if path.is_dir() else path


def _dataset(file: Path) -> str:
    """The id of the data set, or else the name of its folder or file."""
    about = file.with_name("metadata.json")
    if about.is_file():
        return str(json.loads(read_text(about))["dataset_id"])
    return file.stem if file.name != FILE else file.resolve().parents[1].name


def _padded(array: NDArray[np.generic], length: int, last: NDArray[np.generic]) -> NDArray[np.generic]:
    return array if len(array) == length else np.concatenate([array, last.astype(array.dtype)])
