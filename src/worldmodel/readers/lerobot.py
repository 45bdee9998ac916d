"""LeRobot v2.1 (a Parquet file for each episode) and v3.0 (many in one): meta/info.json and data/**.parquet.

Features are the numbers of all `observation.*` columns, sorted by name; images and videos are left out. `next.reward`
and `next.done` count where they are there; `next.done` of the last frame tells whether the task ended.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from worldmodel.core.regular import read_text
from worldmodel.readers import tables
from worldmodel.readers.field_map import FieldMap
from worldmodel.readers.parquet import batches
from worldmodel.readers.source import Names, Recorded

KEYS = ("features",)
INFO = Path("meta/info.json")
OBSERVED = "observation."


def recognizes(path: Path) -> bool:
    return (path / INFO).is_file()


def episodes(path: Path, fields: FieldMap, names: Names) -> Iterator[Recorded]:
    import pyarrow.parquet as pq

    about: dict[str, Any] = json.loads(read_text(path / INFO))["features"]
    observed = {name: each for name, each in about.items() if name.startswith(OBSERVED)}
    numeric = [name for name, each in observed.items() if each["dtype"] not in ("image", "video", "string")]
    names.left_out |= {name: each["dtype"] for name, each in observed.items() if name not in numeric}
    fields = FieldMap(
        features=fields.features or tuple(sorted(numeric)),
        action=_action(about.get("action")),
        reward="next.reward" if "next.reward" in about else None,
        terminal="next.done" if "next.done" in about else None,
        timestamp="timestamp",
        episode="episode_index",
    )
    labels = {name: _labels(each.get("names")) for name, each in about.items()}
    grouping = tables.Grouping(fields, names, path.resolve().name, labels)
    files = sorted((path / "data").rglob("*.parquet"))
    if not files:
        raise ValueError(f"{path / 'data'}: holds no .parquet file; fetch the whole data set")
    for each in files:
        with pq.ParquetFile(each) as file:
            tables.mapped(each, file.schema_arrow.names, fields)
            yield from grouping.over(batches(file, fields), f"{each.relative_to(path)}, ")
    yield from grouping.end()


def _action(about: Mapping[str, Any] | None) -> str | tuple[str, ...] | None:
    """One integer is a choice, all else a vector."""
    if about is None:
        return None
    return "action" if about["dtype"].startswith(("int", "uint")) and about["shape"] in ([1], []) else ("action",)


def _labels(names: Any) -> list[str]:
    """LeRobot has lists of names, or mappings that hold one or give each name its index."""
    while isinstance(names, dict):
        lists = [each for each in names.values() if isinstance(each, list)]
        names = lists[0] if lists else list(names)
    return [str(each) for each in names or ()]
