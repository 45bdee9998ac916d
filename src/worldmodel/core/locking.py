"""One process at a time in a folder: a lock that the system takes back when its holder dies, however it dies."""

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

LOCK = "lock"


@contextmanager
def holding(folder: Path, what: str) -> Iterator[None]:
    """Hold the folder. Raises ValueError, with the holder's pid, where another process holds it to do `what`."""
    handle = _locked(folder / LOCK, what)
    try:
        os.ftruncate(handle, 0)
        os.write(handle, str(os.getpid()).encode())
        yield
    finally:
        os.close(handle)


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


def _locked(path: Path, what: str) -> int:
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
            raise ValueError(_refusal(path, what)) from None
        if _is_still(handle, path):
            return handle
        os.close(handle)


def _is_still(handle: int, path: Path) -> bool:
    """Whether the file that was opened is the one that stands there: its holder may have removed it meanwhile."""
    with suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(handle), path.stat())
    return False


def _refusal(path: Path, what: str) -> str:
    pid = path.read_text(encoding="utf-8").strip() or "unknown"
    return f"{path.parent}: process {pid} is here to {what}; wait until it ends, or end it (kill {pid}), and run again"
