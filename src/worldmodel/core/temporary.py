"""Folders for what is needed for a while only, and what to do where a disk takes no more."""

import errno
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

FULL = 16 << 20  # bytes: a disk with less has no room for what we do
OUT_OF_SPACE = (errno.ENOSPC, errno.EDQUOT)

REMEDIES = {
    errno.ENOSPC: "make room on its disk",
    errno.EDQUOT: "make room within the quota",
    errno.EFBIG: "raise the limit on the size of files (ulimit -f)",
    errno.EIO: "look for a failing disk in the system's log",
    errno.EROFS: "mount its disk for writing, or choose another place",
    errno.EACCES: "change the rights of its folder, or choose another place",
    errno.EPERM: "change the rights of its folder, or choose another place",
    errno.ENAMETOOLONG: "choose a shorter path",
    errno.EMFILE: "raise the limit on open files (ulimit -n)",
    errno.ENFILE: "end programs that hold many files open",
    errno.ENOTDIR: "move away the file that stands where a folder should be",
    errno.EEXIST: "move away the file that stands where a folder should be",
    errno.EISDIR: "move away the folder that stands where a file should be",
}
HIDDEN = re.compile(r"(^|/)\.([^/]+?)(\.\d+)?\.tmp(?=/|$)")  # what atomic.py writes, before it takes its place


class NotWrittenError(OSError):
    """Says which file or folder, why, and what to do."""

    def __str__(self) -> str:
        return f"{self.filename}: {self.strerror}"


@contextmanager
def naming(*places: Path) -> Iterator[None]:
    """Around what is written to one of the places: the system's error becomes a NotWrittenError."""
    try:
        yield
    except NotWrittenError:
        raise
    except OSError as error:
        remedy, named = REMEDIES.get(error.errno or 0), str(error.filename or places[0])
        ours = (text for place in places for text in (str(place), f"{place.parent}/."))
        if not remedy or not (named.startswith(tuple(ours)) or named in map(str, (each.parent for each in places))):
            raise
        left = f" ({_free(places[0])} MiB free)" if error.errno in OUT_OF_SPACE else ""
        what = f"{error.strerror}{left}; {remedy}, and run again"
        raise NotWrittenError(error.errno, what, HIDDEN.sub(r"\1\2", named)) from error


def _free(place: Path) -> int:
    while not place.exists():
        place = place.parent
    return shutil.disk_usage(place).free >> 20


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """An empty folder below TMPDIR that is removed in the end.

    Raises OSError that says where it is and how to choose another place, where there is no room left.
    """
    try:
        made = tempfile.TemporaryDirectory()
    except OSError as error:
        raise OSError(f"no temporary folder can be made ({error}); set TMPDIR to a folder that has room") from None
    with made as name:
        try:
            yield Path(name)
        except (OSError, ValueError) as error:
            free = shutil.disk_usage(name).free
            if free >= FULL and getattr(error, "errno", None) not in OUT_OF_SPACE:
                raise
            raise OSError(
                f"{error}\n{name}, for temporary files, has {free / (1 << 20):.0f} MiB free: "
                "make room, or set TMPDIR to a folder that has more"
            ) from error
