"""What ran, when and where it did, and how it ended: a line for each runs/<run-id>, the oldest first (`make runs`)."""

import os
import platform
import sys
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import click

from worldmodel.core import run_records
from worldmodel.core.options import PATH
from worldmodel.core.project import project_folder
from worldmodel.core.tables import aligned

HEADER = ("run-id", "stage", "attempts", "last began", "took", "host", "revision", "ended")


@click.command()
@click.argument("folder", type=PATH, required=False)
def command(folder: Path | None) -> None:
    """List what ran, when and where, and how it ended: a line for each run, the oldest first, from runs/ or FOLDER."""
    folder = folder or project_folder() / "runs"
    found = list(_records(folder))
    rows = [_row(record) for record in sorted(found, key=lambda record: str(record["attempts"][-1]["start"]))]
    print(aligned(HEADER, rows) if rows else f"{folder}: nothing ran yet")


def _records(folder: Path) -> Iterator[dict[str, Any]]:
    """What is no record is named on stderr."""
    for each in run_records.folders(folder):
        try:
            yield run_records.read(each)
        except ValueError as error:
            print(error, file=sys.stderr)


def _row(record: dict[str, Any]) -> tuple[str, ...]:
    last = record["attempts"][-1]
    revision = (last["git"]["revision"] or "none")[:7] + ("+" if last["git"]["changed"] else "")
    began = last["start"].removesuffix("+00:00").replace("T", " ")
    tries = str(len(record["attempts"]))
    return record["run_id"], record["stage"], tries, began, _took(last), last["host"], revision, _outcome(last)


def _took(attempt: dict[str, Any]) -> str:
    if attempt["end"] is None:
        return "-"
    time = datetime.fromisoformat(attempt["end"]) - datetime.fromisoformat(attempt["start"])
    return str(time) if time.days >= 0 else "-"  # the clock was set back meanwhile


def _outcome(attempt: dict[str, Any]) -> str:
    if attempt["outcome"]:
        return str(attempt["outcome"])
    return "running" if attempt["host"] != platform.node() or _lives(attempt["pid"]) else "killed"


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except OSError as error:
        return isinstance(error, PermissionError)
    return True
