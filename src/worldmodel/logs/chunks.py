"""Find log files, cut them into chunks, and parse each chunk in any process."""

import hashlib
import os
from collections import defaultdict, deque
from collections.abc import Container, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple, cast

from worldmodel.core.addresses import public
from worldmodel.core.jobs import workers
from worldmodel.logs.blocks import MAX_LINE_BYTES, MAX_SKIPPED, read_blocks
from worldmodel.logs.files import PACKED, SUFFIXES, Location, LogFile, log_files, opened
from worldmodel.logs.frame_batch import FrameBatch, Rows
from worldmodel.logs.line_reader import LineReader
from worldmodel.logs.rows import Row

CHUNK_BYTES = 2 << 20
PARALLEL_BYTES = 256 << 20  # below it, starting processes costs more than it gains
AHEAD = 2  # chunks for each process that are parsed before they are asked for


class FileChunk(NamedTuple):
    """Whole lines of a file, from byte `begin` to `end`; a packed one is one chunk."""

    file: LogFile
    begin: int
    end: int


class ParsedBlock(NamedTuple):
    """A few hundred lines, whose numbers count from the start of their chunk."""

    rows: list[Rows]
    lines: int
    read: int  # bytes on disk

    def after(self, lines: int) -> Iterator[Rows]:
        """The rows, whose numbers count from the start of the file; so many lines come before the chunk."""
        for each in self.rows:
            if isinstance(each, FrameBatch):
                yield replace(each, lines=each.lines + lines)
            else:
                yield [replace(row, line=row.line + lines) for row in each]


def find_logs(folders: Sequence[Location]) -> list[LogFile]:
    """The log files of each folder, sorted; a copy of an earlier one has a read_error.

    Raises ValueError where a folder or its log files are missing.
    """
    files = []
    for folder in folders:
        new = log_files(folder)
        if not new:
            raise ValueError(
                f"{public(str(folder))}: holds no log file; expected one or more that end in {', '.join(SUFFIXES)}"
            )
        files += new
    return _without_copies(files)


def _without_copies(files: Sequence[LogFile]) -> list[LogFile]:
    """Files of the same unpacked length are compared by hash; all but the first of equals get a read_error."""
    alike: dict[int, list[int]] = defaultdict(list)
    for index, file in enumerate(files):
        if file.size and not file.read_error and not (file.source and Path(file.path).is_dir()):
            alike[_length(file)].append(index)
    marked = list(files)
    for indices in alike.values():
        first: dict[str, int] = {}
        for index in indices if len(indices) > 1 else ():
            earlier = first.setdefault(_digest(files[index]), index)
            if earlier != index:
                reason = f"the same lines as {files[earlier].name}, expected each log once"
                marked[index] = replace(files[index], read_error=reason)
    return marked


def _length(file: LogFile) -> int:
    """Bytes when unpacked, modulo 2^32, or as they are where it is not told (.zst); -1 where it cannot be read."""
    try:
        if not file.name.endswith(".gz"):
            return file.size % 2**32
        with opened(file) as stream:
            stream.seek(-min(4, file.size), os.SEEK_END)
            return int.from_bytes(stream.read(4), "little")
    except (OSError, ValueError):
        return -1


def _digest(file: LogFile) -> str:
    if file.source:
        with opened(file) as stream:
            return hashlib.file_digest(cast(Any, stream), "sha256").hexdigest()
    digest = hashlib.sha256()
    for block in read_blocks(file):
        digest.update(block.data or f"{file.name}: {block.read_error}".encode())
    return digest.hexdigest()


def chunks_of(file: LogFile) -> list[FileChunk]:
    """A file's chunks in order."""
    if file.read_error or file.name.endswith(PACKED):
        return [FileChunk(file, 0, file.size)]
    bounds = [0]
    try:
        with opened(file) as stream:
            near = CHUNK_BYTES
            while near < file.size and near - bounds[-1] <= MAX_SKIPPED:  # reading the chunk goes no further either
                stream.seek(near - 1)
                whole = stream.readline(MAX_LINE_BYTES).endswith(b"\n")
                if whole and stream.tell() < file.size:
                    bounds.append(stream.tell())
                near = stream.tell() + CHUNK_BYTES
    except (OSError, ValueError):
        bounds = [0]  # reading the chunk will say what is wrong
    return [FileChunk(file, begin, end) for begin, end in zip(bounds, [*bounds[1:], file.size], strict=True)]


def parse(chunk: FileChunk, reader: LineReader) -> Iterator[ParsedBlock]:
    """The chunk's blocks; a reader may serve several chunks."""
    read = 0
    for block in read_blocks(chunk.file, chunk.begin, chunk.end):
        rows: list[Rows] = [[Row(block.first, block.read_error)]] if block.read_error else reader.read(block)
        yield ParsedBlock(rows, block.lines, block.read - read)
        read = block.read


def parse_all(
    chunks: Sequence[FileChunk], left_out: Container[LogFile]
) -> Iterator[tuple[FileChunk, Iterable[ParsedBlock]]]:
    """Each chunk and its blocks, in order; several processes share the work where there is much.

    A file that is put into `left_out` meanwhile has no more chunks, or few.
    """
    processes = workers()
    if processes == 1 or len(chunks) == 1 or sum(chunk.end - chunk.begin for chunk in chunks) < PARALLEL_BYTES:
        reader = LineReader()
        yield from ((chunk, parse(chunk, reader)) for chunk in chunks if chunk.file not in left_out)
        return
    waiting: deque[tuple[FileChunk, Future[list[ParsedBlock]]]] = deque()
    with ProcessPoolExecutor(processes, get_context("spawn")) as pool:
        for chunk in chunks:
            if chunk.file not in left_out:
                waiting.append((chunk, pool.submit(_parse_whole, chunk)))
            if len(waiting) > AHEAD * processes:
                first, parsed = waiting.popleft()
                yield first, parsed.result()
        while waiting:
            first, parsed = waiting.popleft()
            yield first, parsed.result()


def _parse_whole(chunk: FileChunk) -> list[ParsedBlock]:
    return list(parse(chunk, LineReader()))
