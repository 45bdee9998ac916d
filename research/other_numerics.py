"""The pipeline's loop in another process, under the other numerics: a process chooses once, before its first tensor."""

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from subprocess import PIPE, Popen
from typing import IO, Literal

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "src"))

import worldmodel.numerics.pinning  # noqa: E402, F401  (before NumPy, which goes by it)

# isort: split
import torch  # noqa: E402

from research.contestants import Clock, pipeline, timed
from worldmodel.arrays.packing import read_packed
from worldmodel.core import errors as stage
from worldmodel.core import params
from worldmodel.numerics import setup

OTHER: dict[str, Literal["portable", "fast"]] = {"portable": "fast", "fast": "portable"}


class Other:
    """That process, seen from this one."""

    def __init__(self, asked: IO[str], answers: IO[str]) -> None:
        self._asked, self._answers = asked, answers
        self.processor = self._answer()

    def seconds(self) -> float:
        """Let it train once; what its own clock says."""
        self._asked.write("again\n")
        self._asked.flush()
        return float(self._answer())

    def _answer(self) -> str:
        line = self._answers.readline()
        if not line:
            raise ValueError("the process under the other numerics has ended; what it said stands above")
        return line.strip()


@contextmanager
def other(normalized: Path, settings: params.Train, steps: int, clock: Clock) -> Iterator[Other]:
    """Trains for so many steps each time that it is asked to, and waits in between."""
    swapped = asdict(replace(settings, numerics=OTHER[settings.numerics]))
    environment = {name: value for name, value in os.environ.items() if name not in setup.PORTABLE}
    command = [sys.executable, __file__, str(normalized), json.dumps(swapped), str(steps), clock]
    with Popen(command, env=environment, stdin=PIPE, stdout=PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        yield Other(process.stdin, process.stdout)


def main() -> None:
    normalized, given, steps, clock = sys.argv[1:]
    settings = params.Train(**json.loads(given))
    device = setup.configure(settings)
    seconds = timed(pipeline(read_packed(Path(normalized)), settings, int(steps), device), device, clock)
    print(torch.backends.cpu.get_cpu_capability(), flush=True)
    for _ in sys.stdin:
        print(seconds(), flush=True)


if __name__ == "__main__":
    stage.run(main)
