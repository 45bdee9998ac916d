"""What ran, when and where it did, and how it ended: a line for each runs/<run-id>, the oldest first (`make runs`)."""

import argparse
import os
import platform
import sys
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "src"))

from worldmodel.runtime import records, stage  # noqa: E402
from worldmodel.runtime.tables import aligned  # noqa: E402

HEADER = ("run-id", "stage", "attempts", "last began", "took", "host", "revision", "ended")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, nargs="?", default=ROOT / "runs")
    given = parser.parse_args(arguments)
    found = [records.read(path.parent) for path in given.folder.glob(f"*/{records.METADATA}")]
    rows = [_row(record) for record in sorted(found, key=lambda record: str(record["attempts"][-1]["start"]))]
    print(aligned(HEADER, rows) if rows else f"{given.folder}: nothing ran yet")


def _row(record: dict[str, Any]) -> tuple[str, ...]:
    last = record["attempts"][-1]
    revision = (last["git"]["revision"] or "none")[:7] + ("+" if last["git"]["changed"] else "")
    began = last["start"].removesuffix("+00:00").replace("T", " ")
    tries = str(len(record["attempts"]))
    return record["run_id"], record["stage"], tries, began, _took(last), last["host"], revision, _outcome(last)


def _took(attempt: dict[str, Any]) -> str:
    if attempt["end"] is None:
        return "-"
    seconds = datetime.fromisoformat(attempt["end"]) - datetime.fromisoformat(attempt["start"])
    return str(seconds)


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


if __name__ == "__main__":
    stage.run(main)
