"""Small grids of a study, and runs of which the errors are known."""

from copies import tiny_params
from research import rho_grid as grid
from research.rho_results import Measured


def runs_of(rhos=(0.0, 0.5), sizes=(8, 0), seeds=2, values=None, **extra):
    values = values or tiny_params()
    arms = grid.arms(rhos, None, values["train"])
    return grid.grid(arms, sizes, seeds, values, extra, "code")


def rows_of(error):
    """episodes.csv with two test episodes and a val episode."""
    found = [("test", "e0", 10, error), ("test", "e1", 30, 2 * error), ("val", "e2", 5, 3 * error)]
    header = ("split", "agent_id", "episode", "windows", "model")
    return [dict(zip(header, (split, "a", name, str(n), repr(value)), strict=True)) for split, name, n, value in found]


def measured(errors=None, seeds=2, sizes=(8, 0)):
    errors = errors or {"rho 0": 0.4, "rho 0.5": 0.3, "repeat": 0.5}
    return [
        Measured(run, rows_of(errors[run.arm.name] * (1 + run.seed)), 0.7, 0.6)
        for run in runs_of(seeds=seeds, sizes=sizes)
    ]
