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
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, Field, ValidationError

from worldmodel.core.addresses import known_secrets, public, redacted
from worldmodel.core.atomic import replacing
from worldmodel.core.locking import waiting
from worldmodel.core.regular import read_text, set_aside, warned

METADATA = "metadata.json"
MOST = 2000  # characters of why something failed
RESULTS = (":!artifacts", ":!dvc.lock")  # what stages write does not make the code that wrote it another one


def _moment(text: str) -> str:
    datetime.fromisoformat(text)
    return text


Moment = Annotated[str, AfterValidator(_moment)]


class Git(BaseModel):
    revision: str | None  # None where there is no git, or no repository
    changed: list[str]


class Attempt(BaseModel, extra="allow"):
    start: Moment
    end: Moment | None
    outcome: str | None
    host: str
    pid: int
    git: Git


class Record(BaseModel, extra="allow"):
    run_id: str
    stage: str
    attempts: Annotated[list[Attempt], Field(min_length=1)]


@contextmanager
def attempt(folder: Path, about: dict[str, Any]) -> Iterator[None]:
    """Note that work `about` which this folder is began and how it ended; what was killed stays without an end.

    Where no note can be made, a line on stderr says why, and the work goes on.
    """
    number, outcome = None, "finished"
    with warned(f"{folder}: this run is not recorded"):
        number = _append(folder, about, _circumstances())
    try:
        yield
    except BaseException as error:
        outcome = _outcome(error)
        raise
    finally:
        with warned(f"{folder}: how this run ended is not recorded"):
            if number is not None:
                _end(folder, number, outcome)


def folders(runs: Path) -> list[Path]:
    """Those of records. Raises OSError where they cannot be looked through."""
    return sorted(each for each in runs.iterdir() if (each / METADATA).exists()) if runs.is_dir() else []


def read(folder: Path) -> dict[str, Any]:
    """Raises ValueError where there is no record."""
    try:
        return _parsed(folder / METADATA)
    except (OSError, ValueError) as error:
        raise ValueError(f"{folder / METADATA}: no record of a run ({error}); remove the folder") from None


def _parsed(path: Path) -> dict[str, Any]:
    try:
        return Record.model_validate_json(read_text(path)).model_dump()
    except ValidationError as error:
        first = error.errors()[0]
        raise ValueError(": ".join([*map(str, first["loc"]), first["msg"]])) from None


def _append(folder: Path, about: dict[str, Any], circumstances: dict[str, Any]) -> int:
    folder.mkdir(parents=True, exist_ok=True)
    with waiting(folder):
        before = _earlier(folder)
        _write(folder, about | {"attempts": [*before, circumstances]})
    return len(before)


def _earlier(folder: Path) -> list[dict[str, Any]]:
    """Attempts so far; what is no record is set aside."""
    if not os.path.lexists(folder / METADATA):
        return []
    try:
        return list(_parsed(folder / METADATA)["attempts"])
    except (OSError, ValueError) as error:
        set_aside(folder / METADATA, f"no record of a run ({error})")
        return []


def _end(folder: Path, number: int, outcome: str) -> None:
    with waiting(folder):
        record = read(folder)
        for each in record["attempts"][number : number + 1]:
            each |= {"end": _now(), "outcome": outcome}
        _write(folder, record)


def _write(folder: Path, record: dict[str, Any]) -> None:
    with replacing(folder / METADATA) as temporary:
        temporary.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def _outcome(error: BaseException) -> str:
    if isinstance(error, KeyboardInterrupt):
        return "stopped"
    if isinstance(error, SystemExit):
        return f"stopped, exit code {error.code}"
    said = redacted(str(error)[:MOST], known_secrets(sys.argv)).splitlines()
    return f"failed: {said[0] if said else type(error).__name__}"


def _circumstances() -> dict[str, Any]:
    return {
        "start": _now(),
        "end": None,
        "outcome": None,
        "host": platform.node(),
        "pid": os.getpid(),
        "command": shlex.join([Path(sys.executable).name, *map(public, sys.argv)]),
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
