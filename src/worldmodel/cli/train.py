"""Train a world model from the command line, without DVC: the six stages in one folder.

    worldmodel train --logs my-logs --out my-model --epochs 5 --rho 0.3

Whatever is not given stands in params.yaml; keys of its `train` and `prepare` sections are options here.
"""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from worldmodel.arrays.mixing import RhoSchedule, mean_share
from worldmodel.arrays.packing import read_packed
from worldmodel.arrays.windows import windows
from worldmodel.cli.section_options import overridden, section_options
from worldmodel.core import params
from worldmodel.core.locking import writing
from worldmodel.core.options import PATH
from worldmodel.core.project import default_params
from worldmodel.stages.dreams import dreams
from worldmodel.stages.export import export
from worldmodel.stages.normalize import normalize
from worldmodel.stages.prepare import prepare
from worldmodel.stages.train import train
from worldmodel.stages.validate import validate

LOGS = Path("data/worldmodel/offline")


@click.command()
@click.option("--logs", type=PATH, default=LOGS, show_default=True, help="Folder of observed logs.")
@click.option("--dreams", "dreamed", type=PATH, help="Folder of dreams (made from the logs where rho needs them).")
@click.option("--out", type=PATH, required=True, help="Folder for everything that is made.")
@click.option("--params", "params_file", type=PATH, help="File of params.  [default: params.yaml]")
@click.option("--epochs", type=float, help="Passes over the observed train windows, instead of --steps.")
@section_options(params.Train, "train")
@section_options(params.IngestParams, "prepare", without="seed")
def command(
    logs: Path, dreamed: Path | None, out: Path, params_file: Path | None, epochs: float | None, **given: Any
) -> None:
    """Train a world model on your logs without DVC: the six stages in one folder.

    What is not given stands in params.yaml; keys of its train and prepare sections are options (--seed is train's).
    """
    source = params_file or default_params()
    whole = params.read(source)
    trained = overridden(whole.train, given)
    measured = replace(whole.validate, horizon=min(whole.validate.horizon, trained.horizon))
    ingested = overridden(whole.prepare, given | {"seed": None})
    settings = replace(whole, train=trained, validate=measured, prepare=ingested)
    params.require_related(settings, f"{source} with these options", dreams_given=dreamed is not None)
    with writing(out):
        _all_stages(logs, dreamed, out, settings, epochs)


def _all_stages(logs: Path, dreamed: Path | None, out: Path, settings: params.Params, epochs: float | None) -> None:
    if dreamed is None and _schedule(settings.train).max() > 0:
        dreamed = out / "dreams"
        dreams(logs, dreamed, params.part(settings, params.DreamsStage))
    prepare(logs, dreamed, out / "prepared", settings.prepare)
    normalize(out / "prepared", out / "normalized", out / "normalizer.json", settings.normalize)
    if epochs is not None:
        steps = _steps(out / "normalized", settings.train, epochs)
        settings = replace(settings, train=replace(settings.train, steps=steps))
    timing, plots = out / "timing.json", out / "plots"
    train(out / "normalized", out / "normalizer.json", out / "train", plots, timing, settings.train)
    export(out / "train", out / "normalizer.json", out / "worldmodel", params.part(settings, params.ExportStage))
    validate(out / "worldmodel", out / "normalized", out / "metrics.json", plots, timing, settings.validate)


def _schedule(settings: params.Train) -> RhoSchedule:
    return RhoSchedule(settings.rho_schedule, settings.rho_start, settings.rho, settings.steps)


def _steps(normalized: Path, settings: params.Train, epochs: float) -> int:
    """Steps in which the observed train windows are drawn `epochs` times."""
    data = read_packed(normalized)
    observed = windows(data.packed, data.packed.where("train"), settings.history, settings.horizon)
    share = 1 - mean_share(_schedule(settings), 0, settings.steps)
    if epochs <= 0 or share == 0:
        raise ValueError(f"--epochs {epochs:g} with {share:.0%} observed windows a batch; give --steps instead")
    return math.ceil(epochs * len(observed) / (settings.batch_size * share))
