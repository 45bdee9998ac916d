"""Log files, and their lines in blocks of whole ones; a file or a line that cannot be read is refused by name.

A location is a path, or text that fsspec understands (s3://bucket/folder).
"""

import hashlib
import os
import zlib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

SUFFIXES = (".jsonl", ".jsonl.gz")
BLOCK_BYTES = 1 << 18
MAX_LINE_BYTES = 32 << 20
MAX_UNPACKED = 200  # times the size of a .gz; logs reach 5 to 50
UNPACKED_UNASKED = 64 << 20  # bytes that any .gz may unpack to
BOM = b"\xef\xbb\xbf"
GZIP = 31  # zlib's wbits for a gzip header and trailer


@dataclass(frozen=True)
class LogFile:
    """One file to read."""

    name: str  # posix path within its folder, as messages show it
    path: Path
    size: int = 0  # bytes on disk
    flaw: str = ""  # why it is refused unread


@dataclass(frozen=True)
class Block:
    """Whole lines of a file; the last one of the file may lack its line break."""

    first: int  # number of the first line, from 1
    data: bytes
    read: int = 0  # bytes of the file on disk that are done with it
    flaw: str = ""  # why line `first`, and perhaps all after it, cannot be read; data is empty then


class _UnreadableError(Exception):
    """What is wrong from here to the end of the file."""


def find_logs(folders: Sequence[Path]) -> list[LogFile]:
    """The log files of each folder, sorted; a copy of another one among them has a flaw.

    Raises ValueError where a folder or its log files are missing.
    """
    files = []
    for folder in folders:
        found = log_files(folder)
        if not found:
            raise ValueError(f"{folder}: holds no log file; expected one or more that end in {' or '.join(SUFFIXES)}")
        files += found
    return _without_copies(files)


def log_files(folder: Path) -> list[LogFile]:
    """Each log file of a folder, sorted by its path there; a file stands for itself.

    Raises ValueError where there is no such folder, or where a part of it cannot be listed.
    """
    if not folder.exists():
        raise ValueError(f"{folder}: no such folder; expected one with {' or '.join(SUFFIXES)} files")
    if folder.is_file():
        return [LogFile(_shown(folder.name), folder, folder.stat().st_size)]
    return sorted(_below(folder, folder.resolve()), key=lambda file: file.path.relative_to(folder).as_posix())


def _below(folder: Path, root: Path) -> Iterator[LogFile]:
    for parent, folders, names in os.walk(folder, onerror=_refuse_folder):
        links = [name for name in folders if (Path(parent) / name).is_symlink()]
        for name in [*links, *(name for name in names if name.endswith(SUFFIXES))]:
            path = Path(parent) / name
            shown = _shown(path.relative_to(folder).as_posix())
            flaw = _flaw(path, root)
            yield LogFile(shown, path, 0 if flaw else path.stat().st_size, flaw)


def _refuse_folder(error: OSError) -> None:
    raise ValueError(f"{error.filename}: {error.strerror}; make this folder readable, or move it away")


def _flaw(path: Path, root: Path) -> str:
    target = path.resolve()
    if not target.exists():
        return "a link that leads nowhere, expected a file"
    if not target.is_relative_to(root):
        return "a link out of the log folder, expected a file in it; copy it there"
    if target.is_dir():
        return "a link to a folder, expected files and folders only"
    return "" if target.is_file() else "no regular file, expected one"


def _shown(name: str) -> str:
    """The name as text that every terminal and CSV file can hold."""
    readable = os.fsencode(name).decode("utf-8", "backslashreplace")
    return readable if readable.isprintable() else repr(readable)[1:-1]


def _without_copies(files: Sequence[LogFile]) -> list[LogFile]:
    """Files of the same unpacked length are compared by hash; all but the first of equals get a flaw."""
    alike: dict[int, list[int]] = defaultdict(list)
    for index, file in enumerate(files):
        if file.size and not file.flaw:
            alike[_length(file)].append(index)
    found = list(files)
    for indices in alike.values():
        first: dict[str, int] = {}
        for index in indices if len(indices) > 1 else ():
            kept = first.setdefault(_digest(files[index]), index)
            if kept != index:
                found[index] = replace(
                    files[index], flaw=f"the same lines as {files[kept].name}, expected each log once"
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
        digest.update(block.data or f"{file.name}: {block.flaw}".encode())
    return digest.hexdigest()


def opened(file: LogFile) -> BinaryIO:
    return file.path.open("rb")


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
                yield Block(number, data, read, "" if data else f"longer than {MAX_LINE_BYTES >> 20} MiB")
                number += data.count(b"\n") if data else 1
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
    rest, read, skipping = None, 0, False
    for chunk, read in chunks:
        rest = chunk.removeprefix(BOM) if rest is None else rest + chunk
        end = rest.rfind(b"\n") + 1
        if skipping and end:
            rest, end, skipping = rest[rest.find(b"\n") + 1 :], 0, False
            end = rest.rfind(b"\n") + 1
        if end and not skipping:
            yield rest[:end], read
            rest = rest[end:]
        if len(rest) > MAX_LINE_BYTES and not skipping:
            skipping = True
            yield b"", read
        if skipping:
            rest = b""
    if rest and not skipping:
        yield rest, read
