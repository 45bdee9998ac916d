"""Do dreams help? Every rho, at several sizes of the log, with several seeds, beside two controls.

    make rho-study        # or: python studies/rho.py --rhos 0,0.5 --sizes 8,0 --seeds 3 --set train.steps=2000

Runs where it is called, through DVC's queue, on what is committed there. Call it again after anything went wrong: only
what is missing is run. The controls: the same share of logged windows over again in place of dreams
(`dreams.source: repeat`), and the teacher's own error.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "src"))

from research import rho_figure as figure
from research import rho_grid as grid
from research import rho_report as report
from research.teachers import teachers_errors
from worldmodel.core import errors as stage
from worldmodel.core.yaml12 import parse
from worldmodel.sweeps import experiments, results
from worldmodel.sweeps.queue_runner import Follower
from worldmodel.sweeps.run import with_overrides

CACHE = Path("runs/rho-study")  # teachers that were fitted again


def main(arguments: Sequence[str] | None = None) -> None:
    given = _parser().parse_args(arguments)
    code, runs = plan(given)
    if given.dry_run:
        experiments.say(runs)
        return
    follower = Follower(runs, given.jobs, given.poll)
    done = follower.follow()
    finished = [run for run in runs if run.name in done]
    if not any(run.arm.name == results.BASE for run in finished):
        raise ValueError("no run with rho 0 finished, which all others are compared with; see `dvc queue logs NAME`")
    teachers = _teachers(finished, given, code)
    found = results.lines([_measured(run, done[run.name]) for run in finished], teachers)
    write(found, given, _notes(found, finished, done, len(runs)))
    for name, why in follower.failed.items():
        print(f"failed: {name}: {why}; see `dvc queue logs {name}`, then call again", file=sys.stderr)
    if follower.failed:
        raise SystemExit(1)


def plan(given: argparse.Namespace) -> tuple[str, list[grid.Run]]:
    if 0 not in given.rhos:
        raise ValueError(f"--rhos {given.rhos}: 0 has to be among them, all others are compared with it")
    values = parse(experiments.run("git", "show", "HEAD:./params.yaml"))
    extra = dict(pair.split("=", 1) for pair in given.set)
    base = with_overrides(values, extra)
    arms = grid.arms(given.rhos, given.control_rho, base["train"])
    experiments.mend()
    code = experiments.code_of_project()
    return code, grid.grid(arms, given.sizes, given.seeds, base, extra, code)


def _teachers(finished: list[grid.Run], given: argparse.Namespace, code: str) -> dict[str, results.Rows]:
    asked_for = [run for run in finished if run.seed < given.teachers]
    return dict(teachers_errors(asked_for, given.logs, CACHE, code, given.jobs))


def _measured(run: grid.Run, commit: str) -> results.Measured:
    metrics = experiments.metrics_of(commit)
    return results.Measured(
        run, experiments.episodes_of(commit), metrics["rare"]["mse"], metrics["dreams"].get("realism")
    )


def _notes(found: list[results.Line], finished: list[grid.Run], done: dict[str, str], asked: int) -> list[str]:
    """What the numbers are, and the floor that they stand on."""
    ridge = {
        run.size: results.by_key(experiments.episodes_of(done[run.name]), results.RIDGE)
        for run in finished
        if run.arm.name == results.BASE
    }
    floors = ", ".join(
        f"{results.mean_of({0: ridge[size]}, 'test'):.4f} ({report.size_name(size)})"
        for size in dict.fromkeys(line.size for line in found)
        if size in ridge
    )
    short = "" if len(finished) == asked else f" {asked - len(finished)} of {asked} runs are missing."
    return [
        "Changes are paired by seed and episode; in brackets 95 % of 10,000 bootstrap draws over seeds and episodes."
        + short,
        f"Ridge on test episodes, by train episodes: {floors}.",
        "*repeat*: logged windows as they are in place of dreams; *teacher*: the mean of its members, not a student; "
        "*realism*: AUC of a classifier that tells dreams from reality. *rho*: share of dreams in a whole training; "
        "*default*: params.yaml as it stands, whose share changes meanwhile.",
    ]


def write(found: list[results.Line], given: argparse.Namespace, notes: list[str]) -> None:
    report.write_between_markers(given.out, report.markdown(found, given.title, notes))
    report.write_lines(given.figure.with_suffix(".csv"), found)
    figure.draw(given.figure, found, given.title)
    print(f"table in {given.out}, figure in {given.figure}, its numbers in {given.figure.with_suffix('.csv')}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rhos", type=_rhos, default="0,0.3,0.5,0.8", help="0 has to be among them")
    parser.add_argument("--sizes", type=_sizes, default="8,32,0", help="train episodes; 0 = all")
    parser.add_argument("--seeds", type=int, default=5, help="s is added to train.seed and dreams.seed, s = 0, 1, ...")
    parser.add_argument("--teachers", type=int, default=5, help="seeds whose teachers are fitted again and measured")
    parser.add_argument("--control-rho", type=float, help="share of repeated windows; else as in params.yaml")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="a param for all runs")
    parser.add_argument("--jobs", type=int, default=2, help="workers of DVC's queue")
    parser.add_argument("--poll", type=float, default=20.0, help="seconds between two looks at the queue")
    parser.add_argument(
        "--logs", type=Path, default=Path("data/worldmodel/offline"), help="what the teacher is fitted on"
    )
    parser.add_argument("--title", default="The committed logs", help="of the table and the figure")
    parser.add_argument("--out", type=Path, default=Path("docs/results.md"), help="file with the table's markers")
    parser.add_argument("--figure", type=Path, default=Path("docs/rho_study.png"))
    parser.add_argument("--dry-run", action="store_true", help="say what would be run")
    return parser


def _rhos(text: str) -> list[float]:
    return [float(part) for part in text.split(",")]


def _sizes(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


if __name__ == "__main__":
    stage.run(main)
