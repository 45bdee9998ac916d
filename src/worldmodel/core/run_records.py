"""runs/<run-id>/metadata.json: when, where and by what a stage ran. No stage's out: it is of one machine and moment."""

import json
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from worldmodel.core.atomic import replacing
from worldmodel.core.locking import waiting

METADATA = "metadata.json"
RESULTS = (":!artifacts", ":!dvc.lock")  # what stages write does not make the code that wrote it another one


@contextmanager
def attempt(folder: Path, about: dict[str, Any]) -> Iterator[None]:
    """Note that work `about` which this folder is began and how it ended; what was killed stays without an end."""
    number = _append(folder, about, _circumstances())
    try:
        yield
    except BaseException as error:
        with suppress(OSError):  # it is the error that matters
            _end(folder, number, _outcome(error))
        raise
    _end(folder, number, "finished")


def read(folder: Path) -> dict[str, Any]:
    """Raises ValueError where there is no record."""
    try:
        found = json.loads((folder / METADATA).read_text(encoding="utf-8"))
        return dict(found) | {"attempts": list(found["attempts"])}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{folder / METADATA}: no record of a run ({error}); remove the folder") from None


def _append(folder: Path, about: dict[str, Any], circumstances: dict[str, Any]) -> int:
    folder.mkdir(parents=True, exist_ok=True)
    with waiting(folder):
        before = read(folder)["attempts"] if (folder / METADATA).exists() else []
        _write(folder, about | {"attempts": [*before, circumstances]})
    return len(before)


def _end(folder: Path, number: int, outcome: str) -> None:
    with waiting(folder):
        record = read(folder)
        record["attempts"][number] |= {"end": _now(), "outcome": outcome}
        _write(folder, record)


def _write(folder: Path, record: dict[str, Any]) -> None:
    with replacing(folder / METADATA) as temporary:
        temporary.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def _outcome(error: BaseException) -> str:
    if isinstance(error, KeyboardInterrupt):
        return "stopped"
    if isinstance(error, SystemExit):
        return f"stopped, exit code {error.code}"
    return f"failed: {str(error).splitlines()[0] if str(error) else type(error).__name__}"


def _circumstances() -> dict[str, Any]:
    return {
        "start": _now(),
        "end": None,
        "outcome": None,
        "host": platform.node(),
        "pid": os.getpid(),
        "command": shlex.join([Path(sys.executable).name, *sys.argv]),
        "git": {"revision": _git("rev-parse", "HEAD"), "changed": _changed()},
        "python": platform.python_version(),
        "packages": sorted({f"{each.name}=={each.version}" for each in metadata.distributions()}, key=str.lower),
    }


def _changed() -> list[str]:
    """Files other than in the revision, results aside."""
    found = _git("--no-optional-locks", "status", "--porcelain", "--", ".", *RESULTS) or ""
    return [line[3:] for line in found.splitlines()]


def _git(*arguments: str) -> str | None:
    """None where there is no git, or no repository."""
    with suppress(OSError):
        done = subprocess.run(["git", *arguments], capture_output=True, text=True, check=False)
        return done.stdout.rstrip("\n") if done.returncode == 0 else None
    return None


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
