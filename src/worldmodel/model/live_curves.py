"""loss.csv and rho.csv, which `dvc plots show` and DVC's VS Code extension draw while a training is at work.

Whole at any moment: what watches them never reads half a file. Written over and over they end in the same bytes, also
where a killed training goes on.
"""

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np

from worldmodel.arrays.mixing import Mixture, mean_share
from worldmodel.core.tables import write_csv
from worldmodel.model.training_state import TrainingState

LOSS, RHO = "loss.csv", "rho.csv"
ROWS = 100  # of rho, over the whole training


def write_curves(folder: Path, state: TrainingState, mixture: Mixture) -> None:
    """What the steps taken gave; half files of one that was killed while it wrote are cleared away."""
    for left in (left for name in (LOSS, RHO) for left in folder.glob(f".{name}.*.tmp")):
        left.unlink()
    write_csv(folder / LOSS, ("step", "series", "loss"), state.losses)
    write_csv(folder / RHO, ("step", "series", "rho"), _shares(mixture, state.step))


def _shares(mixture: Mixture, taken: int) -> Iterator[tuple[int, str, float]]:
    """step; rho as scheduled, or as drawn since the step before."""
    steps = len(mixture.rho)
    marks = np.unique(np.linspace(0, steps, min(steps, ROWS) + 1).astype(int))
    for begin, end in pairwise(marks[marks <= taken]):
        drawn = mixture.dreams_by(end) - mixture.dreams_by(begin)
        yield int(end), "scheduled", mean_share(mixture.rho, int(begin), int(end))
        yield int(end), "drawn", drawn / ((end - begin) * mixture.batch_size)
