"""One process at a time in a folder: a lock that the system takes back when its holder dies, however it dies."""

import fcntl
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from worldmodel.core.parent import unpublished

LOCK = "lock"
PATIENCE = 5.0  # seconds: an orphan needs a moment to see that it is one
RETRY = 0.1  # seconds


@contextmanager
def holding(folder: Path, what: str, patience: float | None = None) -> Iterator[None]:
    """Hold the folder. Raises ValueError, with the holder's pid, where another process holds it to do `what`.

    It is waited for so many seconds, PATIENCE where nothing is given.
    """
    with _holding(folder / LOCK, folder, what, patience):
        yield


@contextmanager
def writing(out: Path) -> Iterator[None]:
    """Be the one that writes this out, a file or folder; the lock lies beside it. Raises ValueError as `holding`."""
    place = Path(os.path.realpath(out))
    lock = place.with_name(f".{place.name}.lock")
    with _holding(lock, out, "write it"):
        unpublished.add(lock)
        try:
            yield
        finally:
            lock.unlink(missing_ok=True)
            unpublished.discard(lock)


@contextmanager
def waiting(folder: Path) -> Iterator[None]:
    """Hold the folder for a moment; whoever else wants to waits."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def remove(folder: Path) -> None:
    """Remove a folder that this process holds, the lock last."""
    for path in folder.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        elif path.name != LOCK:
            path.unlink()
    (folder / LOCK).unlink()
    with suppress(OSError):  # someone came in between
        folder.rmdir()


@contextmanager
def _holding(lock: Path, where: Path, what: str, patience: float | None = None) -> Iterator[None]:
    handle = _locked(lock, where, what, PATIENCE if patience is None else patience)
    try:
        os.ftruncate(handle, 0)
        with suppress(OSError):  # on a full disk: then the next one is not told who is here
            os.write(handle, str(os.getpid()).encode())
        yield
    finally:
        os.close(handle)


def _locked(path: Path, where: Path, what: str, patience: float) -> int:
    limit = time.monotonic() + patience
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        except FileNotFoundError:  # the folder's holder has removed it meanwhile
            continue
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(handle)
            if time.monotonic() > limit:
                raise ValueError(_refusal(path, where, what)) from None
            time.sleep(RETRY)
            continue
        if _is_still(handle, path):
            return handle
        os.close(handle)


def _is_still(handle: int, path: Path) -> bool:
    """Whether the file that was opened is the one that stands there: its holder may have removed it meanwhile."""
    with suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(handle), path.stat())
    return False


def _refusal(lock: Path, where: Path, what: str) -> str:
    with suppress(FileNotFoundError):
        pid = lock.read_text(encoding="utf-8").strip()
        return f"{where}: process {pid} is here to {what}; wait until it ends, or end it (kill {pid}), and run again"
    return f"{where}: another process was here to {what}; run again"
