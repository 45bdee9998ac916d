"""The project in two states, the working tree and a commit, as far as git alone knows them."""

import csv
import json
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import yaml

from worldmodel.core.yaml12 import parse

METRICS, PARAMS, LOCK = "artifacts/metrics.json", "params.yaml", "dvc.lock"
HORIZON, TIMING = "artifacts/plots/horizon.csv", "artifacts/timing.json"

Parsed = TypeVar("Parsed")


@dataclass(frozen=True)
class State:
    """Empty where a file is not there."""

    revision: str | None  # of a commit; None: the working tree
    metrics: Mapping[str, float]  # dotted name -> value
    params: Mapping[str, Any]  # dotted name -> value
    stages: Mapping[str, Mapping[str, Any]]  # of dvc.lock
    horizon: Mapping[str, Mapping[int, float]]  # series -> frame -> error
    timed: str | None  # run-id that the clock's numbers belong to


def merge_base(base: str) -> str | None:
    """The commit that the working tree's branch left `base` at; None where base is empty or shares no history.

    Raises ValueError where base is no commit, or history was cut off.
    """
    if not base:
        return None
    if git("rev-parse", "--verify", "--quiet", f"{base}^{{commit}}") is None:
        raise ValueError(
            f"BASE: found {base!r}, which git does not know; expected a branch or commit, or BASE= for none"
        )
    found = git("merge-base", base, "HEAD")
    if found is None and (git("rev-parse", "--is-shallow-repository") or "").strip() == "true":
        raise ValueError(
            f"no common commit of HEAD and {base} in this shallow clone; run `git fetch --unshallow` first"
        )
    return found.strip() if found else None


def state(revision: str | None) -> State:
    """Raises ValueError where a file is not what its name says."""
    timing = _read(TIMING, revision, json.loads) or {}
    return State(
        revision,
        {name: value for name, value in leaves(_read(METRICS, revision, json.loads)) if isinstance(value, int | float)},
        dict(leaves(_read(PARAMS, revision, parse))),
        (_read(LOCK, revision, parse) or {}).get("stages", {}),
        _read(HORIZON, revision, _series) or {},
        timing.get("inference", {}).get("of"),
    )


def run_id(found: State) -> str | None:
    """Name of the bundle that dvc.lock speaks of; None where it is neither in DVC's cache nor the one last timed."""
    outs = found.stages.get("export", {}).get("outs", [])
    cache = _output("dvc", "cache", "dir")
    for digest in (out["md5"] for out in outs if out["path"] == "artifacts/worldmodel"):
        listing = Path((cache or "").strip()) / "files/md5" / digest[:2] / digest[2:]
        if listing.is_file():
            return str(json.loads(listing.read_text(encoding="utf-8"))[0]["relpath"]).split("/")[0]
    return found.timed


def leaves(values: Any, prefix: str = "") -> list[tuple[str, Any]]:
    if not isinstance(values, dict):
        return [(prefix[:-1], values)] if prefix else []
    return [leaf for key, value in values.items() for leaf in leaves(value, f"{prefix}{key}.")]


def git(*arguments: str) -> str | None:
    """What it says; None where it fails."""
    return _output("git", *arguments)


def _output(*command: str) -> str | None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return None if done.returncode else done.stdout


def _read(path: str, revision: str | None, parser: Callable[[str], Parsed]) -> Parsed | None:
    if revision is None:
        text = Path(path).read_text(encoding="utf-8") if Path(path).is_file() else None
    else:
        text = git("show", f"{revision}:./{path}")
    try:
        return None if text is None else parser(text)
    except (ValueError, KeyError, yaml.YAMLError) as error:
        where = path if revision is None else f"{path} of {revision[:7]}"
        raise ValueError(f"{where}: cannot be read: {' '.join(str(error).split())}; restore or rerun it") from None


def _series(text: str) -> dict[str, dict[int, float]]:
    found: dict[str, dict[int, float]] = {}
    for row in csv.DictReader(text.splitlines()):
        found.setdefault(row["series"], {})[int(row["frame"])] = float(row["mse"])
    return found
