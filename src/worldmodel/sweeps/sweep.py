"""The command `worldmodel sweep`: combinations of params, all or those that a search tries; a table and a picture."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import click

from worldmodel.core.atomic import replacing
from worldmodel.core.fingerprint import fingerprint
from worldmodel.core.options import PATH
from worldmodel.core.project import project_folder
from worldmodel.sweeps import experiments, figure, results
from worldmodel.sweeps.grid import Run, axes, sweep_runs
from worldmodel.sweeps.runner import Runner
from worldmodel.sweeps.search import Range, Search, axis_of


@click.command()
@click.argument("combinations", nargs=-1, required=True, metavar="KEY=VALUE,VALUE... | KEY=LOW..HIGH")
@click.option("--jobs", type=click.IntRange(min=1), help="Runs at once; else 1, or what a cluster has room for.")
@click.option("--trials", type=click.IntRange(min=1), default=20, show_default=True, help="Of a search in ranges.")
@click.option("--batch", type=click.IntRange(min=1), default=5, show_default=True, help="Trials chosen together.")
@click.option("--out", type=PATH, help="Folder for table and picture; else one in runs/, named after the sweep.")
@click.option("--dry-run", is_flag=True, help="List what would be run.")
def command(
    combinations: tuple[str, ...], jobs: int | None, trials: int, batch: int, out: Path | None, dry_run: bool
) -> None:
    """Run every combination of some params, averaged over seeds (keys ending in .seed), best first.

    Where a key has a range, Optuna looks for the best instead: it chooses a batch of trials at a time, by what those
    before have shown. Each run is a DVC experiment of what is committed, made in a clone: your files stay as they are.
    After Ctrl-C, or anything that went wrong, call it again: only what is missing is run. The best is chosen on val
    episodes; test episodes are for what was chosen.
    """
    project_folder()
    requested, values, code = axes(combinations), experiments.committed_params(), experiments.committed_code()
    folder = out or Path("runs") / f"sweep-{fingerprint({'of': requested, 'params': values, 'code': code})[:8]}"
    found = {key: axis_of(key, texts, values) for key, texts in requested.items()}
    work: Search | Runner
    if any(isinstance(axis, Range) for axis in found.values()):
        work = Search(found, values, code, folder, trials, batch, jobs)
    else:
        work = Runner(sweep_runs(requested, values, code), jobs)
    if dry_run:
        if isinstance(work, Search):
            work.propose(0)
        print(listing(work.runs))
        return
    try:
        work.run()
    finally:
        write(folder, work.runs, experiments.finished(work.runs), work.failed)
    if work.failed:
        raise SystemExit(1)


def listing(runs: Sequence[Run]) -> str:
    """What each run sets, and how many are finished already."""
    lines = [" ".join([run.name, *(f"{key}={text}" for key, text in run.overrides.items())]) for run in runs]
    return "\n".join([*lines, f"{len(runs)} runs, {len(experiments.finished(runs))} of them finished"])


def write(out: Path, runs: Sequence[Run], commits: Mapping[str, str], failed: Mapping[str, str]) -> None:
    """table.md, runs.csv and, where anything finished, errors.png; the table is printed too."""
    rows = {name: experiments.episodes_of(commit) for name, commit in commits.items()}
    lines = results.ranked(runs, rows)
    text = results.markdown(lines, runs, failed)
    with replacing(out / "table.md") as temporary:
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace")
    results.write_runs(out / "runs.csv", runs, rows, failed)
    if lines:
        figure.draw(out / "errors.png", lines)
    print(f"{text}\ntable, runs and picture are in {out}", flush=True)
