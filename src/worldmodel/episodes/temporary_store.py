"""Episodes in a file for a while: what describes each of them stays in memory, its arrays are read when asked for.

The file is nameless, or in a hidden folder whose name other processes are told: then they read it, and write files of
their own beside it.
"""

import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace
from functools import lru_cache
from pathlib import Path
from typing import IO, Any, BinaryIO, Self, TypeVar, cast

import numpy as np

from worldmodel.core.temporary import naming
from worldmodel.core.typing import Doubles
from worldmodel.episodes.schema import Episode, Named, Source, Split
from worldmodel.episodes.table import Table

MOST_READ = 1 << 30  # bytes in one call, which all systems allow
BUFFER = 1 << 20  # bytes

OWN = ("store", "offset", "shapes", "length", "narrow")  # of a stored episode, beside an episode's fields
Shapes = tuple[tuple[str, tuple[int, ...]] | None, ...]  # type and shape of each column of a table


@dataclass(frozen=True, slots=True)
class StoredEpisode(Named):
    """An episode whose arrays are in a store."""

    store: "EpisodeStore"
    offset: int  # bytes
    shapes: Shapes
    agent_id: str
    name: str
    segment: int
    source: Source
    split: Split | None
    terminal: bool
    truncated: bool
    length: int
    provenance: Mapping[str, Any]
    narrow: bool = False  # features are read as float32

    @property
    def timestamps(self) -> Doubles:  # type: ignore[override]  # read when asked for
        return cast(Doubles, self.store.read(self.offset, self.shapes[:1])[0])

    def narrowed(self) -> Self:
        return replace(self, narrow=True)

    def table(self) -> Table:
        table = Table._make(self.store.read(self.offset, self.shapes))
        return table._replace(features=table.features.astype(np.float32)) if self.narrow else table

    def whole(self) -> Episode:
        """With its arrays."""
        facts = {item.name: getattr(self, item.name) for item in fields(self) if item.name not in OWN}
        return Episode(**facts, **self.table()._asdict())


@dataclass(eq=False)
class EpisodeStore:
    """Tables end to end in a file that is gone with this process at the latest, or with its folder."""

    stream: BinaryIO | None  # None in a process that reads what another one wrote
    path: Path | None = None  # None of a nameless file, which no other process can meet
    end: int = 0
    _shapes: dict[Shapes, Shapes] = field(default_factory=dict)  # one object for all that are equal

    @classmethod
    @contextmanager
    def within(cls, folder: Path) -> Iterator["EpisodeStore"]:
        """A nameless one. Raises OSError that names the folder where it has no room for what is written meanwhile."""
        with naming(folder):
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder, buffering=BUFFER) as stream:
                yield cls(cast(BinaryIO, stream))

    @classmethod
    @contextmanager
    def shared(cls, folder: Path) -> Iterator["EpisodeStore"]:
        """As `within`, in a hidden folder, so that other processes can read it and have stores beside it."""
        with naming(folder):
            folder.mkdir(parents=True, exist_ok=True)
            made = tempfile.TemporaryDirectory(dir=folder, prefix=".", suffix=".tmp")
            with made as own, cls._at(Path(own) / "0") as store:
                yield store

    @contextmanager
    def beside(self, number: int) -> Iterator["EpisodeStore"]:
        """That store of those beside a shared one, made anew; what it holds can be read until the shared one ends."""
        assert self.path, "a nameless store"
        with self._at(self.path.with_name(str(number))) as store:
            yield store

    @classmethod
    @contextmanager
    def _at(cls, path: Path) -> Iterator["EpisodeStore"]:
        with naming(path), path.open("w+b", buffering=BUFFER) as stream:
            yield cls(stream, path)

    def add(self, episode: Episode) -> StoredEpisode:
        assert self.stream, "another process writes here"
        table, offset = episode.table(), self.end
        for column in table:
            self.end += 0 if column is None else self.stream.write(np.ascontiguousarray(column).data.cast("B"))
        shapes = shapes_of(table)
        shapes = self._shapes.setdefault(shapes, shapes)
        facts = {item.name: getattr(episode, item.name) for item in fields(StoredEpisode) if item.name not in OWN}
        return StoredEpisode(store=self, offset=offset, shapes=shapes, length=episode.length, **facts)

    def flush(self) -> None:
        """So that other processes can read all that was added."""
        if self.stream:
            self.stream.flush()

    def read(self, offset: int, shapes: Shapes) -> list[Any]:
        self.flush()
        if self.stream:
            return _read(self.stream, offset, shapes)
        with self._named().open("rb", buffering=0) as stream:
            return _read(stream, offset, shapes)

    def _named(self) -> Path:
        assert self.path, "a nameless store is its own process's"
        return self.path

    def __reduce__(self) -> tuple[Any, ...]:
        return _reading, (self._named(),)


@lru_cache(maxsize=1024)
def _reading(path: Path) -> EpisodeStore:
    """One object for all episodes of a store that another process writes."""
    return EpisodeStore(None, path)


def shapes_of(table: Table) -> Shapes:
    return tuple(None if column is None else (column.dtype.str, column.shape) for column in table)


def _read(stream: IO[bytes], offset: int, shapes: Shapes) -> list[Any]:
    columns = [None if shape is None else np.empty(shape[1], shape[0]) for shape in shapes]
    for column in columns:
        left = memoryview(b"") if column is None else column.data.cast("B")
        while left:
            read = os.preadv(stream.fileno(), [left[:MOST_READ]], offset)
            assert read, offset
            left, offset = left[read:], offset + read
    return columns


EpisodeView = Episode | StoredEpisode
View = TypeVar("View", Episode, StoredEpisode)
