"""Episodes in a nameless file: what describes each of them stays in memory, its arrays are read when asked for."""

import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, BinaryIO, Self, TypeVar, cast

import numpy as np

from worldmodel.core.temporary import naming
from worldmodel.core.typing import Doubles
from worldmodel.episodes.schema import Episode, Named, Source, Split
from worldmodel.episodes.table import Table

MOST_READ = 1 << 30  # bytes in one call, which all systems allow

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

    def add(self, episode: Episode) -> StoredEpisode:
        table, offset = episode.table(), self.end
        for column in table:
            self.end += 0 if column is None else self.stream.write(np.ascontiguousarray(column).data.cast("B"))
        shapes = tuple(None if column is None else (column.dtype.str, column.shape) for column in table)
        shapes = self._shapes.setdefault(shapes, shapes)
        facts = {item.name: getattr(episode, item.name) for item in fields(StoredEpisode) if item.name not in OWN}
        return StoredEpisode(store=self, offset=offset, shapes=shapes, length=episode.length, **facts)

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


EpisodeView = Episode | StoredEpisode
View = TypeVar("View", Episode, StoredEpisode)
