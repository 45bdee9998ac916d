"""Work for the engines that tests compare: run as `python tests/engines.py LOGS OUT [BEGUN]`, prints results.

Logs are prepared and normalized in as many pieces as can be, one call for each file, episode or batch.
"""

import pinned  # noqa: F401  (before NumPy, which goes by it)

# isort: split
import os
import signal
import sys
import time
from pathlib import Path

from factories import make_intake, make_normalize
from worldmodel.core.jobs import run_all
from worldmodel.logs import reader
from worldmodel.stages import normalize, prepare
from worldmodel.store import prepared

CALLS = 24
# As if each small file, episode and batch were a large one, where these are 0.
LEAST = (
    (reader, "PARALLEL_BYTES"),
    (prepared, "PARALLEL_BYTES"),
    (prepared, "BATCH_BYTES"),
    (normalize, "BATCH_BYTES"),
    (normalize, "MANY"),
)


def built(logs: Path, out: Path, form: str = "npz") -> None:
    prepare.prepare(logs, None, out / "prepared", make_intake(seed=0, format=form, missing="mask"))
    normalize.normalize(out / "prepared", out / "normalized", out / "normalizer.json", make_normalize())


def square(number: int) -> tuple[int, str | None]:
    """And whether the process that computes it would compute one call at a time."""
    return number**2, os.environ.get("WORLDMODEL_JOBS")


def slow(folder: Path, number: int) -> int:
    """Tells that it has begun, and who started its process."""
    (folder / f"{os.getppid()}-{number}-{time.monotonic_ns()}").touch()
    time.sleep(0.4)
    return number


def dying(folder: Path, number: int, deaths: int) -> int:
    """Its process is killed so many times where the number is 3."""
    if number == 3 and len(list(folder.iterdir())) < deaths:
        (folder / str(time.monotonic_ns())).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def failing(number: int) -> int:
    if number == 2:
        raise ValueError("two is wrong")
    return number


if __name__ == "__main__":
    given = [Path(each) for each in sys.argv[1:]]
    for module, name in LEAST:
        setattr(module, name, 0)
    built(*given[:2])
    for begun in given[2:]:
        print(list(run_all(slow, [(begun, number) for number in range(CALLS)])), flush=True)
