"""robomimic: HDF5 with a group data/demo_N for each episode: obs/*, actions, rewards, dones.

`dones` of the last frame tells whether the task ended. The rate is that of env_args, or the field map's.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from worldmodel.readers.field_map import FieldMap
from worldmodel.readers.hdf5 import columns, frame_times, holds, numbered, opened
from worldmodel.readers.source import Names, Recorded

KEYS = ("features", "rate")


def recognizes(path: Path) -> bool:
    return holds(path, "demo_", "data")


def episodes(path: Path, fields: FieldMap, names: Names) -> Iterator[Recorded]:
    with opened(path) as file:
        rate = fields.rate or _rate(file["data"].attrs)
        for name, group in numbered(file["data"], "demo_"):
            observed = columns(group, fields.features or ("obs",), names)
            taken = columns(group, ("actions",), names)
            names.features, names.actions = observed.names(), taken.names()
            features, actions = observed.rows(), taken.rows()
            if len(features) != len(actions):
                raise ValueError(f"{name}: {len(features)} observations of {len(actions)} actions, expected as many")
            yield Recorded(
                agent_id=path.stem,
                name=name,
                place=f"data/{name}",
                row=0,
                timestamps=frame_times(len(features), rate),
                features=features,
                actions=actions,
                rewards=group["rewards"][:] if "rewards" in group else None,
                terminal="dones" in group and bool(group["dones"][-1:].any()),
            )


def _rate(attributes: Any) -> float | None:
    """Frames a second, where the simulator's settings tell."""
    found = json.loads(attributes.get("env_args", "{}")).get("env_kwargs", {}).get("control_freq")
    return float(found) if isinstance(found, int | float) and found > 0 else None
