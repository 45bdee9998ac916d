"""Blocks of log files -> rows, in several processes where there is much."""

import os
import signal
import sys
import threading
import warnings
from collections import deque
from collections.abc import Container, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

from worldmodel.core.jobs import workers
from worldmodel.core.parent import end_with
from worldmodel.logs.blocks import Block, read_blocks
from worldmodel.logs.files import LogFile
from worldmodel.logs.line_reader import Parsed, parse_block

if TYPE_CHECKING:
    from concurrent.futures import Future, ProcessPoolExecutor

PARALLEL_BYTES = 16 << 20  # below it, starting processes costs more than it gains
AHEAD = 3  # blocks for each process that are parsed before they are asked for


OfFile = tuple[LogFile, Block, int]  # the last is bytes on disk


class ParsedBlock(NamedTuple):
    """Lines of a file and what they hold."""

    file: LogFile
    block: Block
    read: int  # bytes on disk
    parsed: Parsed


def parse_all(files: Sequence[LogFile], left_out: Container[LogFile]) -> Iterator[ParsedBlock]:
    """The blocks of all files in order. A file that is put into `left_out` meanwhile has no more of them, or few."""
    processes = workers()
    if processes == 1 or sum(file.size for file in files) < PARALLEL_BYTES:
        yield from (ParsedBlock(*each, parse_block(each[1])) for each in _blocks(files, left_out))
        return
    waiting: deque[tuple[OfFile, Future[Parsed]]] = deque()
    with _pool(processes) as pool:
        for each in _blocks(files, left_out):
            waiting.append((each, pool.submit(parse_block, each[1])))
            if len(waiting) > AHEAD * processes:
                yield _first(waiting)
        while waiting:
            yield _first(waiting)


def _first(waiting: "deque[tuple[OfFile, Future[Parsed]]]") -> ParsedBlock:
    each, parsed = waiting.popleft()
    return ParsedBlock(*each, parsed.result())


def _blocks(files: Sequence[LogFile], left_out: Container[LogFile]) -> Iterator[OfFile]:
    for file in files:
        read = 0
        for block in read_blocks(file):
            if file in left_out:
                break
            yield file, block, block.read - read
            read = block.read


@contextmanager
def _pool(processes: int) -> "Iterator[ProcessPoolExecutor]":
    """A copy of this process starts at once; where it has other threads, or none may be made, new ones are started."""
    from concurrent.futures import ProcessPoolExecutor
    from multiprocessing import get_context  # takes a moment to load

    copied = sys.platform == "linux" and threading.active_count() == 1
    context = get_context("fork" if copied else "spawn")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of idle threads that NumPy's BLAS started
        pool = ProcessPoolExecutor(processes, context, initializer=_begin, initargs=(os.getpid(),))
        try:
            yield pool
        finally:
            pool.shutdown(cancel_futures=True)


def _begin(holder: int) -> None:
    """It is the holder that hears Ctrl-C and ends this process, at the latest with itself."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_with([holder])
