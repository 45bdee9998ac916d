"""Episodes in a nameless file: what describes each of them stays in memory, its arrays are read when asked for."""

import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, Protocol, Self, cast

import numpy as np

from worldmodel.core.temporary import naming
from worldmodel.core.typing import Doubles
from worldmodel.episodes.schema import Episode, Source, Split, identity_of
from worldmodel.episodes.table import Table

MOST_READ = 1 << 30  # bytes in one call, which all systems allow

OWN = ("stored", "length", "narrow")  # of a stored episode, beside an episode's fields
Shapes = tuple[tuple[str, tuple[int, ...]] | None, ...]  # type and shape of each column of a table


class EpisodeView(Protocol):
    """What an episode in memory and a stored one have in common."""

    @property
    def agent_id(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def segment(self) -> int: ...
    @property
    def source(self) -> Source: ...
    @property
    def provenance(self) -> Mapping[str, Any]: ...
    @property
    def split(self) -> Split | None: ...
    @property
    def terminal(self) -> bool: ...
    @property
    def truncated(self) -> bool: ...
    @property
    def identity(self) -> str: ...
    @property
    def timestamps(self) -> Doubles: ...
    @property
    def begin(self) -> float: ...
    @property
    def length(self) -> int: ...
    def numbered(self, segment: int, name: str | None = None) -> Self: ...
    def narrowed(self) -> Self: ...
    def table(self) -> Table: ...
    def whole(self) -> Episode: ...


class StoredTable(NamedTuple):
    """Where a table is in its store."""

    store: "EpisodeStore"
    offset: int  # bytes
    shapes: Shapes

    def read(self) -> Table:
        return Table._make(self.store.read(self.offset, self.shapes))

    def timestamps(self) -> Doubles:
        (times,) = self.store.read(self.offset, self.shapes[:1])
        return cast(Doubles, times)


@dataclass(frozen=True, slots=True)
class StoredEpisode:
    """An episode whose arrays are in a store."""

    stored: StoredTable
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
    def timestamps(self) -> Doubles:
        return self.stored.timestamps()

    @property
    def begin(self) -> float:
        """Seconds, read from the store."""
        return float(self.timestamps[0])

    @property
    def identity(self) -> str:
        return identity_of(self.agent_id, self.name)

    def numbered(self, segment: int, name: str | None = None) -> Self:
        return replace(self, segment=segment, name=name or self.name)

    def narrowed(self) -> Self:
        return replace(self, narrow=True)

    def table(self) -> Table:
        table = self.stored.read()
        return table._replace(features=table.features.astype(np.float32)) if self.narrow else table

    def whole(self) -> Episode:
        """With its arrays."""
        facts = {item.name: getattr(self, item.name) for item in fields(self) if item.name not in OWN}
        return Episode(**facts, **self.table()._asdict())


@dataclass(eq=False)
class EpisodeStore:
    """Tables end to end in a file that no other process can meet, and that is gone with this process at the latest."""

    stream: BinaryIO
    end: int = 0
    _shapes: dict[Shapes, Shapes] = field(default_factory=dict)  # one object for all that are equal

    @classmethod
    @contextmanager
    def within(cls, folder: Path) -> Iterator["EpisodeStore"]:
        """Raises OSError that names the folder where it has no room for what is written meanwhile."""
        with naming(folder):
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder, buffering=1 << 20) as stream:
                yield cls(cast(BinaryIO, stream))

    def put(self, table: Table) -> StoredTable:
        offset = self.end
        for column in table:
            self.end += 0 if column is None else self.stream.write(np.ascontiguousarray(column).data.cast("B"))
        shapes = tuple(None if column is None else (column.dtype.str, column.shape) for column in table)
        return StoredTable(self, offset, self._shapes.setdefault(shapes, shapes))

    def add(self, episode: Episode) -> StoredEpisode:
        facts = {item.name: getattr(episode, item.name) for item in fields(StoredEpisode) if item.name not in OWN}
        return StoredEpisode(stored=self.put(episode.table()), length=episode.length, **facts)

    def read(self, offset: int, shapes: Shapes) -> list[Any]:
        self.stream.flush()
        columns = [None if shape is None else np.empty(shape[1], shape[0]) for shape in shapes]
        for column in columns:
            left = memoryview(b"") if column is None else column.data.cast("B")
            while left:
                read = os.preadv(self.stream.fileno(), [left[:MOST_READ]], offset)
                assert read, offset
                left, offset = left[read:], offset + read
        return columns
