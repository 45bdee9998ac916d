"""Folders for what is needed for a while only."""

import errno
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

FULL = 16 << 20  # bytes: a disk with less has no room for what we do
OUT_OF_SPACE = (errno.ENOSPC, errno.EDQUOT)


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
