"""The lines of a log file in blocks of whole ones, within limits; what cannot be read is named."""

import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import BinaryIO

import numpy as np

from worldmodel.logs.files import LogFile, opened

BLOCK_BYTES = 1 << 18
MAX_LINE_BYTES = 32 << 20
MAX_UNPACKED = 200  # times the size of a .gz; logs reach 5 to 50
UNPACKED_UNASKED = 64 << 20  # bytes that any .gz may unpack to
LINE_BREAK = ord("\n")
BOM = b"\xef\xbb\xbf"
GZIP = 31  # zlib's wbits for a gzip header and trailer


@dataclass(frozen=True)
class Block:
    """Whole lines of a file; the last one of the file may lack its line break."""

    first: int  # number of the first line, from 1
    data: bytes
    read: int = 0  # bytes of the file on disk that are done with it
    flaw: str = ""  # why line `first`, and perhaps all after it, cannot be read; data is empty then

    @cached_property
    def lines(self) -> int:
        """How many there are; a flaw is one."""
        breaks = int(np.count_nonzero(np.frombuffer(self.data, np.uint8) == LINE_BREAK))
        return breaks + (not self.data.endswith(b"\n"))


class _UnreadableError(Exception):
    """What is wrong from here to the end of the file."""


def read_blocks(file: LogFile, begin: int = 0, end: int | None = None) -> Iterator[Block]:
    """The lines of a file in order; what cannot be read is a block with a flaw, the last one if it breaks off there.

    `begin` and `end` (bytes, at the start of a line) choose a part of a file that is not packed; it numbers from 1.
    """
    number = 1
    try:
        if file.flaw:
            raise _UnreadableError(file.flaw)
        with opened(file) as stream:
            stream.seek(begin)
            chunks = _unpacked(stream) if file.name.endswith(".gz") else _raw(stream, end and end - begin)
            for data, read in _whole_lines(chunks):
                block = Block(number, data, read, "" if data else f"longer than {MAX_LINE_BYTES >> 20} MiB")
                yield block
                number += block.lines
    except _UnreadableError as error:
        yield Block(number, b"", flaw=str(error))
    except OSError as error:
        yield Block(number, b"", flaw=f"unreadable from here on: {error.strerror}")


def _raw(stream: BinaryIO, most: int | None = None) -> Iterator[tuple[bytes, int]]:
    """Bytes, and how many have been read; no more than `most`."""
    read = 0
    while chunk := stream.read(BLOCK_BYTES if most is None else min(BLOCK_BYTES, most - read)):
        read += len(chunk)
        yield chunk, read


def _unpacked(stream: BinaryIO) -> Iterator[tuple[bytes, int]]:
    made, unzip, read = 0, zlib.decompressobj(GZIP), 0
    for packed, read in _raw(stream):
        while packed:
            try:
                text = unzip.decompress(packed, BLOCK_BYTES)
            except zlib.error as error:
                raise _UnreadableError(f"unreadable gzip from here on: {error}") from None
            made += len(text)
            if made > max(UNPACKED_UNASKED, MAX_UNPACKED * read):
                raise _UnreadableError(f"unpacks to more than {MAX_UNPACKED} times its size; if it is a log, unpack it")
            if text:
                yield text, read
            packed = unzip.unused_data.lstrip(b"\0") if unzip.eof else unzip.unconsumed_tail
            if unzip.eof and packed:
                unzip = zlib.decompressobj(GZIP)
    if read and not unzip.eof:
        raise _UnreadableError("unreadable gzip from here on: it breaks off before its end")


def _whole_lines(chunks: Iterable[tuple[bytes, int]]) -> Iterator[tuple[bytes, int]]:
    """The chunks cut after their last line break, without a byte order mark at the start; b"" for an overlong line."""
    rest, read, skipping = b"", 0, False
    for number, (chunk, read) in enumerate(chunks):
        if number == 0:
            chunk = chunk.removeprefix(BOM)
        if skipping:
            _, found, chunk = chunk.partition(b"\n")
            skipping = not found
        end = chunk.rfind(b"\n") + 1
        if end:
            yield b"".join((rest, memoryview(chunk)[:end])), read
            rest = b""
        rest += chunk[end:]
        if len(rest) > MAX_LINE_BYTES:
            rest, skipping = b"", True
            yield b"", read
    if rest:
        yield rest, read
