"""The outer edge of a stage: what its result depends on, and what was wrong with its input as one message."""

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from worldmodel.runtime.fingerprint import content_hashes, fingerprint, source_hashes, versions


@dataclass(frozen=True)
class Work:
    """What one stage computes, by what its result depends on: the same wherever and whenever it is computed."""

    stage: str
    fingerprint: str  # of declared params, inputs, code and library versions

    @property
    def checkpoints(self) -> Path:
        """No out of the stage, so that DVC leaves it alone; in the main project also where an experiment runs apart."""
        return home() / ".checkpoints" / self.stage / self.fingerprint


def home() -> Path:
    """The project's folder: DVC names that of the user also to what it runs elsewhere."""
    return Path(os.environ.get("DVC_ROOT", "."))


def work(entry: Path, settings: Any, inputs: Mapping[str, Path], libraries: Sequence[str]) -> Work:
    """entry: the stage's file; settings: all params that it declares; inputs: all files and folders that it reads."""
    depends_on = {
        "stage": entry.stem,
        "params": asdict(settings),
        "inputs": content_hashes(inputs),
        "code": source_hashes(entry),
        "versions": versions(libraries),
    }
    return Work(entry.stem, fingerprint(depends_on))


def run(main: Callable[[], object]) -> None:
    """Call main; a ValueError or OSError ends the process with `error: ...` on stderr (`python -X dev` shows where)."""
    try:
        main()
    except (ValueError, OSError) as error:
        if sys.flags.dev_mode:
            raise
        raise SystemExit(f"error: {error}") from None
