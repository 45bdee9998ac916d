"""DVC's experiments and its queue, as a study uses them: through their command line and git."""

import csv
import fcntl
import json
import os
import re
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from worldmodel.core.fingerprint import fingerprint
from worldmodel.core.yaml12 import parse
from worldmodel.sweeps.run import PARAMS, Run

QUEUEING = Path("runs/queueing")  # there while DVC has changed params.yaml and HEAD; holds the branch
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
EPISODES, METRICS = "artifacts/plots/episodes.csv", "artifacts/metrics.json"


@dataclass(frozen=True)
class Status:
    """What `dvc queue status` says."""

    tasks: Mapping[str, str]  # name of the experiment -> Queued | Running | Success | Failed
    workers: int


def run(*command: str) -> str:
    """Raises ValueError with what the command said where it fails."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        said = " ".join((done.stderr or done.stdout).split())
        raise ValueError(f"{' '.join(command)}: {said[-500:]}")
    return done.stdout


def code_of_project() -> str:
    """A hash of all committed files that the stages read, params.yaml left out.

    Raises ValueError where one of them is not as committed: experiments would silently run what no commit holds.
    """
    stages = parse(run("git", "show", "HEAD:./dvc.yaml"))["stages"].values()
    outs = {
        name for stage in stages for out in stage.get("outs", []) for name in ([out] if isinstance(out, str) else out)
    }
    read = sorted({dep for stage in stages for dep in stage["deps"]} - outs)
    paths = [*read, *(f"{path}.dvc" for path in read), "dvc.yaml", "requirements.txt"]
    changed = run("git", "status", "--porcelain", "--", *paths, str(PARAMS)).splitlines()
    if changed:
        raise ValueError(f"not as committed: {', '.join(line[3:] for line in changed)}; commit or restore them first")
    return fingerprint({"tree": run("git", "ls-tree", "-r", "HEAD", "--", *paths)})


def finished(runs: Iterable[Run]) -> dict[str, str]:
    """Name -> commit of the experiments that are there with these params and results."""
    lines = run("git", "for-each-ref", "--format=%(objectname) %(refname)", "refs/exps").splitlines()
    named = {ref.split("/")[4]: commit for commit, ref in map(str.split, lines) if len(ref.split("/")) == 5}
    return {each.name: named[each.name] for each in runs if each.name in named and _is_of(named[each.name], each)}


def _is_of(commit: str, wanted: Run) -> bool:
    return bool(_params(commit) == wanted.values)


@cache
def _params(commit: str) -> Any:
    try:
        return parse(run("git", "show", f"{commit}:./{PARAMS}")) if episodes_of(commit) else None
    except (ValueError, yaml.YAMLError):
        return None


def episodes_of(commit: str) -> list[dict[str, str]]:
    """Rows of the experiment's episodes.csv. Raises ValueError where it has none."""
    return list(csv.DictReader(run("git", "show", f"{commit}:./{EPISODES}").splitlines()))


def metrics_of(commit: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(run("git", "show", f"{commit}:./{METRICS}"))
    return found


def say(runs: Sequence[Run]) -> None:
    """What each run sets, and how many are finished already."""
    for each in runs:
        print(each.name, *(f"{key}={text}" for key, text in each.overrides.items()))
    print(f"{len(runs)} runs, {len(finished(runs))} of them finished")


def status() -> Status:
    said = run("dvc", "queue", "status")
    rows = [line.split() for line in said.splitlines()]
    tasks = {row[1]: row[-1] for row in rows if row and row[-1] in ("Queued", "Running", "Success", "Failed")}
    workers = re.search(r"(\d+) active, (\d+) idle", said)
    return Status(tasks, int(workers[1]) + int(workers[2]) if workers else 0)


def put(wanted: Run) -> None:
    """DVC is let finish, whatever ends this process: it has changed params.yaml and HEAD, and changes them back."""
    sets = [part for key, text in wanted.overrides.items() for part in ("-S", f"{key}={text}")]
    command = ["dvc", "exp", "run", "--queue", "--quiet", "-n", wanted.name, *sets]
    branch = subprocess.run(["git", "symbolic-ref", "-q", "HEAD"], capture_output=True, text=True, check=False).stdout
    QUEUEING.parent.mkdir(parents=True, exist_ok=True)
    with QUEUEING.open("w", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # DVC inherits the lock
        file.write(branch.strip())
        file.flush()
        pipe = subprocess.PIPE
        queueing = subprocess.Popen(
            command, stdout=pipe, stderr=pipe, text=True, start_new_session=True, pass_fds=[file.fileno()]
        )
        try:
            _, said = queueing.communicate()
        finally:
            queueing.wait()
        QUEUEING.unlink()
    if queueing.returncode:
        raise ValueError(f"{' '.join(command)}: {' '.join(said.split())[-500:]}")


def mend() -> None:
    """Undo what a `put` leaves behind whose DVC was killed too; one that is still at work is waited for."""
    if not QUEUEING.is_file():
        return
    with QUEUEING.open(encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        branch = file.read()
    detached = run("git", "rev-parse", "--abbrev-ref", "HEAD").strip() == "HEAD"
    if detached and branch and run("git", "rev-parse", branch) == run("git", "rev-parse", "HEAD"):
        run("git", "symbolic-ref", "HEAD", branch)
    run("git", "checkout", "HEAD", "--", str(PARAMS))
    print(f"an earlier call was killed while DVC queued a run: {PARAMS} and branch are as before; see `git stash list`")
    QUEUEING.unlink()


def start(jobs: int) -> None:
    """Workers hold on to the streams they are given, and outlive who started them: nothing waits for their end.

    They share the processors in equal parts; a stage that asks for its own number of threads, as train does, has that.
    """
    command = ["dvc", "queue", "start", "-j", str(jobs)]
    nothing = subprocess.DEVNULL
    shared = os.environ | dict.fromkeys(THREADS, str(max(1, (os.cpu_count() or 1) // jobs)))
    done = subprocess.run(
        command, stdin=nothing, stdout=nothing, stderr=nothing, env=shared, start_new_session=True, check=False
    )
    if done.returncode:
        raise ValueError(f"{' '.join(command)}: failed; call it by hand to see why")


def stop() -> None:
    """Workers end after the task that they are at; what waits in the queue goes on waiting."""
    run("dvc", "queue", "stop")


def remove(name: str) -> None:
    run("dvc", "queue", "remove", name)


def kill(name: str) -> None:
    run("dvc", "queue", "kill", "--force", name)


def log(name: str) -> str:
    """What a task printed; empty where it failed before it printed anything."""
    try:
        return run("dvc", "queue", "logs", name)
    except ValueError:
        return ""
