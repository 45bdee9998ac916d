"""Small grids of the rho study, and runs of which the errors are known."""

from copies import tiny_params
from research.rho_results import Measured
from research.rho_runs import arms, study_runs


def runs_of(rhos=(0.0, 0.5), sizes=(8, 0), seeds=2, values=None, **extra):
    values = values or tiny_params()
    return study_runs(arms(rhos, None, values["train"]), sizes, seeds, values, extra, "code")


def rows_of(error):
    """episodes.csv with two test episodes and a val episode."""
    episodes = [("test", "e0", "10", error), ("test", "e1", "30", 2 * error), ("val", "e2", "5", 3 * error)]
    header = ("split", "episode", "windows", "model", "agent_id")
    return [dict(zip(header, (*each[:3], repr(each[3]), "a"), strict=True)) for each in episodes]


def measured(seeds=2, sizes=(8, 0)):
    errors = {"rho 0": 0.4, "rho 0.5": 0.3, "repeat": 0.5}
    runs = runs_of(seeds=seeds, sizes=sizes)
    return [Measured(run, rows_of(errors[run.arm.name] * (1 + run.seed)), 0.7, 0.6) for run in runs]
