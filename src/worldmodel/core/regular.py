"""Files and folders that others made: regular files are opened, and what would keep a reader waiting is named."""

import io
import os
import stat
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

Parsed = TypeVar("Parsed")

HOLE = 1 << 30  # bytes in one piece that are on no disk: as much zeros to read as somebody likes to claim
KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def open_regular(path: Path) -> io.BufferedReader:
    """Raises OSError as open does, and ValueError where neither a regular file nor a link to one stands there."""
    try:
        _require(path, _kind(path.stat()))
    except OSError as error:
        if path.is_symlink():
            _require(path, f"a link that leads to no file ({error.strerror}); put the file in its place")
        raise
    stream = os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb")
    try:
        status = os.fstat(stream.fileno())  # another file may have taken its place
        _require(path, _kind(status) or (_hole(stream.fileno(), status.st_size) if status.st_size > HOLE else ""))
    except BaseException:
        stream.close()
        raise
    return stream


def read_text(path: Path) -> str:
    """UTF-8. Raises as `open_regular`, and ValueError for other text."""
    try:
        with io.TextIOWrapper(open_regular(path), encoding="utf-8") as stream:
            return stream.read()
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: {error}, expected text") from None


def parsed(path: Path, parser: Callable[[str], Parsed]) -> Parsed:
    """What the parser makes of the text. Raises ValueError that names the file."""
    try:
        return parser(read_text(path))
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        why = " ".join(str(error).removeprefix(f"{path}: ").split())
        raise ValueError(f"{path}: cannot be read: {why}; restore or rerun it") from None


def problem(path: Path) -> str:
    """Why it cannot be read, and what to do; no text where it can."""
    try:
        open_regular(path).close()
    except ValueError as error:
        return str(error).removeprefix(f"{path}: ")
    except OSError as error:
        return f"cannot be read ({error.strerror}); change its rights, or move it away"
    return ""


def set_aside(path: Path, why: str) -> None:
    """Make room for a new one; the old one stays beside it, to be looked at."""
    aside = path.with_name(f"{path.name}.{os.getpid()}.damaged")
    path.rename(aside)
    print(f"{path}: {why}; begun anew, the old one is {aside.name}", file=sys.stderr)


@contextmanager
def warned(what: str) -> Iterator[None]:
    """Around what is good to have and nothing depends on: where it fails, a line on stderr says so."""
    try:
        yield
    except (OSError, ValueError) as error:
        print(f"{what} ({error})", file=sys.stderr)


def walk(folder: Path) -> Iterator[tuple[Path, list[str], list[str]]]:
    """As os.walk, sorted; links to folders are named and not followed. Raises ValueError where one cannot be listed."""
    for parent, folders, names in os.walk(folder, onerror=_refuse_folder):
        folders.sort()
        yield Path(parent), folders, sorted(names)


def _refuse_folder(error: OSError) -> None:
    raise ValueError(f"{error.filename}: {error.strerror}; make this folder readable, or move it away")


def _require(path: Path, flaw: str) -> None:
    if flaw:
        raise ValueError(f"{path}: {flaw}")


def _kind(status: os.stat_result) -> str:
    mode = stat.S_IFMT(status.st_mode)
    return "" if mode == stat.S_IFREG else f"{KINDS.get(mode, 'no file')}, expected a regular file; move it away"


def _hole(handle: int, size: int) -> str:
    end = 0
    while end < size:
        begin, end = os.lseek(handle, end, os.SEEK_HOLE), size
        with suppress(OSError):  # none follows
            end = os.lseek(handle, begin, os.SEEK_DATA)
        if end - begin > HOLE:
            return f"{(end - begin) >> 20} MiB of it were never written; copy it again from where it came from"
    os.lseek(handle, 0, os.SEEK_SET)
    return ""
