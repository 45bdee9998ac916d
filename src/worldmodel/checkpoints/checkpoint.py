"""States of a loop on disk, so that a killed one goes on: whole, checksummed, the last two, held by one process.

Copies in a bucket, if there is one, let another machine go on. A file's name holds its step and the hash of its
content: 000000001500-8f434346648f6b96.safetensors. Work of several loops side by side has a folder for each of them.
"""

import hashlib
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

import safetensors.torch
from torch import Tensor

from worldmodel.checkpoints.clearing import clear_abandoned
from worldmodel.checkpoints.remote import KEPT, RemoteCheckpoints, remote_of
from worldmodel.core import locking
from worldmodel.core.atomic import replacing
from worldmodel.core.stage_run import StageRun

SHARE = 0.01  # of a loop's time that may go into checkpoints
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
STOP = "stop"  # a file that asks all parts to stop
NUMBERS = "numbers"  # key of the JSON text in a file's header


class State(NamedTuple):
    """All that a loop needs to go on as if it had never stopped."""

    numbers: dict[str, Any]  # whatever JSON can hold
    tensors: dict[str, Tensor]


class Interval(NamedTuple):
    """A checkpoint is due after so many steps, or so many seconds, and never so often that it costs more than SHARE."""

    steps: int = 500
    seconds: float = 10.0


EVERY = Interval()


class Stopped(Exception):
    """A part has saved where it is, since its holder was asked to stop."""


@dataclass
class Checkpoints:
    """Those of one loop. Use `held` or `checkpoints_of`."""

    folder: Path
    every: Interval
    remote: RemoteCheckpoints | None = None
    asked_to_stop: int = 0  # the signal that did
    step: int = 0  # of the last one
    at: float = 0.0  # when that was written, by time.monotonic
    cost: float = 0.0  # seconds that it took
    holder: int = 0  # of a part: the process that holds the whole

    def latest(self) -> State | None:
        """The newest whole one, here or in the bucket; what is torn is named and removed.

        Raises ValueError where the bucket does not answer.
        """
        for name, place, content, remove in self._newest_first():
            step = int(name.split("-")[0])
            if name == _name(step, content):
                self.step = step
                print(f"going on from step {step}: {place}", file=sys.stderr)
                return _state(content)
            print(f"{place}: torn, left aside", file=sys.stderr)
            remove()
        return None

    def _newest_first(self) -> Iterator[tuple[str, str, bytes, Callable[[], object]]]:
        """Name, where it lies, content, what removes it; of two with one name, the one here first."""
        here = {path.name: path for path in self.folder.glob("*.safetensors")}
        there = self.remote.names() if self.remote else []
        for name in sorted({*here, *there}, reverse=True):
            if name in here:
                yield name, str(here[name]), here[name].read_bytes(), here[name].unlink
            if self.remote and name in there:
                yield name, f"{self.remote.shown}/{name}", self.remote.read(name), partial(self.remote.discard, name)

    def part(self, name: str) -> "Checkpoints":
        """Those of one loop of several; `in_part` opens them, here or in a process of their own."""
        remote = RemoteCheckpoints(f"{self.remote.address}/{name}") if self.remote else None
        return Checkpoints(self.folder / name, self.every, remote, holder=os.getpid())

    def due(self, step: int) -> bool:
        """Whether to save now: at its time, or because a signal asks to stop."""
        passed = time.monotonic() - self.at
        often = step - self.step >= self.every.steps or passed >= self.every.seconds
        return self.stopping or (often and passed >= self.cost / SHARE)

    @property
    def stopping(self) -> bool:
        """Whether a signal asks to stop. A part whose holder has died ends here: nobody takes what it makes."""
        if not self.holder:
            return bool(self.asked_to_stop)
        if self.holder not in (os.getpid(), os.getppid()):
            os._exit(1)
        return (self.folder.parent / STOP).exists()

    def save(self, step: int, state: State) -> None:
        """Write one. Where a signal asked to stop, end the process (exit code 128 + signal); in a part, raise Stopped.

        Raises ValueError where the disk takes no more: the earlier ones are still there.
        """
        begin = time.monotonic()
        content = safetensors.torch.save(state.tensors, {NUMBERS: json.dumps(state.numbers)})
        name = _name(step, content)
        self._write(self.folder / name, content)
        for path in sorted(self.folder.glob("*.safetensors"))[:-KEPT]:
            path.unlink()
        self.step, self.at = step, time.monotonic()
        self.cost = self.at - begin
        stopping = self.stopping
        if self.remote:
            (self.remote.send_now if stopping else self.remote.send)(name, content)
        if stopping and self.holder:
            raise Stopped
        self.exit_if_asked()

    def exit_if_asked(self) -> None:
        """SystemExit where a signal asked to stop."""
        if self.asked_to_stop:
            name = signal.Signals(self.asked_to_stop).name
            print(f"{name}: stopped after step {self.step}; run again to go on", file=sys.stderr)
            raise SystemExit(128 + self.asked_to_stop)

    def _write(self, path: Path, content: bytes) -> None:
        try:
            with replacing(path) as temporary, temporary.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise ValueError(
                f"{self.folder}: no checkpoint of {len(content) / 1e6:.1f} MB could be written ({error.strerror}); "
                f"make room and run again, it goes on from step {self.step}"
            ) from None

    def stop(self, number: int, _: FrameType | None) -> None:
        """A signal's handler: stop at the next step; a second signal acts at once."""
        self.asked_to_stop = number
        (self.folder / STOP).touch()
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)


@contextmanager
def held(folder: Path, every: Interval = EVERY, remote: RemoteCheckpoints | None = None) -> Iterator[Checkpoints]:
    """The checkpoints in `folder`, for this process alone; they are removed once the block has done its work.

    They stay where the process that asked for the work has died meanwhile: nobody takes what the block has made, and
    the next one comes for it. Raises ValueError where another process holds the folder.
    """
    parent = os.getppid()
    with locking.holding(folder, "compute the same"):
        for left in (*folder.rglob(".*.tmp"), *folder.glob(STOP)):  # of one that was killed
            left.unlink()
        try:
            yield Checkpoints(folder, every, remote, at=time.monotonic())
        finally:
            if remote:
                remote.finish()
        if os.getppid() == parent:
            if remote:
                remote.clear()
            locking.remove(folder)


@contextmanager
def in_part(part: Checkpoints | None) -> Iterator[Checkpoints | None]:
    """A part's checkpoints for this process alone: one that was left behind by a killed holder is waited for."""
    if part is None:
        yield None
        return
    part.folder.mkdir(parents=True, exist_ok=True)
    with locking.waiting(part.folder):
        part.at = time.monotonic()
        try:
            yield part
        finally:
            if part.remote:
                part.remote.finish()


@contextmanager
def checkpoints_of(task: StageRun) -> Iterator[Checkpoints]:
    """Those of a stage, with their copies in a bucket if there are any; what nobody came back for is cleared away."""
    clear_abandoned(task.checkpoints.parent)
    with held(task.checkpoints, remote=remote_of(task.stage, task.fingerprint)) as checkpoints:
        yield checkpoints


@contextmanager
def graceful_shutdown(checkpoints: Checkpoints | None) -> Iterator[None]:
    """Around a loop that saves where it is due: SIGNALS let it save first. Without checkpoints, nothing.

    Under nohup a closed terminal (SIGHUP) stays without effect.
    """
    if checkpoints is None:
        yield
        return
    heard = [number for number in SIGNALS if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN]
    before = {number: signal.signal(number, checkpoints.stop) for number in heard}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if checkpoints.asked_to_stop:  # too late for the loop
        signal.raise_signal(checkpoints.asked_to_stop)


def _name(step: int, content: bytes) -> str:
    return f"{step:012d}-{hashlib.sha256(content).hexdigest()[:16]}.safetensors"


def _state(content: bytes) -> State:
    """Tensors of their own: those that safetensors returns lie in `content`, at any address."""
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    tensors = safetensors.torch.load(content)
    return State(
        json.loads(header["__metadata__"][NUMBERS]), {name: tensor.clone() for name, tensor in tensors.items()}
    )
