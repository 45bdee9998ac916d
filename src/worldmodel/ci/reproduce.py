"""Clone HEAD, run its pipeline from nothing, compare every out with what is committed (`make reproduce`)."""

import shlex
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import click
import numpy as np

from worldmodel.arrays.affine import Affine
from worldmodel.arrays.scaler import Scaler
from worldmodel.checkpoints.remote import VARIABLE
from worldmodel.client import WorldModel, find_bundle
from worldmodel.core.options import PATH
from worldmodel.core.processes import environment, git
from worldmodel.core.project import project_folder
from worldmodel.core.tables import aligned
from worldmodel.core.temporary import temporary_folder
from worldmodel.core.typing import Floats
from worldmodel.core.yaml12 import parse_dvc

BUNDLES = Path("artifacts/worldmodel")
GRID = 256  # histories with a plan each
# With these a run would not begin from nothing, or not with the code that is committed.
FOREIGN = ("DVC_ROOT", "DVC_STAGE", "PYTHONPATH", VARIABLE)
HEADER = ("stage", "out", "md5 as committed", "md5 now", "equal")


class Row(NamedTuple):
    stage: str
    out: str
    committed: str
    now: str
    equal: str  # yes | NO


def reproduce(project: Path, folder: Path) -> tuple[Path, list[Row]]:
    """Run HEAD in a clone, at `folder`; returns where the project is in there. Raises ValueError if that fails."""
    top, below, revision = _repository(project)
    clone = folder / below
    _run(["git", "clone", "--quiet", "--no-checkout", top, str(folder)], project)
    _run(["git", "checkout", "--quiet", "--detach", revision], folder)
    _run(["dvc", "config", "--local", "cache.dir", "cache"], clone)  # a shared one holds the answers
    committed = _outs(clone)
    for out in (out for outs in committed.values() for out in outs):
        (clone / out).unlink(missing_ok=True)  # metrics and plots, which git has brought
    _run(["dvc", "repro"], clone)
    now = _outs(clone)
    return clone, [
        Row(name, out, md5, again, "yes" if again == md5 else "NO")
        for name, outs in committed.items()
        for out, md5 in outs.items()
        for again in [now.get(name, {}).get(out, "none")]
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


def _repository(project: Path) -> tuple[str, str, str]:
    """Where git has it: the top folder, the project's path below that, the commit."""
    top, below = (git("rev-parse", f"--show-{what}", folder=project) for what in ("toplevel", "prefix"))
    return top, below, git("rev-parse", "HEAD", folder=project)


def _outs(folder: Path) -> dict[str, dict[str, str]]:
    """Stage -> out -> md5, as dvc.lock has them."""
    path = folder / "dvc.lock"
    if not path.is_file():
        raise ValueError(f"{path}: no such file, so that nothing was promised; run `dvc repro` and commit dvc.lock")
    stages = parse_dvc(path.read_text(encoding="utf-8"))["stages"]
    return {name: {out["path"]: out["md5"] for out in entry["outs"]} for name, entry in stages.items()}


def _run(command: Sequence[str], folder: Path) -> None:
    """What it writes is shown on stderr. Raises ValueError where it fails."""
    code = subprocess.run(command, cwd=folder, env=environment(without=FOREIGN), stdout=2, check=False).returncode
    if code:
        raise ValueError(f"`{shlex.join(command)}` ended with exit code {code}; what it said stands above")


def judge(project: Path, clone: Path, rows: Sequence[Row], tolerance: float, earlier: Path) -> tuple[str, int]:
    """What to say of the rows, and the exit code. `earlier`: no folder yet; the committed bundle comes there."""
    different = sum(row.equal == "NO" for row in rows)
    if not different:
        return f"all {len(rows)} outs are equal, bit by bit", 0
    said = f"{different} of {len(rows)} outs differ"
    try:
        top, below, revision = _repository(project)
        _run(["dvc", "get", "--quiet", "--rev", revision, "--out", str(earlier), top, f"{below}{BUNDLES}"], project)
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
    with temporary_folder() as folder:
        clone, rows = reproduce(source, folder / "project")
        print(aligned(HEADER, rows))
        message, code = judge(source, clone, rows, tolerance, folder / "committed")
    print(message)
    raise SystemExit(code)
