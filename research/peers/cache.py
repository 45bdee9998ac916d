"""What was measured: a file for each model, named after all that decides its result."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from research.peers.training import BASELINES, OURS, PEERS, Row
from worldmodel.core.atomic import replacing
from worldmodel.core.fingerprint import fingerprint, import_closure, sha256
from worldmodel.core.params import Params
from worldmodel.core.tables import rounded
from worldmodel.core.versions import installed

LIBRARIES = ("numpy", "torch")
HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
SUFFIXES = (".jsonl", ".jsonl.gz")


@dataclass(frozen=True)
class Case:
    """One set of logs, cut to one number of train episodes."""

    kind: str
    logs: Path
    size: int  # train episodes; 0 = all
    seed: int


@dataclass(frozen=True)
class ResultCache:
    """A result of other params, code, logs, seed or seconds has another name."""

    folder: Path
    settings: Params
    seconds: float | None  # of each peer; None: what ours took in the same case

    def get(self, case: Case, model: str) -> Row | None:
        path = self._path(case, model)
        if path is None or not path.is_file():
            return None
        row: Row = json.loads(path.read_text(encoding="utf-8"))
        return row

    def put(self, case: Case, model: str, row: Row) -> None:
        path = self._path(case, model)
        assert path is not None
        body = {"logs": case.kind, "train_episodes": case.size, "seed": case.seed, **rounded(row)}
        with replacing(path) as temporary:
            temporary.write_text(json.dumps(body, indent=1) + "\n", encoding="utf-8")

    def seconds_of(self, case: Case) -> float | None:
        """What a peer gets; None as long as ours has not run."""
        if self.seconds is not None:
            return self.seconds
        ours = self.get(case, OURS)
        return None if ours is None else float(ours["seconds"])

    def _path(self, case: Case, model: str) -> Path | None:
        """None for a peer whose seconds are not known yet."""
        seconds = self.seconds_of(case) if model in PEERS else None
        if model in PEERS and seconds is None:
            return None
        digest = fingerprint(
            {
                "code": code_of(model),
                "logs": _digest(case.logs),
                "params": _params_of(model, self.settings, case.size),
                "seconds": seconds,
                "seed": case.seed,
                "versions": installed(LIBRARIES),
            }
        )
        return self.folder / case.kind / f"{case.size}-seed-{case.seed}-{model}-{digest[:12]}.json"


def kinds_of(paths: Sequence[Path]) -> dict[str, Path]:
    """Name -> file: each log file, or each in a folder, is a kind of logs.

    Raises ValueError where there is none, or where two have one name.
    """
    files = [file for path in paths for file in (sorted(path.iterdir()) if path.is_dir() else [path])]
    logs = [file for file in files if file.name.endswith(SUFFIXES) and file.is_file()]
    kinds = {file.name.removesuffix(".gz").removesuffix(".jsonl"): file for file in logs}
    if not logs or len(kinds) < len(logs):
        named = ", ".join(map(str, logs or paths))
        raise ValueError(f"{named}: expected files {' or '.join(SUFFIXES)} with a name of its own each")
    return kinds


@cache
def code_of(model: str) -> dict[str, str]:
    """sha256 of every file of the project that trains the model and measures it, by its path."""
    entries = ["training"] if model in BASELINES else ["training", model]
    files = {path for name in entries for path in import_closure(HERE / f"{name}.py", [ROOT / "src", ROOT])}
    return {path.relative_to(ROOT).as_posix(): sha256(path) for path in sorted(files)}


@cache
def _digest(path: Path) -> str:
    return sha256(path)


def _params_of(model: str, settings: Params, size: int) -> dict[str, Any]:
    """Ours depends on all that trains it, the others on what their data is made with and how numbers are computed."""
    shared = {
        "prepare": asdict(replace(settings.prepare, train_episodes=size)),
        "normalize": asdict(settings.normalize),
    }
    train = asdict(settings.train)
    if model == OURS:
        return shared | {"dreams": asdict(settings.dreams), "train": train}
    return shared | {key: train[key] for key in ("history", "horizon", "threads", "numerics")}
