"""Runs as DVC experiments, side by side on this machine or a cluster. Nothing reads or changes the user's own files.

Each run is made in a clone and comes back as bytes; only this process touches the project's git. A finished experiment
is there whole, as a reference of git, or not at all.
"""

import os
import shutil
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import mkdtemp

from worldmodel.checkpoints.remote import VARIABLE as CHECKPOINTS
from worldmodel.core.jobs import VARIABLE, on_cluster, run_all, workers
from worldmodel.core.locking import holding
from worldmodel.core.processes import git, output
from worldmodel.core.text import escaped
from worldmodel.sweeps.experiments import finished
from worldmodel.sweeps.grid import Run
from worldmodel.sweeps.trial import RESULTS, Outcome, Source, make


class Runner:
    """Makes the experiments that are missing, several at once. Works in the current folder, on its HEAD."""

    def __init__(self, runs: Sequence[Run], jobs: int | None = None) -> None:
        """`jobs` at once; else as many as WORLDMODEL_JOBS says, as the cluster has processors for, or one here."""
        self.runs = runs
        self.failed: dict[str, str] = {}  # name -> why
        os.environ[VARIABLE] = str(jobs or os.environ.get(VARIABLE) or (workers() if on_cluster() else 1))

    def run(self) -> dict[str, str]:
        """Name -> commit of all that finished; why the others did not is in `failed`.

        KeyboardInterrupt ends the runs that are on their way; their trainings go on from their checkpoints next time.
        """
        with _sweeping() as mark:
            take_results()
            before = finished(self.runs)
            waiting = [run for run in self.runs if run.name not in before]
            print(f"{len(before)} of {len(self.runs)} runs finished", flush=True)
            begun, source = time.monotonic(), source_of(mark) if waiting else None
            try:
                for wave in waves(waiting, {run.dreams for run in self.runs if run.name in before}):
                    outcomes = run_all(make, [(source, run.name, dict(run.overrides)) for run in wave])
                    for run, outcome in zip(wave, outcomes, strict=True):
                        waiting.remove(run)
                        self._take(run, outcome)
                        self._tell(len(before), len(waiting), time.monotonic() - begun)
            finally:
                take_results()
        return finished(self.runs)

    def _take(self, run: Run, outcome: Outcome) -> None:
        if outcome.experiment:
            (RESULTS / f"{run.name}.bundle").write_bytes(outcome.experiment)
            take_results()
            return
        log = RESULTS / f"{run.name}.log"
        log.write_text(outcome.log, encoding="utf-8")
        self.failed[run.name] = outcome.why
        print(f"{run.name} failed: {escaped(outcome.why)} ({log})", flush=True)

    def _tell(self, before: int, left: int, seconds: float) -> None:
        over, failed = len(self.runs) - left, f"{len(self.failed)} failed, " if self.failed else ""
        rest = f"{failed}about {seconds / (over - before) * left / 60:.0f} min left"
        print(f"{over - len(self.failed)} of {len(self.runs)} runs finished, {rest}", flush=True)


def waves(waiting: Sequence[Run], have_dreams: Collection[str]) -> Iterator[list[Run]]:
    """Of runs that share dreams, one goes first: the others find what it made in the cache."""
    first = {run.dreams: run for run in reversed(waiting) if run.dreams not in have_dreams}
    early = [run for run in waiting if first.get(run.dreams, run) is run]
    yield from (wave for wave in (early, [run for run in waiting if run not in early]) if wave)


def take_results() -> None:
    """Fetch the experiments that wait in RESULTS."""
    for path in sorted(RESULTS.glob("*.bundle")):
        git("fetch", "--quiet", "--force", "--no-write-fetch-head", str(path.resolve()), "refs/exps/*:refs/exps/*")
        path.unlink(missing_ok=True)


@contextmanager
def _sweeping() -> Iterator[Path]:
    """A folder that lasts as long as this sweep; those of sweeps that were killed go."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    for left in (path for path in RESULTS.iterdir() if path.is_dir()):
        with suppress(ValueError), holding(left, "sweep", patience=0):
            shutil.rmtree(left, ignore_errors=True)
    mark = Path(mkdtemp(dir=RESULTS.resolve()))
    try:
        with holding(mark, "sweep"):
            yield mark
    finally:
        shutil.rmtree(mark, ignore_errors=True)


def source_of(mark: Path) -> Source:
    """HEAD, for machines that may have none of this."""
    top = Path(git("rev-parse", "--show-toplevel"))
    git("bundle", "create", "--quiet", str(mark / "commits.bundle"), "HEAD")
    texts = [Path(git("rev-parse", "--git-path", "shallow")), Path(".dvc/config.local")]
    shallow, settings = (path.read_text(encoding="utf-8") if path.is_file() else "" for path in texts)
    passed = {name: text for name, text in os.environ.items() if name.startswith("AWS_") or name == CHECKPOINTS}
    return Source(
        commits=(mark / "commits.bundle").read_bytes(),
        shallow=shallow,
        head=git("rev-parse", "HEAD"),
        below=str(Path.cwd().resolve().relative_to(top.resolve())),
        project=Path.cwd().resolve(),
        mark=mark,
        cache=output("dvc", "cache", "dir").strip(),
        settings=settings,
        remote=output("dvc", "config", "core.remote", fine=(0, 251)).strip() if on_cluster() else "",
        variables=passed,
        jobs=workers(),
    )
