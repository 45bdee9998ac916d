"""Independent calls side by side on the cores that are there: the same results in the same order, however many work."""

import os
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

from worldmodel.core.parent import end_with

VARIABLE = "WORLDMODEL_JOBS"  # of the environment: how many work at once changes no result

Result = TypeVar("Result")


def workers() -> int:
    """WORLDMODEL_JOBS, else as many as this process has cores. Raises ValueError where the variable is no number."""
    text = os.environ.get(VARIABLE, "")
    if text and not (text.isdecimal() and int(text)):
        raise ValueError(f"{VARIABLE}: found {text!r}, expected a whole number of at least 1")
    if text:
        return int(text)
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def run_all(
    function: Callable[..., Result], calls: Sequence[tuple[Any, ...]], before: Callable[[], object] | None = None
) -> Iterator[Result]:
    """function(*call) for each call, in their order; here, one after the other, where there is one worker.

    Other processes call `before` first. They hear no Ctrl-C: it is this process that ends them.
    """
    count = min(workers(), len(calls))
    if count < 2:
        yield from (function(*call) for call in calls)
        return
    from joblib import Parallel, delayed  # takes a moment to load

    parallel = Parallel(
        count,
        backend="loky",
        return_as="generator",
        batch_size=1,
        pre_dispatch="all",
        initializer=_begin,
        initargs=(os.getpid(),),
    )
    with _deaf_children():
        results = parallel(delayed(_called)(function, call, before) for call in calls)
    yield from results


def _begin(holder: int) -> None:
    """In a process that works for `holder`: deaf to Ctrl-C also where it was started later than the others."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_with([holder])


def _called(function: Callable[..., Result], call: tuple[Any, ...], before: Callable[[], object] | None) -> Result:
    if before:
        before()
    return function(*call)


@contextmanager
def _deaf_children() -> Iterator[None]:
    """Processes that are started meanwhile inherit that SIGINT is blocked."""
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
