"""The process that asked for the work, DVC or a shell: once it is gone, nobody takes what is made here.

A killed DVC leaves its stage alive. That ends by itself, and publishes nothing meanwhile: the next run may have come
with other params, or have brought the same out from the cache.
"""

import os
import shutil
import signal
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from itertools import pairwise
from os import getppid
from pathlib import Path
from threading import Thread

CHECK = 0.5  # seconds between two looks
# Noted when this is loaded, as early as may be: what is asked later may be who takes in orphans.
STARTED_BY = getppid()
IGNORED = "the process that started this has gone: nothing more is written here; run again to go on"

unpublished = set[Path]()  # removed before this process ends as an orphan
_watched: list[int] = []


def end_with_parent() -> None:
    """End this process, from now on, when the one that started it is gone, and what started that, where it is a shell.

    What a user runs with nohup, without DVC, goes on alone.
    """
    if "DVC_ROOT" in os.environ or signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
        _watched[:] = _askers()
        end_with(_watched)


def end_with(ancestors: Sequence[int]) -> None:
    """End this process as soon as one of them is gone: its parent, the parent of that, and so on."""

    def watch() -> None:
        while _are_there(ancestors):
            time.sleep(CHECK)
        for path in list(unpublished):
            with suppress(OSError):
                remove(path)
        if _watched:
            print(f"error: {IGNORED}", file=sys.stderr, flush=True)
        os._exit(1)

    Thread(target=watch, daemon=True).start()


def remove(path: Path) -> None:
    """A file or folder, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def require_parent() -> None:
    """Raises ProcessLookupError where this process is an orphan that was to end with its parent."""
    if not _are_there(_watched):
        raise ProcessLookupError(IGNORED)


def _askers() -> list[int]:
    """The parent; where that is a shell which runs one command (`sh -c`), its parent as well."""
    import psutil  # where it is needed: a stage that DVC starts looks at its parent alone

    found = [STARTED_BY]
    try:
        while _runs_a_command(psutil.Process(found[-1]).cmdline()):
            found.append(psutil.Process(found[-1]).ppid())
    except psutil.Error:  # of another user, or gone: then that is seen at the first look
        pass
    return found


def _runs_a_command(command: Sequence[str]) -> bool:
    return bool(command) and Path(command[0]).name.endswith("sh") and "-c" in command[1:5]


def _are_there(ancestors: Sequence[int]) -> bool:
    if ancestors and getppid() != ancestors[0]:
        return False
    if len(ancestors) < 2:
        return True
    import psutil

    try:
        return all(psutil.Process(child).ppid() == parent for child, parent in pairwise(ancestors))
    except psutil.NoSuchProcess:
        return False
