"""Every combination of some params, averaged over seeds: a table, best first, and a picture.

    make sweep S="train.rho=0,0.3 train.seed=0,1,2" JOBS=2        # or: python studies/sweep.py train.rho=0,0.3 ...

Runs where it is called, through DVC's queue, on what is committed there. After Ctrl-C, or anything that went wrong,
call it again: only what is missing is run. The best is chosen on val episodes; test episodes are for what was chosen.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import click

from worldmodel.core.atomic import replacing
from worldmodel.core.fingerprint import fingerprint
from worldmodel.core.options import PATH
from worldmodel.core.yaml12 import parse
from worldmodel.sweeps import experiments
from worldmodel.sweeps import figure as ranking_figure
from worldmodel.sweeps import ranking as sweep_results
from worldmodel.sweeps.grid import axes, sweep_runs
from worldmodel.sweeps.queue_runner import Follower
from worldmodel.sweeps.run import Run

INTERRUPTED = 130


@click.command()
@click.argument("combinations", nargs=-1, required=True, metavar="KEY=VALUE,VALUE...")
@click.option("--jobs", type=click.IntRange(min=1), default=1, show_default=True, help="Runs at once.")
@click.option("--poll", default=10.0, show_default=True, help="Seconds between two looks at the queue.")
@click.option("--out", type=PATH, help="Folder for what is found; else one in runs/, named after the sweep.")
@click.option("--dry-run", is_flag=True, help="Say what would be run.")
def command(combinations: tuple[str, ...], jobs: int, poll: float, out: Path | None, dry_run: bool) -> None:
    """Run every combination of some params, averaged over seeds (keys ending in .seed), best first.

    Through DVC's queue, on what is committed. After Ctrl-C, or anything that went wrong, call it again: only what is
    missing is run. The best is chosen on val episodes; test episodes are for what was chosen.
    """
    values = parse(experiments.run("git", "show", "HEAD:./params.yaml"))
    asked = axes(combinations)
    experiments.mend()
    runs = sweep_runs(asked, values, experiments.code_of_project())
    if dry_run:
        experiments.say(runs)
        return
    follower = Follower(runs, jobs, poll)
    try:
        done, code = follower.follow(), 1 if follower.failed else 0
    except KeyboardInterrupt:
        done, code = _interrupted(runs), INTERRUPTED
    name = fingerprint({"runs": [each.name for each in runs]})[:8]
    write(out or Path("runs") / f"sweep-{name}", runs, done, follower.failed)
    if code:
        raise SystemExit(code)


def _interrupted(runs: Sequence[Run]) -> dict[str, str]:
    print("interrupted: runs that have begun are let finish, the others wait; call again to go on", flush=True)
    experiments.stop()
    return experiments.finished(runs)


def write(out: Path, runs: Sequence[Run], done: Mapping[str, str], failed: Mapping[str, str]) -> None:
    """table.md, runs.csv and, where anything finished, errors.png; the table is printed too."""
    rows = {name: experiments.episodes_of(commit) for name, commit in done.items()}
    lines = sweep_results.ranked(runs, rows)
    text = sweep_results.markdown(lines, runs, done, failed)
    with replacing(out / "table.md") as temporary:
        temporary.write_text(text, encoding="utf-8")
    sweep_results.write_runs(out / "runs.csv", runs, rows, failed)
    if lines:
        ranking_figure.draw(out / "errors.png", lines)
    print(f"{text}\ntable, runs and picture are in {out}", flush=True)
