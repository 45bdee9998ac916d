"""Train a world model from the command line, without DVC: the six stages in one folder.

    python examples/train_worldmodel.py --logs my-logs --out my-model --epochs 5 --rho 0.3

Whatever is not given stands in params.yaml; every key of its `train` section is an option here.
"""

import argparse
import math
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "src"))

from dreams import dreams  # noqa: E402
from export import export  # noqa: E402
from normalize import normalize  # noqa: E402
from prepare import prepare  # noqa: E402
from train import train  # noqa: E402
from validate import validate  # noqa: E402
from worldmodel.config import params  # noqa: E402
from worldmodel.config.options import add_options, overridden  # noqa: E402
from worldmodel.data.mixing import rho_schedule  # noqa: E402
from worldmodel.data.packing import read_packed  # noqa: E402
from worldmodel.data.windows import windows  # noqa: E402
from worldmodel.runtime import stage  # noqa: E402


def main(arguments: Sequence[str] | None = None) -> None:
    given = _parser().parse_args(arguments)
    whole = params.load(given.params, params.Params)
    settings = replace(whole, train=overridden(whole.train, given))
    out: Path = given.out
    dreamed = given.dreams
    if dreamed is None and _schedule(settings.train).max() > 0:
        dreamed = out / "dreams"
        dreams(given.logs, dreamed, params.part(settings, params.DreamsStage))
    prepare(given.logs, dreamed, out / "prepared", settings.prepare)
    normalize(out / "prepared", out / "normalized", out / "normalizer.json", settings.normalize)
    if given.epochs is not None:
        steps = _steps(out / "normalized", settings.train, given.epochs)
        settings = replace(settings, train=replace(settings.train, steps=steps))
    timing, plots = out / "timing.json", out / "plots"
    train(out / "normalized", out / "normalizer.json", out / "train", plots, timing, settings.train)
    export(out / "train", out / "normalizer.json", out / "worldmodel", params.part(settings, params.ExportStage))
    horizon = min(settings.validate.horizon, settings.train.horizon)
    measured = replace(settings.validate, horizon=horizon)
    validate(out / "worldmodel", out / "normalized", out / "metrics.json", plots, timing, measured)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--logs", type=Path, default=ROOT / "data/worldmodel/offline", help="folder of observed logs")
    parser.add_argument("--dreams", type=Path, help="folder of dreams (made from the logs where rho needs them)")
    parser.add_argument("--out", type=Path, required=True, help="folder for everything that is made")
    parser.add_argument("--params", type=Path, default=ROOT / "params.yaml")
    parser.add_argument("--epochs", type=float, help="passes over the observed train windows, instead of --steps")
    add_options(parser, params.Train, "train")
    return parser


def _schedule(settings: params.Train) -> NDArray[np.float64]:
    return rho_schedule(settings.rho_schedule, settings.rho_start, settings.rho, settings.steps)


def _steps(normalized: Path, settings: params.Train, epochs: float) -> int:
    """Steps in which the observed train windows are drawn `epochs` times."""
    data = read_packed(normalized)
    observed = windows(data.packed, data.packed.where("train"), settings.history, settings.horizon)
    share = 1 - float(np.mean(_schedule(settings)))
    if epochs <= 0 or share == 0:
        raise ValueError(f"--epochs {epochs:g} with {share:.0%} observed windows a batch; give --steps instead")
    return math.ceil(epochs * len(observed) / (settings.batch_size * share))


if __name__ == "__main__":
    stage.run(main)
