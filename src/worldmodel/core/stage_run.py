"""What a stage computes, by what its result depends on: declared params, inputs, code, library versions.

DVC looks at dependencies once a stage has ended. What was edited while it ran would be recorded as what the result was
made from: hence hashes of our own at the start and at the end.
"""

import os
import signal
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from types import FrameType
from typing import Any

from worldmodel.core import params, parent, run_records, versions
from worldmodel.core.fingerprint import content_hashes, fingerprint, stage_code
from worldmodel.core.yaml12 import leaves

RUNS = "runs"
SHOWN = 5  # names in a message


@dataclass(frozen=True)
class StageRun:
    stage: str
    settings: Any  # all params that the stage declares, as they were when it began
    inputs: Mapping[str, Path | str]  # all files and folders that it reads, by names that say what they are
    libraries: Sequence[str]  # those that can change its result

    @cached_property
    def initial_hashes(self) -> dict[str, dict[str, Any]]:
        """Of params, inputs and code, by name, as they were when the stage began."""
        return self._hashes(self.settings)

    @cached_property
    def depends_on(self) -> dict[str, Any]:
        """The same wherever and whenever the same is computed."""
        return {
            "stage": self.stage,
            "params": asdict(self.settings),
            "inputs": self.initial_hashes["input"],
            "code": fingerprint(self.initial_hashes["code"]),
            "versions": versions.installed(self.libraries),
        }

    @property
    def fingerprint(self) -> str:
        return fingerprint(self.depends_on)

    @property
    def run_id(self) -> str:
        return self.fingerprint[:12]

    @property
    def checkpoints(self) -> Path:
        """No out of the stage, so that DVC leaves it alone."""
        return home() / ".checkpoints" / self.stage / self.fingerprint

    @contextmanager
    def record(self, params_file: Path) -> Iterator[None]:
        """Keep a record of the work, in runs/<run-id>/, as long as the process that asked for it is there.

        Raises ValueError where other library versions are installed than the project tracks, and at the end where code,
        inputs or params are no longer those that it began with.
        """
        parent.end_with_parent()
        _clean_up_when_ended()
        versions.require(self.libraries)
        about = {"run_id": self.run_id, "stage": self.stage, "depends_on": self.depends_on}
        with run_records.attempt(home() / RUNS / self.run_id, about):
            yield
            self._require_unchanged(params_file)
            versions.require(self.libraries)

    def _require_unchanged(self, params_file: Path) -> None:
        now = self._hashes(params.load(params_file, type(self.settings)))
        moved = [
            f"{kind} {name}" for kind, before in self.initial_hashes.items() for name in _differing(before, now[kind])
        ]
        if moved:
            shown = ", ".join(moved[:SHOWN]) + (f" and {len(moved) - SHOWN} more" if len(moved) > SHOWN else "")
            raise ValueError(f"{self.stage}: what it depends on changed while it ran: {shown}; run it again")

    def _hashes(self, settings: Any) -> dict[str, dict[str, Any]]:
        return {
            "param": dict(leaves(asdict(settings))),
            "input": content_hashes(self.inputs),
            "code": stage_code(self.stage),
        }


def begin(stage: str, settings: Any, inputs: Mapping[str, Path | str], libraries: Sequence[str]) -> StageRun:
    """Note the hashes of everything that the stage depends on."""
    run = StageRun(stage, settings, inputs, libraries)
    assert run.initial_hashes
    return run


def _clean_up_when_ended() -> None:
    """Let SIGTERM and SIGHUP end this process as an error does: what is half written goes."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) == signal.SIG_DFL:
            signal.signal(number, _end)


def _end(number: int, _: FrameType | None) -> None:
    raise SystemExit(128 + number)


def home() -> Path:
    """The project's folder: DVC names the user's also to what it runs elsewhere."""
    return Path(os.environ.get("DVC_ROOT", "."))


def _differing(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    return sorted(name for name in one.keys() | other.keys() if one.get(name) != other.get(name))
