"""Calls that wait at the same time go through a graph together; nobody waits for others to come."""

import asyncio
from collections.abc import Callable, Hashable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from time import thread_time
from typing import Any

import numpy as np

from worldmodel.serve.models import Arrays, Function
from worldmodel.serve.tensors import Array

MOST_FRAMES = 4096  # that are put together
QUICK_S = 0.001  # what takes less does not go to a thread: to wait for its turn would take as long


LATELY = 0.2  # weight of the last call in what one takes

Answers = list[Arrays | Exception]


@dataclass(eq=False)
class Call:
    name: str  # of the model
    function: Function
    arrays: Mapping[str, Array]
    rows: int
    frames: int
    answer: "asyncio.Future[Arrays]" = field(init=False)


class Batcher:
    """Runs calls in a few threads. While all of them are busy, calls gather; a free thread takes those that fit.

    What takes less than handing it to a thread does is run at once, as far as the last such calls tell.
    """

    def __init__(self, threads: int, observe: Callable[[int], object] = lambda rows: None) -> None:
        """observe: is told the rows of each batch."""
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="graph")
        self._free, self._observe, self._scheduled = threads, observe, False
        self._waiting: dict[Hashable, list[Call]] = {}
        self._seconds: dict[tuple[str, int], float] = {}  # of about so many frames, lately

    async def call(self, owner: Hashable, call: Call) -> Arrays:
        """What the function answers for these arrays. Raises what it raises."""
        loop = asyncio.get_running_loop()
        call.answer = loop.create_future()
        # Arrays of one shape, and either all finite or not: what is refused does not wait with what is answered.
        finite = all(np.isfinite(array).all() for array in call.arrays.values())
        shapes = [(name, array.dtype, array.shape[1:]) for name, array in sorted(call.arrays.items())]
        self._waiting.setdefault((owner, call.name, finite, *shapes), []).append(call)
        if not self._scheduled and self._free:
            self._scheduled = True
            loop.call_soon(self._begin, loop)  # what has arrived by now comes along
        return await call.answer

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _begin(self, loop: asyncio.AbstractEventLoop) -> None:
        self._scheduled = False
        while self._free and self._waiting:
            key = next(iter(self._waiting))
            batch, rest, frames = list[Call](), list[Call](), 0
            for call in self._waiting.pop(key):
                if call.answer.done():  # its client has gone
                    continue
                fits = not batch or (not rest and frames + call.frames <= MOST_FRAMES)
                (batch if fits else rest).append(call)
                frames += call.frames * fits
            if rest:
                self._waiting[key] = rest
            if not batch:
                continue
            self._observe(sum(call.rows for call in batch))
            cost = (batch[0].name, frames.bit_length())
            if self._seconds.get(cost, QUICK_S) < QUICK_S:
                self._tell(batch, *_answers(batch), cost)
            else:
                self._free -= 1
                self._pool.submit(self._work, batch, cost, loop)

    def _work(self, batch: list[Call], cost: tuple[str, int], loop: asyncio.AbstractEventLoop) -> None:
        loop.call_soon_threadsafe(self._end, batch, *_answers(batch), cost, loop)

    def _end(self, batch: list[Call], answers: Answers, seconds: float, cost: Any, loop: Any) -> None:
        self._free += 1
        self._begin(loop)
        self._tell(batch, answers, seconds, cost)

    def _tell(self, batch: list[Call], answers: Answers, seconds: float, cost: tuple[str, int]) -> None:
        self._seconds[cost] = LATELY * seconds + (1 - LATELY) * self._seconds.get(cost, seconds)
        for call, answer in zip(batch, answers, strict=True):
            if call.answer.done():
                continue
            if isinstance(answer, Exception):
                call.answer.set_exception(answer)
            else:
                call.answer.set_result(answer)


def _answers(batch: list[Call]) -> tuple[Answers, float]:
    """Of each call, or what it raises, and the seconds of computing that it took."""
    begun = thread_time()
    answers = _together(batch) if len(batch) > 1 else [_alone(batch[0])]
    return answers, thread_time() - begun


def _together(batch: list[Call]) -> Answers:
    """One that is refused is no reason to refuse the others."""
    try:
        whole = {name: np.concatenate([call.arrays[name] for call in batch]) for name in batch[0].arrays}
        answer = batch[0].function(whole)
    except Exception:
        return [_alone(call) for call in batch]
    found, end = list[Arrays | Exception](), 0
    for call in batch:
        begin, end = end, end + call.rows
        found.append({name: array[begin:end] for name, array in answer.items()})
    return found


def _alone(call: Call) -> Arrays | Exception:
    try:
        return call.function(call.arrays)
    except Exception as error:
        return error
