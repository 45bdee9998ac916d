"""LeRobot v2.1 (a Parquet file for each episode) and v3.0 (many in one): meta/info.json and data/**.parquet.

Features are the numbers of all `observation.*` columns, sorted by name; images and videos are left out. The last frame
tells how an episode ended: by `next.terminated` or `next.success` the task, by `next.truncated` the recording.
`next.done` alone means an end of the task where some recordings lack it; where all have it, they just stop there.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from worldmodel.core.regular import read_text
from worldmodel.episodes.schema import Episode
from worldmodel.readers import tables
from worldmodel.readers.field_map import FieldMap
from worldmodel.readers.source import Source

KEYS = ("features",)
INFO = Path("meta/info.json")
OBSERVED = "observation."


def recognizes(path: Path) -> bool:
    return (path / INFO).is_file()


def episodes(source: Source) -> Iterator[Episode]:
    import pyarrow.parquet as pq

    path = source.path
    about: dict[str, Any] = json.loads(read_text(path / INFO))["features"]
    files = sorted((path / "data").rglob("*.parquet"))
    if not files:
        raise ValueError(f"{path / 'data'}: holds no .parquet file; fetch the whole data set")
    observed = {name: each["dtype"] for name, each in about.items() if name.startswith(OBSERVED)}
    images = {name: kind for name, kind in observed.items() if kind in ("image", "video", "string")}
    source.left_out |= images
    fields = FieldMap(
        features=source.fields.features or tuple(sorted(observed.keys() - images)),
        action=_action(about.get("action")),
        reward="next.reward" if "next.reward" in about else None,
        timestamp="timestamp",
        episode="episode_index",
        **_ends(about, files),
    )
    labels = {name: _labels(each.get("names")) for name, each in about.items()}
    grouping = tables.Grouping(source, fields, path.resolve().name, labels, strict=False)
    for each in files:
        with pq.ParquetFile(each) as file:
            tables.require(each, file.schema_arrow.names, fields)
            batches = file.iter_batches(columns=tables.wanted(fields))
            yield from grouping.over(batches, f"{each.relative_to(path)}, ")
    yield from grouping.end()


def _action(about: Mapping[str, Any] | None) -> str | tuple[str, ...] | None:
    """One integer is a choice, all else a vector."""
    if about is None:
        return None
    return "action" if about["dtype"].startswith(("int", "uint")) and about["shape"] in ([1], []) else ("action",)


def _ends(about: Mapping[str, Any], files: Sequence[Path]) -> dict[str, Any]:
    """Which columns tell of ends."""
    task = next((name for name in ("next.terminated", "next.success") if name in about), None)
    if "next.done" not in about or task == "next.terminated":
        return {"terminal": task, "truncated": "next.truncated" if "next.truncated" in about else None}
    if task or all(map(_done_at_each_end, files)):
        return {"terminal": task, "truncated": "next.done"}
    return {"terminal": "next.done"}


def _done_at_each_end(file: Path) -> bool:
    import pyarrow.parquet as pq

    table = pq.read_table(file, columns=["episode_index", "next.done"])
    number, done = (tables.numbers(table[name].combine_chunks(), name).reshape(-1) for name in table.column_names)
    last = np.append(np.flatnonzero(np.diff(number)), len(number) - 1)
    return bool(np.asarray(done)[last].all())


def _labels(names: Any) -> list[str]:
    """LeRobot has lists of names, or mappings that hold one or give each name its index."""
    while isinstance(names, dict):
        lists = [each for each in names.values() if isinstance(each, list)]
        names = lists[0] if lists else list(names)
    return [str(each) for each in names or ()]
