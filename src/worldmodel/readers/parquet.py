"""Parquet: a file with a row for each frame; columns of numbers, or of lists of them."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from worldmodel.readers import tables
from worldmodel.readers.field_map import FieldMap
from worldmodel.readers.source import Names, Recorded

KEYS = tables.KEYS


def recognizes(path: Path) -> bool:
    return path.suffix == ".parquet" and path.is_file()


def columns(path: Path) -> dict[str, Any]:
    """Name -> type."""
    import pyarrow.parquet as pq

    return {each.name: each.type for each in pq.read_schema(path)}


def episodes(path: Path, fields: FieldMap, names: Names) -> Iterator[Recorded]:
    import pyarrow.parquet as pq

    types = columns(path)
    fields = tables.mapped(path, list(types), fields)
    names.left_out |= {name: str(kind) for name, kind in types.items() if name not in tables.wanted(fields)}
    with pq.ParquetFile(path) as file:
        grouping = tables.Grouping(fields, names, path.stem)
        yield from grouping.over(batches(file, fields))
        yield from grouping.end()


def batches(file: Any, fields: FieldMap) -> Iterator[Any]:
    yield from file.iter_batches(columns=tables.wanted(fields))
