"""Clone HEAD, run its pipeline from nothing, compare every out with what is committed (`make reproduce`).

Exit code 0: all bits are equal. 2: some are not, and the bundle's predictions lie within the tolerance. 1: they don't,
or it could not be told.
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import click
import numpy as np
import yaml

from worldmodel.arrays.scaler import Affine, Scaler
from worldmodel.checkpoints.remote import VARIABLE
from worldmodel.client import WorldModel, find_bundle
from worldmodel.core.options import PATH
from worldmodel.core.project import project_folder
from worldmodel.core.tables import aligned
from worldmodel.core.typing import Floats

BUNDLES = Path("artifacts/worldmodel")
GRID = 256  # histories with a plan each
FOREIGN = ("DVC_ROOT", "DVC_STAGE", VARIABLE)  # with these a run would not begin from nothing
HEADER = ("stage", "reproduced", "out", "md5 as committed", "md5 now", "equal")


class Row(NamedTuple):
    stage: str
    reproduced: str  # yes | from cache
    out: str
    committed: str
    now: str

    @property
    def equal(self) -> bool:
        return self.committed == self.now


def reproduce(project: Path, folder: Path) -> list[Row]:
    """Run HEAD of the project in an empty folder. Raises ValueError where that fails."""
    _run(["git", "clone", "--quiet", str(project.resolve()), str(folder)], Path.cwd())
    committed = _outs(folder)
    for out in (out for outs in committed.values() for out in outs):
        (folder / out).unlink(missing_ok=True)  # metrics and plots, which git has brought
    how = _ways(_run(["dvc", "repro"], folder))
    now = _outs(folder)
    return [
        Row(name, how.get(name, "from cache"), out, md5, now.get(name, {}).get(out, "none"))
        for name, outs in committed.items()
        for out, md5 in outs.items()
    ]


def largest_difference(one: Path, other: Path) -> float:
    """Of two bundles' predictions on a fixed grid, in standardized units of the first one.

    Raises ValueError where they do not predict the same things.
    """
    models = [WorldModel.load(each) for each in (one, other)]
    first, second = ((m.history, m.horizon, m.feature_count, m.action_count) for m in models)
    if first != second:
        raise ValueError(f"the bundles predict other things: history, horizon, features, actions {first} and {second}")
    scaler = Scaler.read(find_bundle(one) / "normalizer.json")
    given, past, planned = _grid(models[0], scaler)
    futures = [model.predict(model.encode(given, past), planned).features for model in models]
    return float(np.abs((futures[0] - futures[1]) / scaler.features.scale).max())


def _grid(model: WorldModel, scaler: Scaler) -> tuple[Floats, Floats | None, Floats | None]:
    """Standard normal histories and actions in raw units; one-hot actions are drawn alike."""
    rng = np.random.default_rng(0)
    given = _raw(rng.standard_normal((GRID, model.history, model.feature_count)), scaler.features)
    if not model.action_count:
        return given, None, None
    drawn = rng.standard_normal((GRID, model.history - 1 + model.horizon, model.action_count))
    one_hot = np.eye(model.action_count, dtype=np.float32)[drawn.argmax(axis=-1)]
    actions = one_hot if model.discrete else _raw(drawn, scaler.actions)
    return given, actions[:, : model.history - 1], actions[:, model.history - 1 :]


def _raw(standardized: np.ndarray[tuple[int, ...], np.dtype[np.float64]], scales: Affine) -> Floats:
    return scales.inverse(standardized.astype(np.float32))


def _outs(folder: Path) -> dict[str, dict[str, str]]:
    """Stage -> out -> md5, as dvc.lock has them."""
    path = folder / "dvc.lock"
    if not path.is_file():
        raise ValueError(f"{path}: no such file, so that nothing was promised; run `dvc repro` and commit dvc.lock")
    stages = yaml.safe_load(path.read_text(encoding="utf-8"))["stages"]
    return {name: {out["path"]: out["md5"] for out in entry["outs"]} for name, entry in stages.items()}


def _ways(output: str) -> dict[str, str]:
    """Stage -> how DVC came by its outs, from what it said."""
    return {line.split("'")[1]: "yes" for line in output.splitlines() if line.startswith("Running stage '")}


def _run(command: Sequence[str], folder: Path) -> str:
    """What it wrote to stdout, which is shown too. Raises ValueError where it fails."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(FOREIGN)}
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
    with subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        lines = []
        for line in process.stdout:
            print(line, end="", file=sys.stderr)
            lines.append(line)
    if process.returncode:
        raise ValueError(f"`{' '.join(command)}` ended with exit code {process.returncode}; what it said stands above")
    return "".join(lines)


def judge(project: Path, clone: Path, rows: Sequence[Row], tolerance: float) -> tuple[str, int]:
    """What to say of the rows, and the exit code."""
    different = sum(not row.equal for row in rows)
    if not different:
        return f"all {len(rows)} outs are equal, bit by bit", 0
    said, earlier = f"{different} of {len(rows)} outs differ", clone.with_name("committed")
    try:
        _run(["dvc", "get", "--quiet", "--rev", "HEAD", "--out", str(earlier), str(project), str(BUNDLES)], Path.cwd())
        apart = largest_difference(earlier, clone / BUNDLES)
    except ValueError as error:
        return f"{said}; the committed bundle could not be compared: {error}", 1
    within = apart <= tolerance
    where = f"{'within' if within else 'beyond'} the tolerance of {tolerance:g}"
    return f"{said}; predictions by at most {apart:.2g} standardized units, {where}", 2 if within else 1


@click.command()
@click.option("--project", type=PATH, help="Its folder; else the one that this is called in.")
@click.option("--tolerance", default=0.01, show_default=True, help="Standardized units, where bits differ.")
def command(project: Path | None, tolerance: float) -> None:
    """Clone HEAD, run its pipeline from nothing, compare every out with the committed one.

    Exit code 0: all bits are equal. 2: some are not, and predictions lie within the tolerance. 1: they don't, or it
    could not be told.
    """
    source = (project or project_folder()).resolve()
    with tempfile.TemporaryDirectory() as folder:
        clone = Path(folder) / "project"
        rows = reproduce(source, clone)
        print(aligned(HEADER, [(*row, "yes" if row.equal else "NO") for row in rows]))
        message, code = judge(source, clone, rows, tolerance)
    print(message)
    raise SystemExit(code)
