"""The model's error where readings are missing, at random or in bursts, beside that of the same logs with all of them.

    python -m research.missing --logs data/worldmodel/offline

Train, val and test episodes miss the same share; the error is of the readings that are there, in the same units
throughout. No dreams.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import click
import numpy as np
from numpy.typing import NDArray

from research.peers.training import CPU, Logs, read
from worldmodel.arrays.windows import Packed, windows
from worldmodel.core import params
from worldmodel.core.params import Params, Train
from worldmodel.core.tables import write_csv
from worldmodel.model.inputs import initial_model, training_and_val_windows
from worldmodel.model.selection import mean_error, subsample
from worldmodel.numerics import setup
from worldmodel.stages.train import fit

PATTERNS = ("random", "bursts")
COLUMNS = ("pattern", "share", "linear_start", "mse", "times")
Row = tuple[str, float, float, float, float]


def holes(frames: int, width: int, share: float, burst: float, rng: np.random.Generator) -> NDArray[np.bool_]:
    """[frames, width] which readings are missing: each column for `burst` frames in a row on the mean."""
    begins, ends = share / (1 - share) / burst, 1 / burst
    missing = [rng.random(width) < share]
    for draw in rng.random((frames - 1, width)):
        missing.append(np.where(missing[-1], draw >= ends, draw < begins))
    return np.array(missing)


def without(logs: Logs, share: float, pattern: str, burst: float) -> Packed:
    """All episodes packed, with a share of the readings missing."""
    rng = np.random.default_rng(0)
    length = 1 / (1 - share) if pattern == "random" else burst  # which makes a frame independent of the one before
    episodes = []
    for each in logs.episodes:
        missing = holes(each.length, each.features.shape[1], share, length, rng)
        episodes.append(replace(each, features=np.where(missing, np.float32(np.nan), each.features)))
    return replace(logs, episodes=episodes).packed()


def errors(packed: Packed, settings: Train) -> tuple[float, float]:
    """Of the linear start and of the trained model, on test windows."""
    mixture, held_out = training_and_val_windows(packed, settings)
    test = subsample(windows(packed, packed.where("test"), settings.history, settings.horizon))
    model = initial_model(packed, settings, CPU)
    start = mean_error(model, test, CPU)
    fit(model, mixture, subsample(held_out), settings, CPU)
    return start, mean_error(model, test, CPU)


def study(logs: Logs, settings: Train, shares: Sequence[float], burst: float) -> Iterator[Row]:
    whole: float | None = None
    for share in (0.0, *shares):
        for pattern in PATTERNS if share else ("none",):
            start, error = errors(without(logs, share, pattern, burst), settings)
            whole = whole or error
            yield pattern, share, start, error, error / whole


@click.command(help="Errors with and without missing readings.")
@click.option("--logs", type=click.Path(path_type=Path), required=True, help="Folder of logs.")
@click.option("--params", "params_file", type=click.Path(path_type=Path), default=Path("params.yaml"))
@click.option("--share", "shares", multiple=True, type=float, default=(0.05, 0.2, 0.5), help="Of the readings.")
@click.option("--burst", type=float, default=5.0, show_default=True, help="Frames in a row, on the mean.")
@click.option("--steps", type=int, help="Optimizer steps, else those of train.steps.")
@click.option("--out", type=click.Path(path_type=Path), help="CSV file for the table.")
def main(
    logs: Path, params_file: Path, shares: Sequence[float], burst: float, steps: int | None, out: Path | None
) -> None:
    settings = params.load(params_file, Params)
    train = replace(settings.train, rho=0.0, steps=steps or settings.train.steps)
    setup.configure(train)
    rows = []
    for row in study(read(logs, settings.prepare, settings.normalize), train, shares, burst):
        rows.append(row)
        pattern, share, start, error, times = row
        print(f"{pattern} {share:.0%}: linear start {start:.4f}, model {error:.4f}, {times:.2f} times", flush=True)
    if out:
        write_csv(out, COLUMNS, rows)


if __name__ == "__main__":
    main()
