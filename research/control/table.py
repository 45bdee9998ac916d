"""The study of closed loops: every row of every case, and the tables that they make."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import click

from research.control.cases import ENVIRONMENTS, LOGS, Case, case_of
from research.control.markdown import rho_table, tables, write_rows
from research.control.rows import NAMES, OURS, Contest, Result, Row
from research.control.training import Study
from research.markers import write_between_markers
from research.options import numbers
from research.side_by_side import side_by_side
from worldmodel.core import params
from worldmodel.core.errors import run
from worldmodel.core.options import PATH, params_option
from worldmodel.core.yaml12 import read_yaml
from worldmodel.numerics import setup

RECORDED = 2  # episodes for each of the most that an arm of rho trains on


@click.command()
@click.option("--env", "envs", multiple=True, default=ENVIRONMENTS, show_default=True, help="Gymnasium's name.")
@click.option("--logs", multiple=True, default=LOGS, show_default=True, help="Whose, and how many episodes.")
@click.option("--seeds", callback=numbers(int), default="0,1,2,3,4,5,6,7,8,9", show_default=True)
@click.option("--rows", default=",".join(NAMES), show_default=True, help="Those to measure.")
@click.option(
    "--rho", callback=lambda *given: numbers(float)(*given) if given[2] else [], help="Instead: ours at each."
)
@click.option("--episodes", callback=numbers(int), default="8,64", show_default=True, help="Train episodes of --rho.")
@click.option("--starts", type=click.IntRange(1), default=3, show_default=True, help="Measured episodes of each seed.")
@click.option("--steps", type=click.IntRange(1), help="Of a measured episode, at most.  [default: 200, or 1000]")
@click.option("--seconds", type=float, help="Of the processor, for each other row that learns; else what ours took.")
@click.option("--jobs", type=click.IntRange(1), default=1, show_default=True, help="Processes, each on one thread.")
@click.option("--cache", type=PATH, default=Path("runs/control-study"), show_default=True, help="Folder for results.")
@click.option("--out", type=PATH, default=Path("docs/results.md"), help="File with the tables' markers.")
@params_option
def command(
    envs: tuple[str, ...],
    logs: tuple[str, ...],
    seeds: list[int],
    rows: str,
    rho: list[float],
    episodes: list[int],
    starts: int,
    steps: int | None,
    seconds: float | None,
    jobs: int,
    cache: Path,
    out: Path,
    params_file: Path,
) -> None:
    """What the planner on the bundle earns in the simulator, beside whatever one would use instead (days).

    Every row of a case learns from the same logs and is measured from the same starts, which no log begins with; rows
    that learn get the CPU-seconds that ours took. Call it again after anything went wrong: only what is missing is run.
    With --rho the rows are ours at several shares of dreams. --cache keeps logs, models and results, table.csv too.
    """
    names = rows.split(",")
    if unknown := sorted(set(names) - set(NAMES)):
        raise click.UsageError(f"--rows: found {', '.join(unknown)}; expected {', '.join(NAMES)}.")
    study = Study(cache.absolute(), read_yaml(params_file), starts, seconds)
    params.check(dict(study.values), params_file)
    arms = [arm(each) for each in rho] if rho else [Row(name) for name in NAMES if name in names]
    cases = [case for seed in seeds for case in _cases(envs, logs, seed, steps or 0, episodes if rho else [])]
    failures = fill(study, cases, arms, jobs)
    found = {case: {row.name: each for row in arms if (each := Contest(study, case).get(row))} for case in cases}
    text = rho_table(found, arms) if rho else tables(found, names)
    write_between_markers(out, text, "control-rho" if rho else "control")
    write_rows(cache / ("rho.csv" if rho else "table.csv"), found)
    print(f"tables in {out}")
    if failures:
        raise ValueError(f"{len(failures)} results are missing; the first: {failures[0]}")


def arm(rho: float) -> Row:
    overrides = {"train.rho": f"{rho:g}", "train.rho_start": f"{rho:g}", "train.rho_schedule": "constant"}
    return Row(OURS, overrides, f"rho {rho:g}")


def _cases(envs: Sequence[str], logs: Sequence[str], seed: int, steps: int, sizes: Sequence[int]) -> list[Case]:
    if sizes:
        recorded = f"mixed-{RECORDED * max(sizes)}"
        return [case_of(env, recorded, seed, train_episodes=size, steps=steps) for env in envs for size in sizes]
    return [case_of(env, each, seed, steps=steps) for env in envs for each in logs]


def fill(study: Study, cases: Sequence[Case], rows: Sequence[Row], jobs: int) -> list[str]:
    """Measure what is missing; why what is missing still."""
    found = side_by_side(fill_case, [(study, rows, case) for case in cases], jobs)
    return [failure for failures in found for failure in failures]


def fill_case(study: Study, rows: Sequence[Row], case: Case) -> list[str]:
    contest, failures = Contest(study, case), list[str]()
    setup.configure(contest.trainer.settings.train, quiet=True)
    for row in rows:
        try:
            if contest.get(row) is None and (result := contest.measure(row)):
                print(_said(result), flush=True)
        except (ValueError, OSError) as error:
            failures.append(f"{case.env}, {case.name}, seed {case.seed}, {row.name}: {error}")
            print(failures[-1], flush=True)
    return failures


def _said(result: Mapping[str, object] | Result) -> str:
    returns, training = result["returns"], result["training"]
    assert isinstance(returns, list)
    assert isinstance(training, Mapping)
    spent = f", {training['seconds']:.0f} s" if "seconds" in training else ""
    where = ", ".join(str(result[name]) for name in ("env", "logs", "seed", "row"))
    return f"{where}: {sum(returns) / len(returns):.1f}{spent}, {result['decide_ms']:.1f} ms an action"


if __name__ == "__main__":
    run(command)
