"""What runs/ and artifacts/ hold, as trackers want it: params, metrics, curves and tags of each run-id."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

from worldmodel.ci.revisions import METRICS, TIMING
from worldmodel.core import run_records
from worldmodel.core.addresses import redacted
from worldmodel.core.regular import parsed
from worldmodel.core.tables import read_csv
from worldmodel.core.yaml12 import leaves, read_yaml

Curve = list[tuple[int, float]]  # step (of training, or frame of the horizon), value
CURVES = {
    "loss": ("step", "loss"),
    "rho": ("step", "rho"),
    "horizon": ("frame", "mse"),
    "coverage": ("frame", "coverage"),
}


@dataclass
class Tracked:
    """One run-id; of a bundle, with what was measured of it."""

    run_id: str
    stage: str
    params: dict[str, Any]
    tags: dict[str, str] = field(default_factory=dict)
    begun: float = 0.0  # seconds since 1970; 0 where no record says
    ended: float = 0.0
    outcome: str = "finished"  # finished | failed | killed, which one that runs looks like too
    metrics: dict[str, float] = field(default_factory=dict)
    curves: dict[str, Curve] = field(default_factory=dict)

    def points(self) -> Iterator[tuple[str, float, int]]:
        """Metrics and curves as name, value, step; a metric stands at step 0."""
        yield from ((name, value, 0) for name, value in self.metrics.items())
        yield from ((name, value, step) for name, curve in self.curves.items() for step, value in curve)


def tracked(project: Path) -> list[Tracked]:
    """Of each record in runs/, and of the bundle in artifacts/; the oldest first.

    Raises ValueError where there is neither, or where one is not readable.
    """
    found = {
        each.run_id: each
        for each in map(_of_record, (each / run_records.METADATA for each in run_records.folders(project / "runs")))
    }
    for manifest in sorted((project / "artifacts/worldmodel").glob("*/manifest.yaml")):
        run_id = str(read_yaml(manifest).get("run_id", manifest.parent.name))
        params = dict(leaves(read_yaml(manifest.with_name("params.yaml"))))
        measured = found.setdefault(run_id, Tracked(run_id, "export", params))
        measured.metrics = _metrics(project, run_id)
        measured.curves = _curves(project / "artifacts/plots")
    if not found:
        raise ValueError(f"{project}: nothing in runs/ and no bundle in artifacts/worldmodel/; run `dvc repro` first")
    return sorted(found.values(), key=lambda each: (each.begun, each.run_id))


def _of_record(path: Path) -> Tracked:
    record = run_records.read(path.parent)
    about, last = record["depends_on"], record["attempts"][-1]
    began, ended = (datetime.fromisoformat(text).timestamp() if text else 0.0 for text in (last["start"], last["end"]))
    outcome = {"finished": "finished", None: "killed"}.get(last["outcome"], "failed")
    tags = {name: redacted(str(last[name])) for name in ("command", "host", "outcome", "python")}
    tags |= {"attempts": str(len(record["attempts"])), "code": about["code"]}
    tags |= {"git.changed": str(len(last["git"]["changed"])), "git.revision": str(last["git"]["revision"])}
    tags |= {f"versions.{name}": version for name, version in about["versions"].items()}
    params = dict(leaves(about["params"]))
    return Tracked(record["run_id"], record["stage"], params, tags, began, ended or began, outcome)


def _metrics(project: Path, run_id: str) -> dict[str, float]:
    """What was measured, and what the clock said where that was of this bundle."""
    found = _read(project / METRICS)
    clock = _read(project / TIMING).get("inference", {})
    if clock.get("of") == run_id:
        found["timing"] = {name: value for name, value in clock.items() if name != "of"}
    return {name: float(value) for name, value in leaves(found)}


def _read(path: Path) -> dict[str, Any]:
    """Nothing where there is no such file."""
    return parsed(path, lambda text: dict(json.loads(text))) if path.exists() else {}


def _points(text: str, x: str, y: str) -> list[tuple[str, int, float]]:
    return [(row["series"], int(row[x]), float(row[y])) for row in read_csv(text)]


def _curves(plots: Path) -> dict[str, Curve]:
    """loss/train -> its points, and so on."""
    found: dict[str, Curve] = {}
    for name, (x, y) in CURVES.items():
        path = plots / f"{name}.csv"
        if path.exists():
            for series, step, value in parsed(path, partial(_points, x=x, y=y)):
                found.setdefault(f"{name}/{series}", []).append((step, value))
    return found
