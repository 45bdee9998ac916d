"""Runs as DVC experiments, each in a clone of the project, so that nothing reads or changes the user's own files.

A clone shares the project's git objects, cache, checkpoints and records of runs. A finished experiment reaches the
project as one git reference: it is there whole, or not at all.
"""

import fcntl
import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Collection, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import suppress
from pathlib import Path
from subprocess import DEVNULL, STDOUT
from typing import IO

from worldmodel.core.processes import environment, git, output
from worldmodel.core.text import escaped
from worldmodel.sweeps.experiments import finished
from worldmodel.sweeps.grid import Run

ATTEMPTS = 3  # of a run that ends before one of its stages fails
CLONES = Path(".dvc/tmp/sweeps")  # which git and DVC ignore
STAGE_FAILED = "failed to reproduce"  # as DVC puts it
SHARED = (".checkpoints", "runs")  # folders of the project that stages keep checkpoints and records in
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")


class Runner:
    """Makes the experiments that are missing, several at once. Works in the current folder, on its HEAD."""

    def __init__(self, runs: Sequence[Run], jobs: int) -> None:
        self.runs, self.jobs = runs, jobs
        self.failed: dict[str, str] = {}  # name -> why
        self._stopping = threading.Event()
        self._processes: set[subprocess.Popen[bytes]] = set()
        self._head = git("rev-parse", "HEAD")
        self._top = git("rev-parse", "--show-toplevel")
        self._cache = output("dvc", "cache", "dir").strip()
        share = str(max(1, (os.cpu_count() or 1) // jobs))  # of the processors
        self._environment = environment(without=["DVC_ROOT"]) | dict.fromkeys(THREADS, share)

    def run(self) -> dict[str, str]:
        """Name -> commit of all that finished; why the others did not is in `failed`.

        KeyboardInterrupt ends the runs that are on their way; their trainings go on from their checkpoints next time.
        """
        before = finished(self.runs)
        waiting = [run for run in self.runs if run.name not in before]
        have_dreams = {run.dreams for run in self.runs if run.name in before}
        begun, under_way = time.monotonic(), dict[Future[str], Run]()
        print(f"{len(before)} of {len(self.runs)} runs finished", flush=True)
        with ThreadPoolExecutor(self.jobs) as pool:
            try:
                while waiting or under_way:
                    while len(under_way) < self.jobs and (run := _next(waiting, under_way.values(), have_dreams)):
                        waiting.remove(run)
                        under_way[pool.submit(self._make, run)] = run
                    for future in wait(under_way, return_when=FIRST_COMPLETED).done:
                        run = under_way.pop(future)
                        have_dreams.add(run.dreams)
                        if why := future.result():
                            self.failed[run.name] = why
                            print(f"{run.name} failed: {escaped(why)} ({CLONES / run.name}.log)", flush=True)
                        self._tell(len(before), len(waiting) + len(under_way), time.monotonic() - begun)
            except BaseException:
                self._stop()
                raise
        return finished(self.runs)

    def _tell(self, before: int, left: int, seconds: float) -> None:
        over, failed = len(self.runs) - left, f"{len(self.failed)} failed, " if self.failed else ""
        rest = f"{failed}about {seconds / (over - before) * left / 60:.0f} min left"
        print(f"{over - len(self.failed)} of {len(self.runs)} runs finished, {rest}", flush=True)

    def _stop(self) -> None:
        self._stopping.set()
        for process in list(self._processes):
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)

    def _make(self, run: Run) -> str:
        """Make one experiment. Empty, or why it failed."""
        path = CLONES / f"{run.name}.log"
        path.parent.mkdir(parents=True, exist_ok=True)
        why = "interrupted"
        with path.open("a+", encoding="utf-8") as log:
            for _ in range(ATTEMPTS if self._locked(log) else 0):
                why = self._attempt(run, log)
                if not why or self._stopping.is_set() or STAGE_FAILED in path.read_text(errors="replace"):
                    break
        return why

    def _attempt(self, run: Run, log: IO[str]) -> str:
        clone = CLONES / run.name
        try:
            if not _reference(run):
                self._experiment(run, clone, log)
            git("push", "--quiet", "--force", "origin", _reference(run), folder=clone)
        except ValueError as error:
            return _reason(Path(log.name)) or str(error)
        finally:
            shutil.rmtree(clone, ignore_errors=True)
        return ""

    def _locked(self, file: IO[str]) -> bool:
        """Wait for a killed sweep's process that still makes this experiment: its output holds the lock."""
        while not self._stopping.is_set():
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return True
            except BlockingIOError:
                self._stopping.wait(1.0)
        return False

    def _experiment(self, run: Run, clone: Path, log: IO[str]) -> None:
        """Clone the project and run it. Raises ValueError where that fails."""
        shutil.rmtree(clone, ignore_errors=True)
        log.truncate(0)
        git("clone", "--quiet", "--shared", "--no-checkout", self._top, str(clone))
        git("checkout", "--quiet", "--detach", self._head, folder=clone)
        project = clone / Path.cwd().relative_to(self._top)
        (project / ".dvc/config.local").write_text(f"[cache]\n    dir = {self._cache}\n", encoding="utf-8")
        (clone / ".git/info/exclude").write_text("\n".join(SHARED) + "\n", encoding="utf-8")
        for name in SHARED:
            Path(name).mkdir(exist_ok=True)
            (project / name).symlink_to(Path.cwd() / name)
        sets = [part for key, text in run.overrides.items() for part in ("-S", f"{key}={text}")]
        command = ["dvc", "exp", "run", "--name", run.name, *sets]
        process = subprocess.Popen(
            command,
            cwd=project,
            env=self._environment,
            stdin=DEVNULL,
            stdout=log,
            stderr=STDOUT,
            start_new_session=True,
        )
        self._processes.add(process)
        if self._stopping.is_set():  # before it was among those that are stopped
            process.terminate()
        process.wait()
        self._processes.remove(process)
        if process.returncode:
            raise ValueError(f"`dvc exp run` ended with exit code {process.returncode}")


def _next(waiting: Sequence[Run], under_way: Collection[Run], have_dreams: Collection[str]) -> Run | None:
    """Of runs that share dreams, one goes first: the others find what it made in the cache."""
    making = {run.dreams for run in under_way}
    return next((run for run in waiting if run.dreams in have_dreams or run.dreams not in making), None)


def _reference(run: Run) -> str:
    """Of the experiment in its clone; empty where it is not there."""
    clone = CLONES / run.name
    pattern = f"refs/exps/*/*/{run.name}"
    return git("for-each-ref", "--format=%(refname)", pattern, folder=clone) if clone.is_dir() else ""


def _reason(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    return next((line.strip() for line in lines if "error:" in line.lower()), "")
