"""artifacts/timing.json: what a clock says. No stage's out, so it never makes a result look changed."""

import json
from pathlib import Path
from typing import Any

from worldmodel.core.atomic import replacing
from worldmodel.core.tables import six_digits


def record(path: Path, part: str, run: str, values: dict[str, float]) -> None:
    """Replace one part (train, inference), stamped with what was timed; the other part stays."""
    timing = _read(path)
    timing[part] = {"of": run} | {name: six_digits(value) for name, value in values.items()}
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(timing, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def _read(path: Path) -> dict[str, Any]:
    """What was timed before; a file that is no JSON object is begun anew."""
    try:
        timing = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return {}
    return timing if isinstance(timing, dict) else {}
