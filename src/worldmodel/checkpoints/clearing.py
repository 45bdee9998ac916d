"""Checkpoints that nobody came back for: params or code moved on, and no run may ever have their fingerprint again."""

import re
import sys
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from worldmodel.core import locking

DAYS = 14
FINGERPRINT = re.compile(r"[0-9a-f]{64}")


def clear_abandoned(folder: Path) -> None:
    """Remove folder/<fingerprint>/ where nothing was written for more than DAYS and no process holds it."""
    limit = time.time() - DAYS * 24 * 3600
    for each in sorted(folder.glob("*")):
        if FINGERPRINT.fullmatch(each.name):
            with suppress(ValueError, OSError):  # held, maybe by a process that was stopped; or not ours to remove
                _clear(each, limit)


def _clear(folder: Path, limit: float) -> None:
    if _last_written(folder.rglob("*")) < limit:
        with locking.holding(folder, "clear up", patience=0):
            if _last_written(path for path in folder.rglob("*") if path.name != locking.LOCK) < limit:
                locking.remove(folder)
                print(f"{folder}: removed, nobody has gone on from here for {DAYS} days", file=sys.stderr)


def _last_written(files: Iterable[Path]) -> float:
    """Seconds since 1970; 0 where there are none."""
    return max((path.stat().st_mtime for path in files), default=0.0)
