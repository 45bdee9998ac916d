"""Sources among logs: what lies in a folder of logs and is read as it is, without `worldmodel convert`."""

from pathlib import Path

from worldmodel.readers import csv, lerobot, minari, parquet, tables
from worldmodel.readers.field_map import FieldMap, read_map
from worldmodel.readers.source import HDF5, SUFFIXES, Source, open_source


def is_source(path: Path) -> bool:
    """A data set's folder, HDF5, a file with its map beside it, or a table whose columns are called as in our logs."""
    if path.is_dir():
        return lerobot.recognizes(path) or minari.recognizes(path)
    if path.suffix in HDF5:
        return True
    return path.name.endswith(SUFFIXES) and path.is_file() and (map_of(path).is_file() or _is_named(path))


def _is_named(path: Path) -> bool:
    """True as well where the table cannot be read: reading it tells why."""
    table = next((table for table in (parquet, csv) if table.recognizes(path)), None)
    try:
        return table is not None and tables.named(list(table.columns(path)))
    except Exception:  # each library has some of its own
        return True


def source_at(path: Path) -> Source:
    """Raises as open_source and read_map do."""
    return open_source(path, read_map(map_of(path)) if map_of(path).is_file() else FieldMap())


def map_of(path: Path) -> Path:
    """Beside log.csv, log.csv.yaml."""
    return path.with_name(f"{path.name}.yaml")
