"""robomimic: HDF5 with a group data/demo_N for each episode: obs/*, actions, rewards, dones.

`dones` of the last frame tells whether the task ended. The rate is that of env_args, or the field map's.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from worldmodel.episodes.schema import Episode
from worldmodel.readers.hdf5 import frame_times, holds, numbered, observed_and_taken, opened
from worldmodel.readers.source import Source

KEYS = ("features", "rate")


def recognizes(path: Path) -> bool:
    return holds(path, "demo_", "data")


def episodes(source: Source) -> Iterator[Episode]:
    with opened(source.path) as file:
        rate = source.fields.rate or _rate(file["data"].attrs)
        for name, group in numbered(file["data"], "demo_"):
            features, actions = (each.rows() for each in observed_and_taken(source, group, "obs"))
            if len(features) != len(actions):
                raise ValueError(f"{name}: {len(features)} observations of {len(actions)} actions, expected as many")
            yield source.episode(
                f"data/{name}",
                name,
                frame_times(len(features), rate),
                features,
                actions,
                group["rewards"][:] if "rewards" in group else None,
                terminal="dones" in group and bool(group["dones"][-1:].any()),
            )


def _rate(attributes: Any) -> float | None:
    """Frames a second, where the simulator's settings tell."""
    found = json.loads(attributes.get("env_args", "{}")).get("env_kwargs", {}).get("control_freq")
    return float(found) if isinstance(found, int | float) and found > 0 else None
