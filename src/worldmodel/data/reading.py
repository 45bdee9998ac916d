"""The plan of reading: split files into parts, parse a part. Plain functions of files and parts, in any process.

A part is columns where the fast way is certain, and rows where the exact one had to look.
"""

import os
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from typing import NamedTuple

from worldmodel.data.columns import ColumnReader, Columns
from worldmodel.data.files import MAX_LINE_BYTES, LogFile, opened, read_blocks
from worldmodel.data.rows import Row, rows_of

PART_BYTES = 4 << 20
PARALLEL_BYTES = 64 << 20  # below it, starting processes costs more than it gains
WAITING = 2  # parts in flight for each process


class Part(NamedTuple):
    """Whole lines of a file, from byte `begin` to `end`; of a .gz the whole file."""

    file: LogFile
    begin: int
    end: int


class Parsed(NamedTuple):
    """A few hundred lines; they are numbered from the part's first one, which is 1."""

    found: Columns | list[Row]
    lines: int  # line breaks
    read: int  # bytes of the file on disk

    def after(self, lines: int) -> Columns | list[Row]:
        """What was found, numbered as so many lines into the file."""
        if isinstance(self.found, Columns):
            return replace(self.found, lines=self.found.lines + lines)
        return [replace(row, line=row.line + lines) for row in self.found]


def split(file: LogFile) -> list[Part]:
    """The parts of a file, in order."""
    if file.flaw or file.name.endswith(".gz"):
        return [Part(file, 0, file.size)]
    bounds = [0]
    try:
        with opened(file) as stream:
            for near in range(PART_BYTES, file.size, PART_BYTES):
                stream.seek(near - 1)
                whole = stream.readline(MAX_LINE_BYTES).endswith(b"\n")
                if whole and bounds[-1] < stream.tell() < file.size:
                    bounds.append(stream.tell())
    except OSError:
        bounds = [0]  # what is wrong will be told when the part is read
    return [Part(file, begin, end) for begin, end in zip(bounds, [*bounds[1:], file.size], strict=True)]


def parse(part: Part) -> Iterator[Parsed]:
    """What the lines of a part hold."""
    reader, read = ColumnReader(), 0
    for block in read_blocks(part.file, part.begin, part.end):
        found = None if block.flaw else reader.read(block.first, block.data)
        lines = block.data.count(b"\n") or 1
        yield Parsed(list(rows_of(block)) if found is None else found, lines, block.read - read)
        read = block.read


def parse_all(parts: Sequence[Part]) -> Iterator[Iterable[Parsed]]:
    """Each part's lines, in order of the parts; by several processes where there is much to read."""
    processes = len(os.sched_getaffinity(0))
    if processes == 1 or len(parts) == 1 or sum(part.end - part.begin for part in parts) < PARALLEL_BYTES:
        yield from map(parse, parts)
        return
    waiting: deque[Future[list[Parsed]]] = deque()
    with ProcessPoolExecutor(processes, get_context("spawn")) as pool:
        for part in parts:
            waiting.append(pool.submit(_parse_whole, part))
            if len(waiting) > WAITING * processes:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _parse_whole(part: Part) -> list[Parsed]:
    return list(parse(part))
