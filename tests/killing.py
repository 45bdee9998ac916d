"""Trainings, of model and teacher, that die: run as `python tests/killing.py FOLDER`, prints what it saw as JSON.

One process pays for importing torch; each training is a fork of it. (The tests' own process has computed gradients,
after which torch refuses to compute any in a fork.)
"""

import pinned  # noqa: F401  (before NumPy, which goes by it)

# isort: split
import contextlib
import json
import os
import random
import resource
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path

from tqdm import tqdm

from factories import make_dreams, make_episodes, make_intake, make_normalize, write_logs
from projects import Project, make_project
from test_episodes import contents
from worldmodel.checkpoints import checkpoint
from worldmodel.checkpoints.checkpoint import Checkpoints, Interval, held
from worldmodel.core import params
from worldmodel.stages.dreams import dreams
from worldmodel.stages.train import train

ALWAYS = Interval(steps=1, seconds=0)
STEPS, KILLS = 40, 3
SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)


def training(project: Project, out: Path, kept_in: Path | None) -> None:
    given = (project.normalized, project.normalizer, out, out / "plots", out.with_suffix(".json"), project.settings)
    if kept_in is None:
        train(*given)
    else:
        with held(kept_in, ALWAYS) as kept:
            train(*given, kept)


def forked(work: Callable[[], object], announce: int | None = None) -> int:
    """Start it; returns the pid. It writes a byte to the pipe `announce` whenever it is about to save."""
    pid = os.fork()
    if pid:
        return pid
    code = 1
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    save = Checkpoints.save

    def announced(kept: Checkpoints, step: int, state: checkpoint.State) -> None:
        os.write(announce, b".")
        save(kept, step, state)

    try:
        if announce is not None:
            Checkpoints.save = announced  # type: ignore[method-assign]
        work()
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    except ValueError as error:
        print(error, file=sys.stderr)
    finally:
        os._exit(code)


def killed(work: Callable[[], object], number: int, saves: int) -> int:
    """Start it, and kill it while it saves for that time; returns the exit code, 0 where it was done before."""
    reading, writing = os.pipe()
    pid = forked(work, writing)
    os.close(writing)
    with os.fdopen(reading, "rb", buffering=0) as announcements:
        for _ in range(saves):
            announcements.read(1)
        os.kill(pid, number)
        return code_of(pid)


def code_of(pid: int) -> int:
    """Exit code; of what was killed, the negative signal."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def dreaming(logs: Path, out: Path, kept_in: Path) -> None:
    compute = params.Compute(history=3, threads=1, numerics="portable", device="cpu")
    teacher = {"members": 2, "steps": 20, "dropout": 0.2}
    settings = params.DreamsStage(make_dreams(teacher), make_intake(), make_normalize(), compute)
    with held(kept_in, ALWAYS) as kept:
        dreams(logs, out, settings, kept)


def killed_often(work: Callable[[], None], number: int) -> list[int]:
    """Start it again and again, to kill it KILLS times, then let it be; returns the exit codes."""
    rng = random.Random(number)
    return [*(killed(work, number, rng.randint(1, 5)) for _ in range(KILLS)), code_of(forked(work))]


def killed_while_writing(project: Project, folder: Path) -> list[int]:
    """Each process dies with half a checkpoint on the disk, the third that it writes."""

    def work() -> None:
        calls = []

        def torn(handle: int) -> None:
            calls.append(handle)
            if len(calls) == 3:
                os.ftruncate(handle, 100)
                os.kill(os.getpid(), signal.SIGKILL)

        os.fsync = torn  # type: ignore[assignment]
        training(project, folder / "out", folder / "kept")

    codes = [code_of(forked(work)) for _ in range(3)]
    return [*codes, code_of(forked(lambda: training(project, folder / "out", folder / "kept")))]


def out_of_room(work: Callable[[], None], kept: Path) -> list[int]:
    """The second process may write files of half a checkpoint's size and no larger, the third as it likes."""

    def confined() -> None:
        whole = max(path.stat().st_size for path in kept.rglob("*.safetensors"))
        resource.setrlimit(resource.RLIMIT_FSIZE, (whole // 2, whole // 2))
        work()

    return [killed(work, signal.SIGKILL, 2), code_of(forked(confined)), code_of(forked(work))]


def main(folder: Path) -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # in every fork from its first moment
    tqdm.set_lock(threading.RLock())  # its own lock is shared by forks: one that is killed with it stops all others
    checkpoint.SHARE = float("inf")  # so that there is one at every step
    with contextlib.redirect_stdout(sys.stderr):
        project = make_project(folder / "data", steps=STEPS)
    assert code_of(forked(lambda: training(project, folder / "whole", None))) == 0
    logs = write_logs(folder / "logs", make_episodes(12, 12))
    assert code_of(forked(lambda: dreaming(logs, folder / "dreamt", folder / "dreamt kept"))) == 0

    def train_in(name: str) -> Callable[[], None]:
        return lambda: training(project, folder / name / "out", folder / name / "kept")

    def dream_in(name: str) -> Callable[[], None]:
        return lambda: dreaming(logs, folder / name / "out", folder / name / "kept")

    codes = {number.name: killed_often(train_in(number.name), number) for number in SIGNALS}
    codes["no room"] = out_of_room(train_in("no room"), folder / "no room/kept")
    codes["writing"] = killed_while_writing(project, folder / "writing")
    codes["teacher"] = killed_often(dream_in("teacher"), signal.SIGKILL)
    codes["teacher, no room"] = out_of_room(dream_in("teacher, no room"), folder / "teacher, no room/kept")
    whole = {name: contents(folder / ("dreamt" if name.startswith("teacher") else "whole")) for name in codes}
    equal = {name: contents(folder / name / "out") == whole[name] for name in codes}
    print(json.dumps({"codes": codes, "equal": equal, "left": [str(p) for p in folder.glob("*/kept")]}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
