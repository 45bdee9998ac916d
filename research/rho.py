"""Do dreams help? Every rho, at several sizes of the log, with several seeds, beside two controls.

The controls: the same share of logged windows over again in place of dreams (`dreams.source: repeat`), and the
teacher's own error.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import click

from research import rho_results
from research.markers import write_between_markers
from research.options import numbers
from research.rho_results import Line, Measured
from research.rho_runs import Run, arms, study_runs
from research.teachers import teachers_errors
from worldmodel.core.errors import run
from worldmodel.core.options import PATH
from worldmodel.sweeps import experiments
from worldmodel.sweeps.grid import with_overrides
from worldmodel.sweeps.results import Rows, by_episode, mean_of
from worldmodel.sweeps.runner import Runner
from worldmodel.sweeps.sweep import listing

CACHE = Path("runs/rho-study")  # teachers that were fitted again


@click.command()
@click.option("--rhos", callback=numbers(float), default="0,0.3,0.5,0.8", show_default=True, help="0 is among them.")
@click.option("--sizes", callback=numbers(int), default="8,32,0", show_default=True, help="Train episodes; 0 = all.")
@click.option(
    "--seeds",
    type=click.IntRange(1),
    default=5,
    show_default=True,
    help="s is added to train.seed and dreams.seed, s = 0, 1, ...",
)
@click.option("--teachers", default=5, show_default=True, help="Seeds whose teachers are fitted again and measured.")
@click.option("--control-rho", type=float, help="Share of repeated windows; else as in params.yaml.")
@click.option("--set", "extra", multiple=True, metavar="KEY=VALUE", help="A param for all runs.")
@click.option("--jobs", type=click.IntRange(1), default=2, show_default=True, help="Runs at once.")
@click.option("--logs", type=PATH, default=Path("data/worldmodel/offline"), help="What the teacher is fitted on.")
@click.option("--title", default="The committed logs", show_default=True, help="Of the table and the figure.")
@click.option("--out", type=PATH, default=Path("docs/results.md"), help="File with the table's markers.")
@click.option("--figure", type=PATH, default=Path("docs/rho_study.png"), help="The figure; its numbers go beside it.")
@click.option("--dry-run", is_flag=True, help="List what would be run.")
def command(
    rhos: list[float],
    sizes: list[int],
    seeds: int,
    teachers: int,
    control_rho: float | None,
    extra: tuple[str, ...],
    jobs: int,
    logs: Path,
    title: str,
    out: Path,
    figure: Path,
    dry_run: bool,
) -> None:
    """Train with every rho, at several sizes of the log, with several seeds, beside two controls (hours).

    Call it again after anything went wrong: only what is missing is run, as `worldmodel sweep` does.
    """
    if 0 not in rhos:
        raise ValueError(f"--rhos {','.join(map('{:g}'.format, rhos))}: add 0, which all others are compared with")
    code = experiments.committed_code()
    overrides = dict(pair.split("=", 1) for pair in extra)
    base = with_overrides(experiments.committed_params(), overrides)
    runs = study_runs(arms(rhos, control_rho, base["train"]), sizes, seeds, base, overrides, code)
    if dry_run:
        print(listing(runs))
        return
    runner = Runner(runs, jobs)
    commits = runner.run()
    finished = [run for run in runs if run.name in commits]
    if not any(run.arm.name == rho_results.BASE for run in finished):
        raise ValueError("no run with rho 0 finished, which all others are compared with; what was wrong stands above")
    rows = teachers_errors([run for run in finished if run.seed < teachers], logs, CACHE, code)
    results = rho_results.lines([measured(run, commits[run.name]) for run in finished], rows)
    notes = notes_of(results, finished, commits, len(runs))
    write_between_markers(out, rho_results.markdown(results, title, notes), "rho-study")
    rho_results.write_lines(figure.with_suffix(".csv"), results)
    rho_results.draw(figure, results, title)
    print(f"table in {out}, figure in {figure}, its numbers in {figure.with_suffix('.csv')}")
    if runner.failed:
        raise SystemExit(1)


def measured(run: Run, commit: str) -> Measured:
    metrics = experiments.metrics_of(commit)
    return Measured(run, experiments.episodes_of(commit), metrics["rare"]["mse"], metrics["dreams"].get("realism"))


def notes_of(results: Sequence[Line], finished: Sequence[Run], commits: Mapping[str, str], requested: int) -> list[str]:
    """What the numbers are, and how well ridge does."""
    ridge: dict[int, Rows] = {
        run.size: experiments.episodes_of(commits[run.name]) for run in finished if run.arm.name == rho_results.BASE
    }
    errors = ", ".join(
        f"{mean_of([by_episode(ridge[size], 'linear')], 'test'):.4f} ({rho_results.size_name(size)})"
        for size in dict.fromkeys(line.size for line in results)
        if size in ridge
    )
    missing = "" if len(finished) == requested else f" {requested - len(finished)} of {requested} runs are missing."
    return [
        "Changes are paired by seed and episode; in brackets 95 % of 10,000 bootstrap draws over seeds and episodes."
        + missing,
        f"Ridge on test episodes, by train episodes: {errors}.",
        "*repeat*: logged windows as they are in place of dreams; *teacher*: the mean of its members, not a student; "
        "*realism*: AUC of a classifier that tells dreams from reality. *rho*: share of dreams in a whole training; "
        "*default*: params.yaml as it stands, whose share changes meanwhile.",
    ]


if __name__ == "__main__":
    run(command)
