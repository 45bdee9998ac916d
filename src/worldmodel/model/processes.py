"""The processes of a training: the first one leads, evaluates and writes; the others take the same steps, and leave
nothing behind.

torchrun starts them, on one machine or several, or the first one starts the others beside it. How many there are, and
where, changes no result.
"""

import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from threading import Event, Thread
from typing import Any, NamedTuple

import torch
from joblib.externals.loky.backend import get_context
from torch import distributed
from torch.distributed import TCPStore  # type: ignore[attr-defined]

from worldmodel.checkpoints.checkpoint import SIGNALS
from worldmodel.core.errors import outer_edge
from worldmodel.core.params import Train
from worldmodel.core.parent import end_with, end_with_parent
from worldmodel.model.objective import shard_count
from worldmodel.model.sharding import AGAIN, Lost, Team

VARIABLE = "WORLDMODEL_TRAIN_PROCS"  # of the environment
HERE = "127.0.0.1"
PATIENCE = timedelta(hours=1)  # with each other: the first one reads all data, to hash them, before it joins
GRACE = 5.0  # seconds in which the first one sees by itself that another one has ended


class Place(NamedTuple):
    """Which process one is."""

    rank: int
    size: int  # processes that have work
    store: Any = None  # where they meet; None: where the environment says


def rank() -> int:
    """Of a process of torchrun's; 0, which leads, of any other."""
    return _number("RANK", 0, least=0) if _by_torchrun() else 0


@contextmanager
def leading(settings: Train, follow: Callable[..., None], *given: Any) -> Iterator[Place]:
    """The place of this process, the first one. Others call follow(*given, place), each with its own.

    Raises ValueError where one of them has ended.
    """
    if rank():
        raise ValueError(f"this is process {rank()} of torchrun's, and only src/train.py trains with several of them")
    size, over = _size(settings), Event()
    if size == 1 or _by_torchrun():
        yield Place(0, size)
        leave()
        return
    store = TCPStore(HERE, 0, size, is_master=True, wait_for_workers=False)
    others = [
        get_context("loky").Process(target=_work, args=(os.getpid(), number, size, store.port, follow, given))
        for number in range(1, size)
    ]
    try:
        with _deaf_children():
            for each in others:
                each.start()
        Thread(target=_watch, args=(others, over), daemon=True).start()
        yield Place(0, size, store)
    except Lost as error:
        raise ValueError(next(_endings(others, GRACE), str(error))) from None
    finally:
        over.set()
        for each in others:
            if each.pid and each.is_alive():
                os.kill(each.pid, signal.SIGKILL)
                each.join()
        leave()  # not before: it would wait for one that does not answer


def follow_torchrun(settings: Train, follow: Callable[..., None], *given: Any) -> None:
    """What the other processes of torchrun's do: follow(*given, place)."""
    end_with_parent()
    _be_deaf()
    place = Place(rank(), _size(settings, quiet=True))
    if place.rank < place.size:
        follow(*given, place)


def joined(place: Place, settings: Train, device: torch.device, work: str) -> Team:
    """All processes together that do this work; one alone where there is no other.

    Raises Lost, or ValueError where this one has no GPU.
    """
    team = Team(shard_count(settings), place.rank, place.size, work)
    if team.size == 1:
        return team
    where = {} if place.store is None else {"store": place.store}
    if place.store is not None and sys.platform == "linux":
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    if device.type == "cuda":
        torch.cuda.set_device(_own_gpu(place.rank))
    try:
        backend = "nccl" if device.type == "cuda" else "gloo"
        distributed.init_process_group(backend, rank=team.rank, world_size=team.size, timeout=PATIENCE, **where)
    except RuntimeError as error:
        raise Lost(str(error)) from None
    return team


def leave() -> None:
    """Whoever waits for this process hears that it has gone."""
    if distributed.is_initialized():
        distributed.destroy_process_group()


def _size(settings: Train, quiet: bool = False) -> int:
    """How many processes have work. Raises ValueError where the environment says no number."""
    size, shards = _number("WORLD_SIZE" if _by_torchrun() else VARIABLE, 1), shard_count(settings)
    if size > shards and not quiet:
        idle = f"there is nothing to do for {size - shards} of {size} processes"
        print(f"train: a batch of {settings.batch_size} windows is work for {shards}: {idle}", file=sys.stderr)
    return min(size, shards)


def _by_torchrun() -> bool:
    return {"RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"} <= os.environ.keys()


def _number(variable: str, otherwise: int, least: int = 1) -> int:
    text = os.environ.get(variable, "")
    if text and not (text.isdecimal() and int(text) >= least):
        raise ValueError(f"{variable}: found {text!r}, expected a whole number of at least {least}")
    return int(text or otherwise)


def _own_gpu(rank: int) -> int:
    number, there = _number("LOCAL_RANK", rank, least=0), torch.cuda.device_count()
    if number >= there:
        raise ValueError(f"process {rank} of this training has no GPU of its own: {there} are here; start fewer")
    return number


def _work(leader: int, rank: int, size: int, port: int, follow: Callable[..., None], given: Sequence[Any]) -> None:
    """In a process that `leader` has started: where that ends, nobody needs to hear so."""
    _be_deaf()
    end_with([leader])
    with outer_edge(), suppress(Lost):
        follow(*given, Place(rank, size, TCPStore(HERE, port, size, is_master=False)))


def _be_deaf() -> None:
    """What asks all to stop is for the first one, which saves; the others end with it."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)


@contextmanager
def _deaf_children() -> Iterator[None]:
    """Processes that are started meanwhile begin deaf."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _endings(others: Sequence[BaseProcess], patience: float | None) -> Iterator[str]:
    """How the first of these ended that did so before its work was done."""
    ready = wait([each.sentinel for each in others], patience)
    for number, each in enumerate(others, start=1):
        if each.sentinel in ready:
            each.join()
            if code := each.exitcode:
                how = f"exit code {code}" if code > 0 else signal.Signals(-code).name
                yield f"process {number} of the {len(others) + 1} of this training has ended ({how}); {AGAIN}"


def _watch(others: Sequence[BaseProcess], over: Event) -> None:
    """End this process where it waits, deaf to all else, for one that has ended."""
    told = next(_endings(others, None), "")
    if told and not over.wait(GRACE):
        print(f"error: {told}", file=sys.stderr, flush=True)
        os._exit(1)
