"""States of a loop on disk, so that a killed one goes on: whole, checksummed, the last two, held by one process.

Copies in a bucket, if there is one, let another machine go on. Work of several loops side by side has a folder for each
of them. What is of other work is never gone on from, nor deleted.
"""

import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import NamedTuple

from worldmodel.checkpoints.clearing import clear_abandoned
from worldmodel.checkpoints.content import NAME, State, content_of, is_torn, is_whole, name_of, state_of, step_of
from worldmodel.checkpoints.remote import KEPT, RemoteCheckpoints, remote_of
from worldmodel.core import locking
from worldmodel.core.atomic import replacing
from worldmodel.core.stage_run import StageRun

SHARE = 0.01  # of a loop's time that may go into checkpoints
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
STOP = "stop"  # a file that asks all parts to stop
ASIDE = ".set-aside"  # end of the name of a folder for what is no checkpoint of this work


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
    work: str = ""  # what they belong to: a stage's fingerprint, of a part with its name
    aside: Path | None = None  # where to put what is of other work; beside the folder where none is named
    asked_to_stop: int = 0  # the signal that did
    step: int = 0  # of the last one
    at: float = 0.0  # when that was written, by time.monotonic
    cost: float = 0.0  # seconds that it took
    holder: int = 0  # of a part: the process that holds the whole

    def latest(self) -> State | None:
        """The newest of this work, here or in the bucket; of two with one name, the one here.

        What is torn is named and removed, what is of other work set aside. Raises ValueError where the bucket does not
        answer.
        """
        here = self._own()
        there = self.remote.names() if self.remote else []
        for name in sorted({*here, *there}, reverse=True):
            place = str(self.folder / name)
            if (found := here.get(name)) is None and self.remote:
                place, found = f"{self.remote.shown}/{name}", self._fetched(name, self.remote)
            if found:
                self.step = step_of(name)
                print(f"going on from step {self.step}: {place}", file=sys.stderr)
                return found
        return None

    def _own(self) -> dict[str, State]:
        """Those of this work that lie here, by name."""
        found = {}
        for path in sorted(self.folder.glob("*.safetensors"), reverse=True):
            try:
                content = path.read_bytes() if path.is_file() else b""
                if path.is_file() and self._is_torn(path.name, content):
                    print(f"{path}: torn, removed", file=sys.stderr)
                    path.unlink()
                else:
                    found[path.name] = state_of(content, self.work)
            except ValueError as error:
                print(f"{path}: {error}, set aside as {self._set_aside(path)}", file=sys.stderr)
        return found

    def _is_torn(self, name: str, content: bytes) -> bool:
        """Raises ValueError where it is none of this work's."""
        if is_whole(name, content):
            return False
        if not NAME.fullmatch(name) or not is_torn(content, self.work):
            raise ValueError("no checkpoint of this work")
        return True

    def _set_aside(self, path: Path) -> Path:
        """Out of the way of what this work writes and removes."""
        folder = self.aside or self.folder.with_name(self.folder.name + ASIDE)
        folder.mkdir(parents=True, exist_ok=True)
        place = folder / path.name
        while os.path.lexists(place):
            place = place.with_name(f"{place.name}~")
        return path.rename(place)

    def _fetched(self, name: str, remote: RemoteCheckpoints) -> State | None:
        content, place = remote.read(name), f"{remote.shown}/{name}"
        try:
            if not self._is_torn(name, content):
                return state_of(content, self.work)
            print(f"{place}: torn, removed", file=sys.stderr)
            remote.discard(name)
        except ValueError as error:
            print(f"{place}: {error}, left alone", file=sys.stderr)
            remote.leave(name)
        return None

    def part(self, name: str) -> "Checkpoints":
        """Those of one loop of several; `in_part` opens them, here or in a process of their own."""
        work, aside = f"{self.work}/{name}", self.aside or self.folder.with_name(self.folder.name + ASIDE)
        remote = RemoteCheckpoints(f"{self.remote.address}/{name}", work) if self.remote else None
        return Checkpoints(self.folder / name, self.every, remote, work, aside / name, holder=os.getpid())

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
        content = content_of(state, self.work)
        name = name_of(step, content)
        self._write(self.folder / name, content)
        for path in sorted(each for each in self.folder.glob("*.safetensors") if NAME.fullmatch(each.name))[:-KEPT]:
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
            why = os.strerror(error.errno or 0)
            raise ValueError(
                f"{self.folder}: no checkpoint of {len(content) / 1e6:.1f} MB could be written ({why}); "
                f"make room and run again, it goes on from step {self.step}"
            ) from None

    def stop(self, number: int, _: FrameType | None) -> None:
        """A signal's handler: stop at the next step; a second signal acts at once."""
        self.asked_to_stop = number
        (self.folder / STOP).touch()
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)


@contextmanager
def held(
    folder: Path, every: Interval = EVERY, remote: RemoteCheckpoints | None = None, work: str = ""
) -> Iterator[Checkpoints]:
    """The checkpoints in `folder`, for this process alone; they are removed once the block has done its work.

    They stay where the process that asked for the work has died meanwhile: nobody takes what the block has made, and
    the next one comes for it. Raises ValueError where another process holds the folder.
    """
    parent = os.getppid()
    with locking.holding(folder, "compute the same"):
        for left in (*folder.rglob(".*.tmp"), *folder.glob(STOP)):  # of one that was killed
            left.unlink()
        try:
            yield Checkpoints(folder, every, remote, work, at=time.monotonic())
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
    remote = remote_of(task.stage, task.fingerprint)
    with held(task.checkpoints, remote=remote, work=task.fingerprint) as checkpoints:
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
