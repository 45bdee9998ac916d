"""Independent calls side by side, here or on a cluster: the same results in the same order, wherever they are made.

Where they run is never a param: WORLDMODEL_JOBS says how many run at once, RAY_ADDRESS that Ray runs them. A process
that dies takes no result with it: its calls are made again, and each result is handed out once.
"""

import os
import signal
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import takewhile
from threading import Event
from traceback import format_exc
from typing import Any, NoReturn, TypeVar

from worldmodel.core.parent import end_with

VARIABLE = "WORLDMODEL_JOBS"  # of the environment: how many work at once changes no result
CLUSTER = "RAY_ADDRESS"  # the same of where they work
ATTEMPTS = 3  # at a call during which processes die

Result = TypeVar("Result")
Calls = Sequence[tuple[Any, ...]]
Outcome = tuple[Any, Exception | None, str]  # a result, or what was raised instead, and where


def workers() -> int:
    """How many calls are made at once: WORLDMODEL_JOBS, else one for each core of the cluster, or of this process.

    Raises ValueError where the variable is no number, or the cluster does not answer.
    """
    text = os.environ.get(VARIABLE, "")
    if text and not (text.isdecimal() and int(text)):
        raise ValueError(f"{VARIABLE}: found {text!r}, expected a whole number of at least 1")
    if text:
        return int(text)
    if on_cluster():
        from worldmodel.core import cluster

        return cluster.cores()
    return cores()


def workers_here() -> int:
    """How many of them share the memory of one machine, taken to be like this one where there is a cluster."""
    return min(workers(), cores()) if on_cluster() else workers()


def cores() -> int:
    """Of this machine, those that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def on_cluster() -> bool:
    """Whether Ray makes the calls: RAY_ADDRESS is set, and WORLDMODEL_JOBS does not ask for one call at a time."""
    return bool(os.environ.get(CLUSTER)) and os.environ.get(VARIABLE) != "1"


def run_all(
    function: Callable[..., Result], calls: Calls, before: Callable[[], object] | None = None
) -> Iterator[Result]:
    """function(*call) for each call, in their order; here, one after the other, where there is one worker.

    Other processes call `before` first. They hear no Ctrl-C: it is this process that ends them. Raises what a call
    raises, and ValueError where processes keep dying.
    """
    count = min(workers(), len(calls))
    if count < 2:
        yield from (function(*call) for call in calls)
    elif on_cluster():
        from worldmodel.core import cluster

        yield from cluster.run_all(function, calls, before, count)
    else:
        yield from _side_by_side(function, calls, before, count)


def give_up(function: Callable[..., Any], why: object) -> NoReturn:
    """Raise ValueError: processes that made this call died again and again."""
    raise ValueError(
        f"{function.__name__}: a process that worked on it ended by itself {ATTEMPTS} times ({why}); often memory ran "
        f"out: set {VARIABLE} to fewer than {workers()}, or free memory, and run it again"
    ) from None


def _side_by_side(
    function: Callable[..., Result], calls: Calls, before: Callable[[], object] | None, count: int
) -> Iterator[Result]:
    """In processes of this machine. After a death, what was not handed out is computed anew."""
    from joblib.externals.loky.process_executor import TerminatedWorkerError  # takes a moment to load

    done = deaths = 0
    while done < len(calls):
        enough = Event()
        results = _started(function, calls[done:], before, count, enough)
        try:
            for result, error, trace in results:
                if error:
                    raise error from RuntimeError(trace)
                yield result
                done, deaths = done + 1, 0
        except TerminatedWorkerError as error:
            deaths += 1
            if deaths == ATTEMPTS:
                give_up(function, str(error).partition("\n")[0])
        except (Exception, GeneratorExit):  # joblib may break down where it is stopped in the middle
            enough.set()
            with suppress(TerminatedWorkerError):
                deque(results, 0)
            raise


def _started(
    function: Callable[..., Result],
    calls: Calls,
    before: Callable[[], object] | None,
    count: int,
    enough: Event,
) -> Iterator[Outcome]:
    """Results, or what was raised instead; of calls that were begun before it was `enough`."""
    from joblib import Parallel, delayed

    parallel = Parallel(
        count,
        backend="loky",
        return_as="generator",
        batch_size=1,
        pre_dispatch=2 * count,
        initializer=_begin,
        initargs=(os.getpid(),),
    )
    wanted = takewhile(lambda _: not enough.is_set(), calls)
    with _deaf_children():
        results: Iterator[Outcome] = parallel(delayed(_tried)(function, call, before) for call in wanted)
    return results


def _tried(function: Callable[..., Result], call: tuple[Any, ...], before: Callable[[], object] | None) -> Outcome:
    try:
        return called(function, call, before), None, ""
    except Exception as error:
        return None, error, format_exc()


def _begin(holder: int) -> None:
    """In a process that works for `holder`: deaf to Ctrl-C also where it was started later than the others."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_with([holder])


def called(function: Callable[..., Result], call: tuple[Any, ...], before: Callable[[], object] | None) -> Result:
    """In another process, which makes one call at a time."""
    os.environ[VARIABLE] = "1"
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
