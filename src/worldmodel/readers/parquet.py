"""Parquet: a file with a row for each frame; columns of numbers, or of lists of them."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from worldmodel.episodes.schema import Episode
from worldmodel.readers import tables
from worldmodel.readers.source import Source

KEYS = tables.KEYS


def recognizes(path: Path) -> bool:
    return path.suffix == ".parquet" and path.is_file()


def names(stream: BinaryIO, name: str) -> list[str]:
    """Of the columns in a file of that name."""
    import pyarrow.parquet as pq

    return pq.read_schema(stream).names  # type: ignore[no-any-return]


def columns(path: Path) -> dict[str, Any]:
    """Name -> type."""
    import pyarrow.parquet as pq

    return {each.name: each.type for each in pq.read_schema(path)}


def episodes(source: Source) -> Iterator[Episode]:
    import pyarrow.parquet as pq

    fields = tables.mapped(source, columns(source.path))
    grouping = tables.Grouping(source, fields)
    with pq.ParquetFile(source.path) as file:
        yield from grouping.over(file.iter_batches(columns=tables.wanted(fields)))
    yield from grouping.end()
