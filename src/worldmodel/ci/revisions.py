"""The project in two states, the working tree and a commit, as far as git alone knows them."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from worldmodel.core.processes import git
from worldmodel.core.tables import read_csv
from worldmodel.core.yaml12 import leaves, parse, parse_dvc

METRICS, PARAMS, LOCK = "artifacts/metrics.json", "params.yaml", "dvc.lock"
HORIZON, VERDICT, TIMING = "artifacts/plots/horizon.csv", "artifacts/plots/verdict.csv", "artifacts/timing.json"

Parsed = TypeVar("Parsed")


@dataclass(frozen=True)
class State:
    """Empty where a file is not there."""

    metrics: Mapping[str, float]  # dotted name -> value
    params: Mapping[str, Any]  # dotted name -> value
    stages: Mapping[str, Mapping[str, Any]]  # of dvc.lock
    horizon: Mapping[str, Mapping[int, float]]  # series -> frame -> error
    timed: str | None  # run-id that the clock's numbers belong to
    verdict: Mapping[str, str]  # ok, and each reason -> what is to be said; nothing where it does not hold


def merge_base(base: str) -> str | None:
    """The commit that the working tree's branch left `base` at; None where base is empty or shares no history.

    Raises ValueError where base is no commit, history was cut off, or git refuses this repository.
    """
    if not base:
        return None
    shallow = git("rev-parse", "--is-shallow-repository") == "true"
    try:
        commit = git("rev-parse", "--verify", "--end-of-options", f"{base}^{{commit}}")
    except ValueError as error:
        raise ValueError(f"BASE: found {base!r}, expected a branch or commit, or BASE= for none; {error}") from None
    found = git("merge-base", commit, "HEAD", fine=(0, 1))
    if not found and shallow:
        raise ValueError(
            f"no common commit of HEAD and {base} in this shallow clone; run `git fetch --unshallow` first"
        )
    return found or None


def state(revision: str | None) -> State:
    """Of the commit, or of the working tree. Raises ValueError where a file is not what its name says."""
    metrics = _read(METRICS, revision, lambda text: _mapping(json.loads(text)))
    return State(
        {name: value for name, value in leaves(metrics) if isinstance(value, int | float)},
        dict(leaves(_read(PARAMS, revision, lambda text: _mapping(parse(text))))),
        _read(LOCK, revision, _stages) or {},
        _read(HORIZON, revision, _series) or {},
        _read(TIMING, revision, _timed),
        _read(VERDICT, revision, lambda text: {row["reason"]: row["text"] for row in read_csv(text)}) or {},
    )


def run_id(found: State, cache: Path) -> str | None:
    """Name of the bundle that dvc.lock speaks of; None where it is neither in DVC's cache nor the one last timed."""
    outs = found.stages.get("export", {}).get("outs", [])
    for digest in (out["md5"] for out in outs if out["path"] == "artifacts/worldmodel"):
        listing = cache / "files/md5" / digest[:2] / digest[2:]
        if listing.is_file():
            return str(json.loads(listing.read_text(encoding="utf-8"))[0]["relpath"]).split("/")[0]
    return found.timed


def _read(path: str, revision: str | None, parser: Callable[[str], Parsed]) -> Parsed | None:
    """None where there is no such file."""
    if revision is None:
        text = Path(path).read_text(encoding="utf-8") if Path(path).is_file() else None
    else:
        known = git("ls-tree", "--name-only", revision, path)
        text = git("cat-file", "blob", f"{revision}:./{path}") if known else None
    try:
        return None if text is None else parser(text)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        where = path if revision is None else f"{path} of {revision[:7]}"
        raise ValueError(f"{where}: cannot be read: {' '.join(str(error).split())}; restore or rerun it") from None


def _mapping(found: Any) -> Mapping[str, Any]:
    if not isinstance(found, Mapping):
        raise ValueError(f"it holds {type(found).__name__}, expected keys and values")
    return found


def _stages(text: str) -> Mapping[str, Mapping[str, Any]]:
    stages = _mapping(_mapping(parse_dvc(text)).get("stages", {}))
    for out in (out for stage in stages.values() for out in _mapping(stage).get("outs", ())):
        _mapping(out)
    return stages


def _timed(text: str) -> str | None:
    of = _mapping(_mapping(json.loads(text)).get("inference", {})).get("of")
    return None if of is None else str(of)


def _series(text: str) -> dict[str, dict[int, float]]:
    found: dict[str, dict[int, float]] = {}
    for row in read_csv(text):
        found.setdefault(row["series"], {})[int(row["frame"])] = float(row["mse"])
    return found
