"""Episodes that wait on disk: what describes them stays in memory, their arrays in one file."""

import os
from array import array
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, Protocol, Self

import numpy as np

from worldmodel.episodes.schema import Episode, EpisodeInfo, Source, Split, identity_of
from worldmodel.episodes.table import Table

Shapes = tuple[tuple[str, tuple[int, ...]] | None, ...]  # type and shape of each column of a table


class Offset(NamedTuple):
    """Where a table is in a store."""

    offset: int  # bytes
    shapes: Shapes


class Offsets:
    """Many places in little room."""

    def __init__(self) -> None:
        self._offsets = array("q")
        self._shapes = list[Any]()  # one object for tables of one shape

    def append(self, place: Offset) -> None:
        self._offsets.append(place.offset)
        self._shapes.append(place.shapes)

    def __len__(self) -> int:
        return len(self._offsets)

    def __iter__(self) -> Iterator[Offset]:
        return map(Offset, self._offsets, self._shapes)


class EpisodeView(EpisodeInfo, Protocol):
    """What an episode in memory and one on disk have in common."""

    @property
    def split(self) -> Split | None: ...
    @property
    def terminal(self) -> bool: ...
    @property
    def identity(self) -> str: ...
    @property
    def begin(self) -> float: ...
    @property
    def length(self) -> int: ...
    def numbered(self, segment: int) -> Self: ...
    def table(self) -> Table: ...


@dataclass(frozen=True, slots=True)
class SharedInfo:
    """What most episodes of a store have in common with others: one object for all of these."""

    store: "EpisodeStore"
    shapes: Shapes
    agent_id: str
    segment: int
    source: Source
    split: Split | None
    terminal: bool
    length: int
    provenance: Mapping[str, Any] = field(compare=False)  # where it is not empty, no shared are shared


@dataclass(frozen=True, slots=True)
class StoredEpisode:
    """An episode whose arrays are in a store."""

    shared: SharedInfo
    name: str
    offset: int  # bytes

    @property
    def agent_id(self) -> str:
        return self.shared.agent_id

    @property
    def segment(self) -> int:
        return self.shared.segment

    @property
    def source(self) -> Source:
        return self.shared.source

    @property
    def split(self) -> Split | None:
        return self.shared.split

    @property
    def terminal(self) -> bool:
        return self.shared.terminal

    @property
    def length(self) -> int:
        return self.shared.length

    @property
    def provenance(self) -> Mapping[str, Any]:
        return self.shared.provenance

    @property
    def begin(self) -> float:
        """Seconds, read from the store."""
        return float(self.table().timestamps[0])

    @property
    def identity(self) -> str:
        return identity_of(self.agent_id, self.name)

    def numbered(self, segment: int) -> Self:
        return replace(self, shared=replace(self.shared, segment=segment))

    def table(self) -> Table:
        return self.shared.store.read(Offset(self.offset, self.shared.shapes))


@dataclass(eq=False)
class EpisodeStore:
    """Tables end to end in a file that is gone when its block ends."""

    stream: BinaryIO
    end: int = 0
    _one: dict[Any, Any] = field(default_factory=dict)  # object for all shapes, and all shared, that are equal

    @classmethod
    @contextmanager
    def within(cls, folder: Path) -> Iterator["EpisodeStore"]:
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / ".store.tmp"
        try:
            with path.open("w+b", buffering=1 << 20) as stream:
                yield cls(stream)
        finally:
            path.unlink(missing_ok=True)

    def put(self, table: Table) -> Offset:
        offset = self.end
        for column in table:
            self.end += 0 if column is None else self.stream.write(np.ascontiguousarray(column).data.cast("B"))
        shapes = tuple(None if column is None else (column.dtype.str, column.shape) for column in table)
        return Offset(offset, self._one.setdefault(shapes, shapes))

    def add(self, episode: Episode) -> StoredEpisode:
        offset, shapes = self.put(episode.table())
        shared = SharedInfo(
            store=self,
            shapes=shapes,
            agent_id=episode.agent_id,
            segment=episode.segment,
            source=episode.source,
            split=episode.split,
            terminal=episode.terminal,
            length=episode.length,
            provenance=episode.provenance,
        )
        return StoredEpisode(
            shared if episode.provenance else self._one.setdefault(shared, shared), episode.name, offset
        )

    def read(self, place: Offset) -> Table:
        self.stream.flush()
        columns = [None if shape is None else np.empty(shape[1], shape[0]) for shape in place.shapes]
        buffers = [column.data for column in columns if column is not None]
        read = os.preadv(self.stream.fileno(), buffers, place.offset)
        assert read == sum(buffer.nbytes for buffer in buffers), read
        return Table._make(columns)
