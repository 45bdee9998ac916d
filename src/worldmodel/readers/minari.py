"""Minari: a dataset's folder, or its data/main_data.hdf5 with a group `episode_N` each.

T actions lead through T+1 observations. The last frame repeats the last action and its reward is 0: nothing follows
it, so nothing is learned from either. `terminations` end a task; `truncations` end a recording.
"""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from worldmodel.core.regular import read_text
from worldmodel.readers.field_map import FieldMap
from worldmodel.readers.hdf5 import columns, frame_times, holds, numbered, opened
from worldmodel.readers.source import Names, Recorded

KEYS = ("features", "rate")
FILE = "main_data.hdf5"


def recognizes(path: Path) -> bool:
    return _file(path).is_file() if path.is_dir() else holds(path, "episode_")


def episodes(path: Path, fields: FieldMap, names: Names) -> Iterator[Recorded]:
    agent = _dataset(_file(path))
    with opened(_file(path)) as file:
        for name, group in numbered(file, "episode_"):
            observed = columns(group, fields.features or ("observations",), names)
            taken = columns(group, ("actions",), names)
            names.features, names.actions = observed.names(), taken.names()
            features, actions = observed.rows(), taken.rows()
            if len(features) - len(actions) not in (0, 1) or not len(actions):
                raise ValueError(f"{name}: {len(features)} observations of {len(actions)} actions, expected one more")
            length, ends = len(features), group["terminations"][-1:]
            yield Recorded(
                agent_id=agent,
                name=name.removeprefix("episode_"),
                place=name,
                row=0,
                timestamps=frame_times(length, fields.rate),
                features=features,
                actions=_padded(actions, length, actions[-1:]),
                rewards=_padded(group["rewards"][:], length, np.zeros(1, np.float32)),
                terminal=bool(ends.any()),
            )


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
