"""artifacts/timing.json: what a clock says. No stage's out, so it never makes a result look changed."""

import json
import os
from pathlib import Path
from typing import Any

from worldmodel.core.atomic import replacing
from worldmodel.core.regular import read_text, set_aside, warned
from worldmodel.core.tables import six_digits


def record(path: Path, part: str, run: str, values: dict[str, float]) -> None:
    """Replace one part (train, inference), stamped with what was timed; the other part stays.

    No result depends on it: where it cannot be written, a line on stderr says so.
    """
    with warned(f"{path}: what the clock says is not recorded"):
        timing = _read(path)
        timing[part] = {"of": run} | {name: six_digits(value) for name, value in values.items()}
        with replacing(path) as temporary:
            temporary.write_text(json.dumps(timing, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def _read(path: Path) -> dict[str, Any]:
    """What was timed before; what holds anything else is set aside."""
    if not os.path.lexists(path):
        return {}
    try:
        timing = json.loads(read_text(path))
        if not isinstance(timing, dict) or not all(isinstance(part, dict) for part in timing.values()):
            raise ValueError("it is no object of objects")
    except (OSError, ValueError, RecursionError) as error:
        set_aside(path, f"not what a clock says ({str(error).removeprefix(f'{path}: ')})")
        return {}
    return timing
