"""Errors of runs by episode, their mean over seeds, and the tables of a sweep: by combination, and by run."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import stdev

import numpy as np

from worldmodel.core.tables import write_csv
from worldmodel.core.text import markdown_cell
from worldmodel.core.typing import Doubles
from worldmodel.evaluation.intervals import Change, change, mean_error
from worldmodel.sweeps.grid import Run, arm_of, seeds_of

Rows = Sequence[Mapping[str, str]]  # of episodes.csv
Key = tuple[str, str, str]  # split, agent_id, episode
Errors = dict[Key, tuple[int, float]]  # windows, error

HEADER = ("", "params", "runs", "error, val", "spread", "95 %", "against the best", "error, test")


def by_episode(rows: Rows, column: str = "model") -> Errors:
    """Pieces of one episode count as one: windows summed up, errors weighted by them."""
    errors: Errors = {}
    for row in rows:
        key = row["split"], row["agent_id"], row["episode"]
        count, error = int(row["windows"]), float(row[column])
        before, mean = errors.get(key, (0, 0.0))
        errors[key] = before + count, (before * mean + count * error) / (before + count)
    return errors


def matrix(runs: Sequence[Errors], split: str) -> tuple[Doubles, Doubles]:
    """Errors [S, N] of one split, and windows [N]. Raises ValueError where runs were measured on different episodes."""
    keys = sorted(key for key in runs[0] if key[0] == split)
    if any(sorted(key for key in errors if key[0] == split) != keys for errors in runs):
        raise ValueError(f"runs were measured on different {split} episodes, expected the same in all")
    each = np.array([[errors[key][1] for key in keys] for errors in runs], float)
    return each, np.array([runs[0][key][0] for key in keys], float)


def mean_of(runs: Sequence[Errors], split: str) -> float:
    """NaN where the split has no episode."""
    errors, weight = matrix(runs, split)
    return mean_error(errors, weight) if len(weight) else math.nan


def paired(own: Mapping[object, Errors], base: Mapping[object, Errors], split: str) -> Change | None:
    """Change against the base, by the seeds that both have; None where there are none, or nothing is held out."""
    seeds = [seed for seed in own if seed in base]
    if not seeds:
        return None
    both, weight = matrix([each[seed] for each in (own, base) for seed in seeds], split)
    return change(both[: len(seeds)], both[len(seeds) :], weight) if len(weight) else None


def number(value: float | None) -> str:
    return "-" if value is None or math.isnan(value) else f"{value:.4f}"


def percent(value: Change | None) -> str:
    if value is None:
        return "-"
    return f"{100 * value.value:+.1f} % ({100 * value.low:+.1f} to {100 * value.high:+.1f})"


def markdown_table(rows: Sequence[Sequence[str]]) -> list[str]:
    """The first row is the header. Text of others goes through `markdown_cell` before."""
    return [f"| {' | '.join(row)} |" for row in (rows[0], ["---"] * len(rows[0]), *rows[1:])]


@dataclass(frozen=True)
class Line:
    """One combination of params, over its seeds."""

    arm: str
    errors: tuple[float, ...]  # of each finished run, on val episodes
    val: float  # mean over runs and episodes
    interval: tuple[float, float]  # 95 % of draws over both
    against: Change | None  # of val against the best arm's, paired by seed; None: the best, or no seed in common
    test: float

    @property
    def spread(self) -> float | None:
        """Standard deviation between runs."""
        return stdev(self.errors) if len(self.errors) > 1 else None


def ranked(runs: Sequence[Run], rows: Mapping[str, Rows]) -> list[Line]:
    """Best first. `rows`: those of episodes.csv, by name of the runs that finished."""
    arms: dict[str, dict[object, Errors]] = {}
    for run in runs:
        if run.name in rows:
            arms.setdefault(arm_of(run), {})[seeds_of(run)] = by_episode(rows[run.name])
    order = sorted(arms, key=lambda arm: mean_of(list(arms[arm].values()), "val"))
    return [_line(arm, arms[arm], {} if arm == order[0] else arms[order[0]]) for arm in order]


def _line(arm: str, own: Mapping[object, Errors], best: Mapping[object, Errors]) -> Line:
    errors, weight = matrix(list(own.values()), "val")
    if not len(weight):
        raise ValueError("no val episodes, on which the best is chosen; see prepare.val_share in params.yaml")
    mean = change(errors, np.ones_like(errors), weight)  # against 1: the mean itself, less 1
    each = tuple(float(error) for error in errors @ weight / weight.sum())
    test = mean_of(list(own.values()), "test")
    return Line(arm, each, mean.value + 1, (mean.low + 1, mean.high + 1), paired(own, best, "val"), test)


def markdown(lines: Sequence[Line], runs: Sequence[Run], failed: Mapping[str, str]) -> str:
    requested = [arm_of(run) for run in runs]
    table = [HEADER, *(_cells(place, line, requested.count(line.arm)) for place, line in enumerate(lines, start=1))]
    table += [_failure(run, failed[run.name]) for run in runs if run.name in failed]
    finished = sum(len(line.errors) for line in lines)
    waiting = len(runs) - finished - len(failed)
    count = f"{len(runs)} runs: {finished} finished, {len(failed)} failed, {waiting} not run yet."
    notes = "Errors: squared, in standard deviations of the observed train frames. "
    notes += "Spread: standard deviation between runs. 95 %: of 10,000 draws over runs and episodes, paired by seed."
    return "\n".join([*markdown_table(table), "", count, notes, ""])


def _cells(place: int, line: Line, requested: int) -> tuple[str, ...]:
    low, high = line.interval
    return (
        str(place),
        markdown_cell(line.arm),
        f"{len(line.errors)} of {requested}",
        number(line.val),
        number(line.spread),
        f"{low:.4f} to {high:.4f}",
        percent(line.against),
        number(line.test),
    )


def _failure(run: Run, why: str) -> tuple[str, ...]:
    params = " ".join(f"{key}={value}" for key, value in run.overrides.items())
    return "failed", markdown_cell(params), markdown_cell(" ".join(why.split())), *("",) * 5


def write_runs(path: Path, runs: Sequence[Run], rows: Mapping[str, Rows], failed: Mapping[str, str]) -> None:
    """A row a run, with its params, mean errors, or why it failed."""
    table = []
    for run in runs:
        errors = [by_episode(rows[run.name])] if run.name in rows else []
        means = [mean_of(errors, split) if errors else None for split in ("val", "test")]
        table.append([run.name, *run.overrides.values(), *means, failed.get(run.name)])
    write_csv(path, ("experiment", *runs[0].overrides, "val", "test", "failed"), table)
