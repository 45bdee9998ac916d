"""All that the page shows: what the pipeline left in the folder that this runs in, and what is computed from it."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from worldmodel.arrays.packing import MANIFEST, read_packed
from worldmodel.arrays.scaler import UNITS, Scaler
from worldmodel.arrays.windows import Packed
from worldmodel.ci.fresh import stale
from worldmodel.ci.revisions import TIMING, state
from worldmodel.client import find_bundle
from worldmodel.core import run_records
from worldmodel.core.fingerprint import fingerprint
from worldmodel.core.processes import git
from worldmodel.core.regular import parsed
from worldmodel.core.run_records import METADATA
from worldmodel.core.tables import read_csv
from worldmodel.core.yaml12 import read_yaml
from worldmodel.report import controlled, dreamed, latents, scored
from worldmodel.report.controlled import Controlled
from worldmodel.report.dreamed import Dreamed
from worldmodel.report.latents import Latents
from worldmodel.report.scored import Scored

BUNDLES, TRAINED, PLOTS = Path("artifacts/worldmodel"), Path("artifacts/train"), Path("artifacts/plots")
NORMALIZED, NORMALIZER, RUNS = Path("data/worldmodel/normalized"), Path("artifacts/normalizer.json"), Path("runs")
SAME = 1e-3  # relative difference of an error that another processor's rounding may make

Rows = Sequence[Mapping[str, str]]
Parsed = TypeVar("Parsed")


@dataclass(frozen=True)
class ReportData:
    """Parts that are missing are None or empty."""

    metrics: Mapping[str, float]  # dotted name -> value
    params: Mapping[str, Any]  # dotted name -> value
    stages: Mapping[str, Mapping[str, Any]]  # of dvc.lock
    timing: Mapping[str, Mapping[str, Any]]  # train, inference
    plots: Mapping[str, Rows]  # name of a CSV file without its ending -> rows
    bundle: Path | None
    manifest: Mapping[str, Any]  # of the bundle, or else of the trained model
    trained: str | None  # id of the trained model that lies here, as timing.json has it
    run: Mapping[str, Any] | None  # record of the export that made the bundle
    revision: str | None  # of git
    stale: Mapping[str, Sequence[str]] | None  # stage -> what has changed since; None where DVC cannot tell
    scaler: Scaler | None
    packed: Packed | None
    scored: Scored | None
    latents: Latents | None
    dreamed: Dreamed | None
    controlled: Sequence[Controlled] = ()  # closed loops with the model

    @property
    def run_id(self) -> str | None:
        """Of the bundle here, wherever it lies, or of the one that was measured last."""
        run_id: str | None = self.manifest.get("run_id", self.timing.get("inference", {}).get("of"))
        return run_id

    @property
    def unit(self) -> str:
        """Of what training measures."""
        return UNITS[self.scaler.method] if self.scaler else "units of normalize.method"

    @property
    def tests(self) -> Rows:
        """Errors of the test episodes."""
        return [row for row in self.plots.get("episodes", ()) if row["split"] == "test"]

    def series(self, plot: str, x: str, y: str) -> dict[str, tuple[list[float], list[float]]]:
        """Columns x and y of each series of a plot."""
        columns: dict[str, tuple[list[float], list[float]]] = {}
        for row in self.plots.get(plot, ()):
            xs, ys = columns.setdefault(row["series"], ([], []))
            xs.append(float(row[x]))
            ys.append(float(row[y]))
        return columns


def collect() -> ReportData:
    """Raises ValueError where a file is not what its name says, or the parts do not belong together."""
    now, timing = state(None), Path(TIMING)
    bundle = find_bundle(BUNDLES) if any(BUNDLES.glob("*/*.onnx")) else None
    data = read_packed(NORMALIZED) if (NORMALIZED / MANIFEST).is_file() else None
    scores = scored.score_bundle(bundle, data, now.params.get("validate.horizon")) if bundle and data else None
    if bundle and scores:
        _require_measured(now.metrics.get("mse.mean"), scores.scores.mean(scores.scores["model"]), bundle)
    trained = _manifest(TRAINED)
    manifest = (_manifest(bundle) if bundle else None) or trained or {}
    scales = bundle / NORMALIZER.name if bundle else NORMALIZER
    scaler = Scaler.read(scales) if scales.is_file() else None
    if data and scaler:
        data.require_scales(scaler, scales)
    packed, history = data.packed if data else None, manifest.get("shape", {}).get("history")
    record = RUNS / manifest.get("run_id", "")
    found = ReportData(
        metrics=now.metrics,
        params=now.params,
        stages=now.stages,
        timing=parsed(timing, json.loads) if timing.is_file() else {},
        plots={path.stem: parsed(path, read_csv) for path in sorted(PLOTS.glob("*.csv"))},
        bundle=bundle,
        manifest=manifest,
        trained=fingerprint(trained)[:12] if trained else None,
        run=run_records.read(record) if (record / METADATA).is_file() else None,
        revision=_answer(lambda: git("rev-parse", "HEAD")),
        stale=_answer(stale),
        scaler=scaler,
        packed=packed,
        scored=scores,
        latents=latents.project(scores) if scores else None,
        dreamed=dreamed.compare(packed, scaler.features, history) if packed and scaler and history else None,
    )
    return replace(found, controlled=controlled.read_runs(found.run_id))


def _require_measured(measured: float | None, error: float, bundle: Path) -> None:
    if measured is not None and abs(error - measured) > SAME * abs(measured):
        raise ValueError(
            f"artifacts/metrics.json: mse.mean is {measured:g}, the bundle {bundle} has {error:g}: they do not belong "
            "together; run `dvc checkout` or `dvc repro validate`"
        )


def _manifest(folder: Path) -> dict[str, Any] | None:
    path = folder / "manifest.yaml"
    return read_yaml(path) if path.is_file() else None


def _answer(ask: Callable[[], Parsed]) -> Parsed | None:
    """None where git or DVC cannot tell."""
    try:
        return ask()
    except (ValueError, OSError):
        return None
