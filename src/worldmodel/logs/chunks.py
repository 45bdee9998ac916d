"""The plan of reading: find files, split them into parts, parse a part.

Plain functions of files and parts, which any process may call. What they find is columns where the fast way is certain,
and rows where the exact one had to look; logs.py checks it, groups it into episodes and hands these on.
"""

import hashlib
import os
from collections import defaultdict, deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from typing import NamedTuple

from worldmodel.core.jobs import workers
from worldmodel.logs.blocks import MAX_LINE_BYTES, read_blocks
from worldmodel.logs.files import SUFFIXES, Location, LogFile, log_files, opened
from worldmodel.logs.frame_batch import FrameBatch
from worldmodel.logs.line_reader import LineReader
from worldmodel.logs.rows import Row

CHUNK_BYTES = 2 << 20
PARALLEL_BYTES = 256 << 20  # below it, starting processes costs more than it gains
WAITING = 2  # parts in flight for each process


class FileChunk(NamedTuple):
    """Whole lines of a file, from byte `begin` to `end`; of a .gz the whole file."""

    file: LogFile
    begin: int
    end: int


class ParsedChunk(NamedTuple):
    """A few hundred lines; they are numbered from the part's first one, which is 1."""

    found: list[FrameBatch | list[Row]]
    lines: int
    read: int  # bytes of the file on disk

    def after(self, lines: int) -> Iterator[FrameBatch | list[Row]]:
        """What was found, numbered as so many lines into the file."""
        for each in self.found:
            if isinstance(each, FrameBatch):
                yield replace(each, lines=each.lines + lines)
            else:
                yield [replace(row, line=row.line + lines) for row in each]


def find_logs(folders: Sequence[Location]) -> list[LogFile]:
    """The log files of each folder, sorted; a copy of another one among them has a read_error.

    Raises ValueError where a folder or its log files are missing.
    """
    files = []
    for folder in folders:
        found = log_files(folder)
        if not found:
            raise ValueError(f"{folder}: holds no log file; expected one or more that end in {' or '.join(SUFFIXES)}")
        files += found
    return _without_copies(files)


def _without_copies(files: Sequence[LogFile]) -> list[LogFile]:
    """Files of the same unpacked length are compared by hash; all but the first of equals get a read_error."""
    alike: dict[int, list[int]] = defaultdict(list)
    for index, file in enumerate(files):
        if file.size and not file.read_error:
            alike[_length(file)].append(index)
    found = list(files)
    for indices in alike.values():
        first: dict[str, int] = {}
        for index in indices if len(indices) > 1 else ():
            kept = first.setdefault(_digest(files[index]), index)
            if kept != index:
                found[index] = replace(
                    files[index], read_error=f"the same lines as {files[kept].name}, expected each log once"
                )
    return found


def _length(file: LogFile) -> int:
    """Bytes when unpacked, modulo 2^32; -1 where it cannot be read."""
    try:
        if not file.name.endswith(".gz"):
            return file.size % 2**32
        with opened(file) as stream:
            stream.seek(-min(4, file.size), os.SEEK_END)
            return int.from_bytes(stream.read(4), "little")
    except OSError:
        return -1


def _digest(file: LogFile) -> str:
    digest = hashlib.sha256()
    for block in read_blocks(file):
        digest.update(block.data or f"{file.name}: {block.read_error}".encode())
    return digest.hexdigest()


def split(file: LogFile) -> list[FileChunk]:
    """The parts of a file, in order."""
    if file.read_error or file.name.endswith(".gz"):
        return [FileChunk(file, 0, file.size)]
    bounds = [0]
    try:
        with opened(file) as stream:
            for near in range(CHUNK_BYTES, file.size, CHUNK_BYTES):
                stream.seek(near - 1)
                whole = stream.readline(MAX_LINE_BYTES).endswith(b"\n")
                if whole and bounds[-1] < stream.tell() < file.size:
                    bounds.append(stream.tell())
    except OSError:
        bounds = [0]  # what is wrong will be told when the part is read
    return [FileChunk(file, begin, end) for begin, end in zip(bounds, [*bounds[1:], file.size], strict=True)]


def parse(part: FileChunk, reader: LineReader) -> Iterator[ParsedChunk]:
    """What the lines of a part hold; the reader may have learned from other parts."""
    read = 0
    for block in read_blocks(part.file, part.begin, part.end):
        found: list[FrameBatch | list[Row]] = (
            [[Row(block.first, block.read_error)]] if block.read_error else reader.read(block)
        )
        yield ParsedChunk(found, block.lines, block.read - read)
        read = block.read


def parse_all(parts: Sequence[FileChunk]) -> Iterator[Iterable[ParsedChunk]]:
    """Each part's lines, in order of the parts; by several processes where there is much to read."""
    processes = workers()
    if processes == 1 or len(parts) == 1 or sum(part.end - part.begin for part in parts) < PARALLEL_BYTES:
        reader = LineReader()
        yield from (parse(part, reader) for part in parts)
        return
    waiting: deque[Future[list[ParsedChunk]]] = deque()
    with ProcessPoolExecutor(processes, get_context("spawn")) as pool:
        for part in parts:
            waiting.append(pool.submit(_parse_whole, part))
            if len(waiting) > WAITING * processes:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _parse_whole(part: FileChunk) -> list[ParsedChunk]:
    return list(parse(part, LineReader()))
