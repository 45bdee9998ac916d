"""Runs through DVC's queue until all are finished or have failed for good; what is there already is not run again."""

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from worldmodel.sweeps import experiments
from worldmodel.sweeps.run import Run

ATTEMPTS = 3  # of a run that ends before a stage of it fails
STARTING = 15.0  # seconds that a worker may take until DVC sees it
SAID_EVERY = 60.0  # seconds


@dataclass
class Follower:
    runs: Sequence[Run]
    jobs: int
    poll: float  # seconds
    attempts: Counter[str] = field(default_factory=Counter)
    failed: dict[str, str] = field(default_factory=dict)  # name -> why
    started: float = 0.0  # when workers were
    abandoned: int = 0  # polls in a row that saw running tasks and no worker

    def follow(self) -> dict[str, str]:
        """Name -> commit of all that finished; the others are in `failed`."""
        done = self._begin()
        progress = Progress(len(self.runs), len(done))
        while len(done) + len(self.failed) < len(self.runs):
            status = experiments.status()
            done = experiments.finished(self.runs)  # after the status: what it calls finished is there
            flying = self._in_flight(status, done)
            for run in self._next(flying, done):
                self._put(run)
                flying.append(run.name)
            self._work(status, flying)
            progress.say(len(done), len(self.failed), [name for name in flying if status.tasks.get(name) == "Running"])
            if len(done) + len(self.failed) < len(self.runs):
                time.sleep(self.poll)
        return done

    def _begin(self) -> dict[str, str]:
        """What an earlier call left as failed gets its chances anew."""
        tasks, done = experiments.status().tasks, experiments.finished(self.runs)
        for run in self.runs:
            if run.name not in done and tasks.get(run.name) in ("Failed", "Success"):
                experiments.remove(run.name)
        return done

    def _in_flight(self, status: experiments.Status, done: dict[str, str]) -> list[str]:
        """Names that are queued or running; what failed is put aside, or cleared for another attempt."""
        flying = []
        for name in (run.name for run in self.runs if run.name not in done and run.name not in self.failed):
            state = status.tasks.get(name)
            if state in ("Queued", "Running"):
                flying.append(name)
            elif state is not None:
                self._judge(name)
        return flying

    def _judge(self, name: str) -> None:
        text = experiments.log(name)
        if "failed to reproduce" in text or self.attempts[name] >= ATTEMPTS:
            self.failed[name] = _reason(text)
            print(f"{name} failed: {self.failed[name]}", flush=True)
        else:
            print(f"{name} ended before a stage of it failed: once more", flush=True)
            experiments.remove(name)

    def _next(self, flying: Sequence[str], done: dict[str, str]) -> list[Run]:
        """Runs to queue: of those that share dreams, one goes first; as many as the workers need to be busy."""
        over = {*done, *self.failed}
        ready = {run.dreams for run in self.runs if run.name in over}
        taken = {run.dreams for run in self.runs if run.name in flying}
        chosen: list[Run] = []
        for run in self.runs:
            if len(flying) + len(chosen) >= 2 * self.jobs:
                break
            if run.name not in over and run.name not in flying and (run.dreams in ready or run.dreams not in taken):
                chosen.append(run)
                taken.add(run.dreams)
        return chosen

    def _put(self, run: Run) -> None:
        self.attempts[run.name] += 1
        try:
            experiments.put(run)
        except ValueError as error:
            if self.attempts[run.name] >= ATTEMPTS:
                self.failed[run.name] = str(error)
            print(f"{run.name} could not be queued: {error}", flush=True)

    def _work(self, status: experiments.Status, flying: Sequence[str]) -> None:
        """Start the workers that are missing; give up tasks whose workers have died."""
        running = [name for name in flying if status.tasks.get(name) == "Running"]
        waiting = len(flying) > len(running)
        lately = time.monotonic() - self.started < STARTING
        if waiting and status.workers < self.jobs and not (self.started and lately):
            experiments.start(self.jobs)
            self.started = time.monotonic()
        self.abandoned = self.abandoned + 1 if running and not status.workers and not lately else 0
        if self.abandoned > 1:
            for name in running:
                print(f"{name}: no worker is left that could run it: once more", flush=True)
                experiments.kill(name)
            self.abandoned = 0


def _reason(log: str) -> str:
    lines = [line.strip() for line in log.splitlines() if "error" in line.lower()]
    return lines[0] if lines else "no log"


class Progress:
    """A line whenever a run finishes, and every minute."""

    def __init__(self, total: int, done: int) -> None:
        self.total, self.done, self.before = total, -1, done
        self.begun = self.said = time.monotonic()

    def say(self, done: int, failed: int, running: Sequence[str]) -> None:
        now = time.monotonic()
        if done + failed == self.done and now - self.said < SAID_EVERY:
            return
        self.done, self.said = done + failed, now
        new, left = done - self.before, self.total - done - failed
        rest = f"about {(now - self.begun) / new * left / 60:.0f} min left" if new > 0 else "time left not known yet"
        told = f"{failed} failed, " if failed else ""
        print(
            f"{done} of {self.total} runs finished, {told}{rest}; running: {', '.join(running) or 'none'}", flush=True
        )
