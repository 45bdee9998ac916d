"""What a sweep found: a line for each combination of params, over its seeds; a row for each run."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import stdev

import numpy as np

from worldmodel.core.tables import write_csv
from worldmodel.evaluation.intervals import Change, change
from worldmodel.sweeps.grid import arm_of, seeds_of
from worldmodel.sweeps.results import Found, Rows, by_key, matrix, mean_of, percent
from worldmodel.sweeps.run import Run

HEADER = ("", "params", "runs", "error, val", "spread", "95 %", "against the best", "error, test")


@dataclass(frozen=True)
class Line:
    arm: str
    errors: tuple[float, ...]  # of each finished run, on val episodes
    val: Change  # mean over runs and episodes, not a change: `value`, and 95 % of draws over both
    against: Change | None  # of val against the best arm's, paired by seed; None: the best, or no seed in common
    test: float

    @property
    def spread(self) -> float | None:
        """Standard deviation between runs."""
        return stdev(self.errors) if len(self.errors) > 1 else None


def ranked(runs: Sequence[Run], rows: Mapping[str, Rows]) -> list[Line]:
    """Best first. `rows`: those of episodes.csv, by name of the runs that finished."""
    arms: dict[str, dict[object, Rows]] = {}
    for run in runs:
        if run.name in rows:
            arms.setdefault(arm_of(run), {})[seeds_of(run)] = rows[run.name]
    order = sorted(arms, key=lambda arm: mean_of(_found(arms[arm]), "val"))
    return [_line(arm, arms[arm], None if arm == order[0] else arms[order[0]]) for arm in order]


def _found(own: Mapping[object, Rows]) -> dict[int, Found]:
    return {number: by_key(each) for number, each in enumerate(own.values())}


def _line(arm: str, own: Mapping[object, Rows], best: Mapping[object, Rows] | None) -> Line:
    errors, weight = matrix([by_key(each) for each in own.values()], "val")
    if not len(weight):
        raise ValueError("no val episodes, on which the best is chosen; see prepare.val_share in params.yaml")
    whole = change(errors, np.ones_like(errors), weight)  # against 1: the mean itself, less 1
    each = tuple(float(error) for error in errors @ weight / weight.sum())
    val = Change(whole.value + 1, whole.low + 1, whole.high + 1)
    return Line(arm, each, val, _against(own, best), mean_of(_found(own), "test"))


def _against(own: Mapping[object, Rows], best: Mapping[object, Rows] | None) -> Change | None:
    shared = [seed for seed in own if best and seed in best]
    if not best or not shared:
        return None
    both, weight = matrix([by_key(side[seed]) for side in (own, best) for seed in shared], "val")
    return change(both[: len(shared)], both[len(shared) :], weight)


def markdown(lines: Sequence[Line], runs: Sequence[Run], done: Mapping[str, str], failed: Mapping[str, str]) -> str:
    asked = [arm_of(run) for run in runs]
    rows = [_cells(place, line, asked.count(line.arm)) for place, line in enumerate(lines, start=1)]
    rows += [_failed(run, failed[run.name]) for run in runs if run.name in failed]
    table = [f"| {' | '.join(row)} |" for row in (HEADER, ("---",) * len(HEADER), *rows)]
    waiting = len(runs) - len(done) - len(failed)
    count = f"{len(runs)} runs: {len(done)} finished, {len(failed)} failed, {waiting} not run yet."
    notes = "Spread: standard deviation between runs. 95 %: of 10,000 draws over runs and episodes, paired by seed."
    return "\n".join([*table, "", count, notes, ""])


def _cells(place: int, line: Line, asked: int) -> tuple[str, ...]:
    return (
        str(place),
        line.arm,
        f"{len(line.errors)} of {asked}",
        f"{line.val.value:.4f}",
        "-" if line.spread is None else f"{line.spread:.4f}",
        f"{line.val.low:.4f} to {line.val.high:.4f}",
        percent(line.against),
        "-" if math.isnan(line.test) else f"{line.test:.4f}",
    )


def _failed(run: Run, why: str) -> tuple[str, ...]:
    text = " ".join(why.split()).replace("|", "\\|")
    return ("failed", " ".join(f"{key}={value}" for key, value in run.overrides.items()), text, *("",) * 5)


def write_runs(path: Path, runs: Sequence[Run], rows: Mapping[str, Rows], failed: Mapping[str, str]) -> None:
    keys = list(runs[0].overrides)
    write_csv(path, ("experiment", *keys, "val", "test", "failed"), (_row(run, keys, rows, failed) for run in runs))


def _row(run: Run, keys: Sequence[str], rows: Mapping[str, Rows], failed: Mapping[str, str]) -> list[object]:
    found = {0: by_key(rows[run.name])} if run.name in rows else None
    errors = [mean_of(found, split) if found else None for split in ("val", "test")]
    return [run.name, *(run.overrides[key] for key in keys), *errors, failed.get(run.name)]
