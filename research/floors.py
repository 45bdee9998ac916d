"""Is the model ever worse than doing nothing? Every kind of logs, at every size, beside the four floors.

    python -m research.floors --logs my-logs --sizes 1,8,64 --rho 0 --jobs 2 --out floors.csv

Default params unless said otherwise. Every file is a kind of logs; `python -m research.drawn` writes some.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import click
import numpy as np

from research.floor_runs import Case, Skipped, measure
from research.floor_scores import Row
from research.markers import write_between_markers
from research.options import numbers
from research.peers.cache import kinds_of
from research.side_by_side import side_by_side
from worldmodel.core import params
from worldmodel.core.errors import run
from worldmodel.core.options import PATH, params_option
from worldmodel.core.tables import write_csv
from worldmodel.core.text import markdown_cell
from worldmodel.core.yaml12 import read_yaml
from worldmodel.evaluation.metrics import NOMINAL
from worldmodel.sweeps.grid import with_overrides
from worldmodel.sweeps.results import markdown_table

GAIN = 0.5  # nats that the model's likelihood should be above ridge's
OFF, FEATURE_OFF = 0.03, 0.06  # how far coverage may be from 90 %, over all features and of one
TAILS = 1e-4  # share of residuals that may be beyond 10 std


@click.command()
@click.option("--logs", type=PATH, multiple=True, required=True, help="A log file, or a folder of them.")
@click.option("--sizes", callback=numbers(int), default="8,64", show_default=True, help="Train episodes; 0 = all.")
@click.option("--rho", type=click.FloatRange(0, 1), help="Share of dreams, else that of the params; 0 dreams nothing.")
@click.option(
    "--seeds", type=click.IntRange(1), default=1, show_default=True, help="0, 1, ... are added to the params'."
)
@click.option("--every-seventh", is_flag=True, help="Every seventh episode is test, whatever the hash says.")
@click.option("--few-val", is_flag=True, help="As few val episodes as a log with so few train episodes has.")
@click.option("--set", "extra", multiple=True, metavar="KEY=VALUE", help="A param for all runs.")
@click.option("--jobs", type=click.IntRange(1), default=1, show_default=True, help="Processes, each on one thread.")
@click.option("--out", type=PATH, required=True, help="CSV file, a row for each run.")
@click.option("--results", type=PATH, help="File with the table's markers, such as docs/results.md.")
@params_option
def command(
    logs: tuple[Path, ...],
    sizes: list[int],
    rho: float | None,
    seeds: int,
    every_seventh: bool,
    few_val: bool,
    extra: tuple[str, ...],
    jobs: int,
    out: Path,
    results: Path | None,
    params_file: Path,
) -> None:
    """Train on each log file at each size, and compare with the four floors (minutes a run)."""
    values = with_overrides(read_yaml(params_file), dict(pair.split("=", 1) for pair in extra))
    settings = params.check(values, params_file)
    if rho is not None:
        settings = replace(settings, train=replace(settings.train, rho=rho))
    ordered = sorted(sizes, key=lambda size: size or np.inf)
    cases = [
        Case(kind, path, size, below, seed, every_seventh, few_val)
        for seed in range(seeds)
        for size, below in zip(ordered, [0, *ordered], strict=False)
        for kind, path in kinds_of(logs).items()
    ]
    rows = measured(cases, settings, jobs, out)
    print("\n".join(summary(rows)))
    if results:
        write_between_markers(results, markdown(rows), "floors")


def measured(cases: Sequence[Case], settings: params.Params, jobs: int, out: Path) -> list[Row]:
    """The file grows with each run; those that cannot be done are named."""
    rows: list[Row] = []
    for found in side_by_side(_tried, [(case, settings) for case in cases], jobs):
        if isinstance(found, str):
            print(found, flush=True)
        elif found:
            rows = sorted([*rows, found])
            write_csv(out, Row._fields, rows)
            print(line(found), flush=True)
    return rows


def _tried(case: Case, settings: params.Params) -> Row | str | None:
    """Why it cannot be done, where it cannot; None where there is nothing to measure."""
    try:
        return measure(case, settings)
    except Skipped:
        return None
    except ValueError as error:
        return f"{case.kind}, {case.size}: {error}"


def line(row: Row) -> str:
    return (
        f"{row.kind}, {row.train} train, seed {row.seed}: {row.mse:.4f}, {row.skill:+.1%} over {row.best}, worst "
        f"feature {row.worst_skill:+.1%}; likelihood {row.likelihood:+.2f}, ridge {row.likelihood_linear:+.2f}; "
        f"coverage {row.coverage:.3f}, worst {row.worst_coverage:.3f}; beyond 10 {row.beyond_10:.1e}; step {row.step}; "
        f"{row.seconds:.0f} s"
    )


def summary(rows: Sequence[Row]) -> list[str]:
    """How many runs fail each of the aims, and which."""
    tests = {
        "worse than the best floor": [row for row in rows if row.skill < 0],
        "worse than it beyond noise": [row for row in rows if row.worse],
        "with a feature worse than its own best floor beyond noise": [row for row in rows if row.features_worse],
        f"likelihood less than {GAIN} nats above ridge's": [row for row in rows if gain(row) < GAIN],
        "likelihood below ridge's": [row for row in rows if gain(row) < 0],
        f"coverage off by more than {OFF}": [row for row in rows if abs(row.coverage - NOMINAL) > OFF],
        f"a feature's coverage off by more than {FEATURE_OFF}": [
            row for row in rows if abs(row.worst_coverage - NOMINAL) > FEATURE_OFF
        ],
        f"more than {TAILS:g} of residuals beyond 10 std": [row for row in rows if row.beyond_10 > TAILS],
        "weights of step 0 kept": [row for row in rows if not row.step],
    }
    return [
        f"{len(failing)} of {len(rows)} runs {aim}{': ' if failing else ''}"
        + ", ".join(f"{row.kind} {row.train}" for row in failing)
        for aim, failing in tests.items()
    ]


def gain(row: Row) -> float:
    """Nats a feature above ridge's."""
    return row.likelihood - row.likelihood_linear


def markdown(rows: Sequence[Row]) -> str:
    head = (
        "logs",
        "train episodes",
        "error",
        "best floor",
        "skill",
        "worst feature",
        "likelihood",
        "ridge's",
        "coverage",
    )
    table = [
        (
            markdown_cell(row.kind),
            str(row.train),
            f"{row.mse:.4g}",
            row.best,
            f"**{row.skill:+.1%}**" if row.worse else f"{row.skill:+.1%}",
            f"{row.worst_skill:+.1%}",
            f"{row.likelihood:+.2f}",
            f"{row.likelihood_linear:+.2f}",
            f"{row.coverage:.3f} (worst {row.worst_coverage:.3f})",
        )
        for row in rows
    ]
    notes = [f"- {each}" for each in summary(rows)]
    return "\n".join([*markdown_table([head, *table]), "", *notes])


if __name__ == "__main__":
    run(command)
