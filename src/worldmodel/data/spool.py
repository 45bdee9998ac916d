"""Episodes that wait on disk: what describes them stays in memory, their arrays in one file."""

import math
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from worldmodel.data.schema import Described, Episode, Source, Split, identity_of
from worldmodel.data.table import Table


class Place(NamedTuple):
    """Where a table is in a spool."""

    offset: int  # bytes
    shapes: tuple[tuple[str, tuple[int, ...]] | None, ...]  # type and shape of each column


class Kept(Described, Protocol):
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
class Spooled:
    """An episode whose arrays are in a spool."""

    spool: "Spool"
    place: Place
    agent_id: str
    name: str
    segment: int
    source: Source
    split: Split | None
    terminal: bool
    provenance: Mapping[str, Any]
    begin: float  # seconds
    length: int

    @property
    def identity(self) -> str:
        return identity_of(self.agent_id, self.name)

    def numbered(self, segment: int) -> Self:
        return replace(self, segment=segment)

    def table(self) -> Table:
        return self.spool.read(self.place)


@dataclass
class Spool:
    """Tables end to end in a file that is gone when its block ends."""

    stream: BinaryIO
    end: int = 0
    _names: dict[str, str] = field(default_factory=dict)  # one object for each agent
    _shapes: dict[Any, Any] = field(default_factory=dict)  # and for tables of one shape

    @classmethod
    @contextmanager
    def within(cls, folder: Path) -> Iterator["Spool"]:
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / ".spool.tmp"
        try:
            with path.open("w+b", buffering=1 << 20) as stream:
                yield cls(stream)
        finally:
            path.unlink(missing_ok=True)

    def put(self, table: Table) -> Place:
        offset = self.end
        for column in table:
            self.end += 0 if column is None else self.stream.write(np.ascontiguousarray(column).data.cast("B"))
        shapes = tuple(None if column is None else (column.dtype.str, column.shape) for column in table)
        return Place(offset, self._shapes.setdefault(shapes, shapes))

    def add(self, episode: Episode) -> Spooled:
        return Spooled(
            spool=self,
            place=self.put(episode.table()),
            agent_id=self._names.setdefault(episode.agent_id, episode.agent_id),
            name=episode.name,
            segment=episode.segment,
            source=episode.source,
            split=episode.split,
            terminal=episode.terminal,
            provenance=episode.provenance,
            begin=episode.begin,
            length=episode.length,
        )

    def read(self, place: Place) -> Table:
        self.stream.flush()
        offset, shapes = place
        sizes = [0 if shape is None else np.dtype(shape[0]).itemsize * math.prod(shape[1]) for shape in shapes]
        content = os.pread(self.stream.fileno(), sum(sizes), offset)
        columns = list[NDArray[Any] | None]()
        begin = 0
        for shape, size in zip(shapes, sizes, strict=True):
            column = None if shape is None else np.frombuffer(content[begin : begin + size], shape[0]).reshape(shape[1])
            columns.append(column)
            begin += size
        return Table._make(columns)
