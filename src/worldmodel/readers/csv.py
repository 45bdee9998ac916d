"""CSV: a header, then a row for each frame. Rows are counted from 0, behind the header."""

import gzip
from collections.abc import Iterator
from contextlib import nullcontext
from csv import reader
from pathlib import Path
from typing import Any, BinaryIO

from worldmodel.episodes.schema import Episode
from worldmodel.readers import tables
from worldmodel.readers.source import Source

KEYS = tables.KEYS
BLOCK_BYTES = 1 << 22


def recognizes(path: Path) -> bool:
    return path.name.endswith((".csv", ".csv.gz")) and path.is_file()


def names(stream: BinaryIO, name: str) -> list[str]:
    """Of the columns, as the header of a file of that name has them."""
    with gzip.open(stream) if name.endswith(".gz") else nullcontext(stream) as lines:
        return next(reader([lines.readline(BLOCK_BYTES).decode("utf-8-sig", "replace")]), [])


def columns(path: Path) -> dict[str, Any]:
    """Name -> type, as the first rows look."""
    from pyarrow import csv

    with csv.open_csv(path) as head:
        return {each.name: each.type for each in head.schema}


def episodes(source: Source) -> Iterator[Episode]:
    from pyarrow import bool_, csv, float64, int64, string, types

    reading = csv.ReadOptions(use_threads=False, block_size=BLOCK_BYTES)  # one thread alone names rows in errors
    known = columns(source.path)
    fields = tables.mapped(source, known)
    forced = dict.fromkeys((*fields.features, *fields.actions, *fields.context, fields.reward), float64())
    if isinstance(fields.action, str) and types.is_integer(known[fields.action]):
        forced[fields.action] = int64()
    forced |= dict.fromkeys((fields.agent_id, fields.episode), string())
    if fields.timestamp is not None and not types.is_temporal(known[fields.timestamp]):
        whole = fields.unit != "s" and types.is_integer(known[fields.timestamp])
        forced[fields.timestamp] = int64() if whole else float64()
    for end in (fields.terminal, fields.truncated):
        if end is not None and not types.is_floating(known[end]):
            forced[end] = bool_()
    forced.pop(None, None)
    options = csv.ConvertOptions(column_types=forced, include_columns=tables.wanted(fields))
    grouping = tables.Grouping(source, fields)
    with csv.open_csv(source.path, reading, convert_options=options) as batches:
        yield from grouping.over(batches)
    yield from grouping.end()
