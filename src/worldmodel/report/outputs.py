"""What the pipeline left in the project's folder; None, or empty, where a part is not here.

Raises ValueError where a file is here and is not what its name says.
"""

import csv
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from worldmodel.arrays.packing import MANIFEST, PackedData, read_packed
from worldmodel.ci.revisions import TIMING, state
from worldmodel.client import find_bundle
from worldmodel.core import run_records
from worldmodel.core.fingerprint import fingerprint
from worldmodel.core.yaml12 import read_yaml

BUNDLES, TRAINED, PLOTS = Path("artifacts/worldmodel"), Path("artifacts/train"), Path("artifacts/plots")
NORMALIZED, RUNS = Path("data/worldmodel/normalized"), Path("runs")

Rows = Sequence[Mapping[str, str]]
Parsed = TypeVar("Parsed")


@dataclass(frozen=True)
class Outputs:
    metrics: Mapping[str, float]  # dotted name -> value
    params: Mapping[str, Any]  # dotted name -> value
    stages: Mapping[str, Mapping[str, Any]]  # of dvc.lock
    timing: Mapping[str, Mapping[str, Any]]  # train, inference
    plots: Mapping[str, Rows]  # name of a CSV file without its ending -> rows
    bundle: Path | None
    manifest: Mapping[str, Any]  # of the bundle, or else of the trained model
    trained: str | None  # what timing.json calls the trained model that lies here
    run: Mapping[str, Any] | None  # record of the export that made the bundle
    data: PackedData | None

    @property
    def run_id(self) -> str | None:
        """Of the bundle here, or of the one that was measured last."""
        measured = self.timing.get("inference", {}).get("of")
        return self.bundle.name if self.bundle else measured

    def series(self, plot: str, x: str, y: str) -> dict[str, tuple[list[float], list[float]]]:
        """Columns x and y of each series of a plot."""
        found: dict[str, tuple[list[float], list[float]]] = {}
        for row in self.plots.get(plot, ()):
            xs, ys = found.setdefault(row["series"], ([], []))
            xs.append(float(row[x]))
            ys.append(float(row[y]))
        return found


def read_outputs() -> Outputs:
    """Of the folder that this runs in."""
    now = state(None)
    bundle = find_bundle(BUNDLES) if any(BUNDLES.glob("*/*.onnx")) else None
    manifests = [folder / "manifest.yaml" for folder in (bundle, TRAINED) if folder]
    found = [read_yaml(path) for path in manifests if path.is_file()]
    trained = read_yaml(manifests[-1]) if manifests[-1].is_file() else None
    record = RUNS / bundle.name if bundle else None
    return Outputs(
        metrics=now.metrics,
        params=now.params,
        stages=now.stages,
        timing=_read(Path(TIMING), json.loads) or {},
        plots={path.stem: _read(path, _rows) or () for path in sorted(PLOTS.glob("*.csv"))},
        bundle=bundle,
        manifest=found[0] if found else {},
        trained=fingerprint(trained)[:12] if trained else None,
        run=run_records.read(record) if record and (record / run_records.METADATA).is_file() else None,
        data=read_packed(NORMALIZED) if (NORMALIZED / MANIFEST).is_file() else None,
    )


def _read(path: Path, parser: Callable[[str], Parsed]) -> Parsed | None:
    if not path.is_file():
        return None
    try:
        return parser(path.read_text(encoding="utf-8"))
    except (ValueError, csv.Error) as error:
        raise ValueError(f"{path}: cannot be read: {error}; restore or rerun it") from None


def _rows(text: str) -> Rows:
    return list(csv.DictReader(text.splitlines(), strict=True))
