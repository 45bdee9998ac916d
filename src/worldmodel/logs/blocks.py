"""A log file as blocks of whole lines, within limits. What cannot be read becomes a block that says why."""

import re
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import BinaryIO

import numpy as np

from worldmodel.core.addresses import reason
from worldmodel.logs.files import PACKED, LogFile, opened

BLOCK_BYTES = 1 << 20
MAX_LINE_BYTES = 32 << 20
TOO_LONG = f"longer than {MAX_LINE_BYTES >> 20} MiB, expected a frame or an episode a line; split it"
MAX_SKIPPED = 1 << 30  # bytes of one line
ENDLESS = f"longer than {MAX_SKIPPED >> 20} MiB, expected a log of lines; nothing behind it is read"
MAX_UNPACKED = 200  # times the size of a .gz; real logs reach 5 to 50
ALWAYS_UNPACKED = 64 << 20  # bytes that any .gz may unpack to
LINE_BREAK = ord("\n")
BOM = b"\xef\xbb\xbf"
OTHERS = {  # what a file is, by how it begins
    "a pointer of Git LFS in place of the log; run `git lfs pull`": re.compile(
        rb"version https://git-lfs\.github\.com/spec/"
    ),
    "UTF-16, expected UTF-8; convert it: iconv -f UTF-16 -t UTF-8": re.compile(
        rb"\xff\xfe|\xfe\xff|(?:[\t -~]\0){4}|(?:\0[\t -~]){4}"
    ),
    "an HTML page, expected a log of lines; its address may need a login: download it again": re.compile(
        rb"(?:\xef\xbb\xbf)?\s*<(?:!doctype\s+html|html|head|\?xml|!--)", re.IGNORECASE
    ),
}
ZSTD_BYTES = 1 << 10  # unpacked at once: each four of them may become 128 KiB
GZIP = 31  # zlib's wbits for a gzip header and trailer


@dataclass(frozen=True)
class Block:
    """Whole lines of a file; the last one of the file may lack its line break."""

    first: int  # number of the first line, from 1
    data: bytes  # empty where there is a read_error
    read: int = 0  # bytes on disk from where reading began to the end of the block
    read_error: str = ""  # why line `first`, and perhaps every line after it, cannot be read

    @cached_property
    def lines(self) -> int:
        """Number of lines; a read_error counts as one."""
        breaks = int(np.count_nonzero(np.frombuffer(self.data, np.uint8) == LINE_BREAK))
        return breaks + (not self.data.endswith(b"\n"))


class _UnreadableError(Exception):
    """Why the rest of the file cannot be read."""


def read_blocks(file: LogFile) -> Iterator[Block]:
    """All lines of a file in order, those that cannot be read as blocks with a read_error."""
    number = 1
    try:
        if file.read_error:
            raise _UnreadableError(file.read_error)
        with opened(file) as stream:
            chunks = _refusing_others(_raw(stream))
            if file.name.endswith(PACKED):
                unpacked = _from_zstd(chunks) if file.name.endswith(".zst") else _from_gzip(chunks)
                chunks = _refusing_others(_limited(unpacked))
            for data, read in _whole_lines(chunks):
                block = Block(number, data, read, "" if data else TOO_LONG)
                yield block
                number += block.lines
    except _UnreadableError as error:
        yield Block(number, b"", read_error=str(error))
    except ValueError as error:  # it is another one than when the folder was listed
        yield Block(number, b"", read_error=str(error).removeprefix(f"{file.path}: "))
    except OSError as error:
        yield Block(number, b"", read_error=f"unreadable from here on: {error.strerror or reason(error)}")


def _refusing_others(chunks: Iterable[tuple[bytes, int]]) -> Iterator[tuple[bytes, int]]:
    """The same, unless they begin as no log of lines does. A byte order mark is left out."""
    for number, (text, read) in enumerate(chunks):
        if number == 0:
            for what, begins in OTHERS.items():
                if begins.match(text):
                    raise _UnreadableError(what)
            text = text.removeprefix(BOM)
        yield text, read


def _raw(stream: BinaryIO) -> Iterator[tuple[bytes, int]]:
    """Pieces, each with the number of bytes read so far."""
    read = 0
    while chunk := stream.read(BLOCK_BYTES):
        read += len(chunk)
        yield chunk, read


def _limited(chunks: Iterable[tuple[bytes, int]]) -> Iterator[tuple[bytes, int]]:
    made = 0
    for text, read in chunks:
        made += len(text)
        if made > max(ALWAYS_UNPACKED, MAX_UNPACKED * read):
            raise _UnreadableError(f"unpacks to more than {MAX_UNPACKED} times its size; if it is a log, unpack it")
        if text:
            yield text, read


def _from_gzip(chunks: Iterable[tuple[bytes, int]]) -> Iterator[tuple[bytes, int]]:
    unzip, read = zlib.decompressobj(GZIP), 0
    for packed, read in chunks:
        while packed:
            try:
                text = unzip.decompress(packed, BLOCK_BYTES)
            except zlib.error as error:
                raise _UnreadableError(f"unreadable gzip from here on: {error}") from None
            yield text, read
            packed = unzip.unused_data.lstrip(b"\0") if unzip.eof else unzip.unconsumed_tail
            if unzip.eof and packed:
                unzip = zlib.decompressobj(GZIP)
    if read and not unzip.eof:
        raise _UnreadableError("unreadable gzip from here on: it breaks off before its end")


def _from_zstd(chunks: Iterable[tuple[bytes, int]]) -> Iterator[tuple[bytes, int]]:
    try:
        import zstandard
    except ModuleNotFoundError:
        raise _UnreadableError("needs zstandard, which is not installed; pip install 'worldmodel[formats]'") from None
    unpack, read = zstandard.ZstdDecompressor().decompressobj(), 0
    for data, read in chunks:
        for begin in range(0, len(data), ZSTD_BYTES):
            packed = data[begin : begin + ZSTD_BYTES]
            while packed:
                try:
                    yield unpack.decompress(packed), read
                except zstandard.ZstdError as error:
                    raise _UnreadableError(f"unreadable zstd from here on: {error}") from None
                packed = unpack.unused_data if unpack.eof else b""
                if packed:
                    unpack = zstandard.ZstdDecompressor().decompressobj()
    if read and not unpack.eof:
        raise _UnreadableError("unreadable zstd from here on: it breaks off before its end")


def _whole_lines(chunks: Iterable[tuple[bytes, int]]) -> Iterator[tuple[bytes, int]]:
    """The same bytes cut after line breaks; b"" stands for a line that is too long."""
    rest, read, skipped = b"", 0, 0
    for chunk, read in chunks:
        if skipped:
            skipped += len(chunk)
            _, line_break, chunk = chunk.partition(b"\n")
            if line_break:
                skipped = 0
                yield b"", read
            elif skipped > MAX_SKIPPED:
                raise _UnreadableError(ENDLESS)
        end = chunk.rfind(b"\n") + 1
        if end:
            yield b"".join((rest, memoryview(chunk)[:end])), read
            rest = b""
        rest += chunk[end:]
        if len(rest) > MAX_LINE_BYTES:
            rest, skipped = b"", len(rest)
    if skipped:
        yield b"", read
    elif rest:
        yield rest, read
