"""The command `worldmodel sweep`: every combination of some params, averaged over seeds; a table and a picture."""

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


@click.command()
@click.argument("combinations", nargs=-1, required=True, metavar="KEY=VALUE,VALUE...")
@click.option("--jobs", type=click.IntRange(min=1), help="Runs at once; else 1, or what a cluster has room for.")
@click.option("--out", type=PATH, help="Folder for table and picture; else one in runs/, named after the sweep.")
@click.option("--dry-run", is_flag=True, help="List what would be run.")
def command(combinations: tuple[str, ...], jobs: int | None, out: Path | None, dry_run: bool) -> None:
    """Run every combination of some params, averaged over seeds (keys ending in .seed), best first.

    Each is a DVC experiment of what is committed, made in a clone: your files stay as they are. After Ctrl-C, or
    anything that went wrong, call it again: only what is missing is run. The best is chosen on val episodes; test
    episodes are for what was chosen.
    """
    project_folder()
    runs = sweep_runs(axes(combinations), experiments.committed_params(), experiments.committed_code())
    if dry_run:
        print(listing(runs))
        return
    runner = Runner(runs, jobs)
    name = fingerprint({"runs": [run.name for run in runs]})[:8]
    try:
        runner.run()
    finally:
        write(out or Path("runs") / f"sweep-{name}", runs, experiments.finished(runs), runner.failed)
    if runner.failed:
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
