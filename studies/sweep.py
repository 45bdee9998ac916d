"""Every combination of some params, averaged over seeds: a table, best first, and a picture.

    make sweep S="train.rho=0,0.3 train.seed=0,1,2" JOBS=2        # or: python studies/sweep.py train.rho=0,0.3 ...

Runs where it is called, through DVC's queue, on what is committed there. After Ctrl-C, or anything that went wrong,
call it again: only what is missing is run. The best is chosen on val episodes; test episodes are for what was chosen.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "src"))

import experiments  # noqa: E402
import ranking_figure  # noqa: E402
import sweep_results  # noqa: E402
from following import Follower  # noqa: E402
from runs import Run  # noqa: E402
from sweep_grid import axes, sweep_runs  # noqa: E402
from worldmodel.config.yaml12 import parse  # noqa: E402
from worldmodel.runtime import stage  # noqa: E402
from worldmodel.runtime.atomic import replacing  # noqa: E402
from worldmodel.runtime.fingerprint import fingerprint  # noqa: E402

INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> None:
    given = _parser().parse_args(arguments)
    values = parse(experiments.run("git", "show", "HEAD:./params.yaml"))
    asked = axes(given.params)
    experiments.mend()
    runs = sweep_runs(asked, values, experiments.code_of_project())
    if given.dry_run:
        experiments.say(runs)
        return
    follower = Follower(runs, given.jobs, given.poll)
    try:
        done, code = follower.follow(), 1 if follower.failed else 0
    except KeyboardInterrupt:
        done, code = _interrupted(runs), INTERRUPTED
    write(
        given.out or Path("runs") / f"sweep-{fingerprint({'runs': [r.name for r in runs]})[:8]}",
        runs,
        done,
        follower.failed,
    )
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


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("params", nargs="+", metavar="KEY=VALUE,VALUE", help="keys ending in .seed are averaged over")
    parser.add_argument("--jobs", type=_positive, default=1, help="runs at once (1)")
    parser.add_argument("--poll", type=float, default=10.0, help="seconds between two looks at the queue (10)")
    parser.add_argument("--out", type=Path, help="folder for what is found; else one in runs/, named after the sweep")
    parser.add_argument("--dry-run", action="store_true", help="say what would be run")
    return parser


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"found {text!r}, expected a whole number of at least 1")
    return int(text)


if __name__ == "__main__":
    stage.run(main)
