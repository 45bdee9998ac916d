import asyncio
import threading
import time

import numpy as np
import pytest

from worldmodel.serve.batching import Batcher, Call


class Graph:
    """Doubles its rows; remembers how many it was given, and in which thread; waits while it is held."""

    def __init__(self):
        self.rows, self.threads, self.free = [], [], threading.Event()
        self.free.set()

    def __call__(self, arrays):
        self.rows.append(len(arrays["x"]))
        self.threads.append(threading.current_thread())
        self.free.wait()
        if np.isnan(arrays["x"]).any():
            raise ValueError("not finite")
        return {"y": arrays["x"] * 2}


def calls(graph, *values, name="model"):
    return [Call(name, graph, {"x": np.full((rows, 2), value, np.float32)}, rows, rows) for rows, value in values]


async def answers(batcher, made, owner=0):
    found = await asyncio.gather(*(batcher.call(owner, call) for call in made), return_exceptions=True)
    return [each["y"].tolist() if isinstance(each, dict) else str(each) for each in found]


def doubled(*values):
    return [[[2 * value] * 2] * rows for rows, value in values]


@pytest.fixture
def batcher():
    made = Batcher(1)
    yield made
    made.close()


def test_what_comes_together_goes_together_and_each_gets_its_own_rows(batcher):
    graph, given = Graph(), [(1, 1.0), (3, 2.0), (2, 3.0)]
    assert asyncio.run(answers(batcher, calls(graph, *given))) == doubled(*given)
    assert graph.rows == [6]


def test_what_comes_while_a_graph_is_busy_waits_and_then_goes_together(batcher):
    graph, given = Graph(), [(1, float(number)) for number in range(9)]

    async def told():
        graph.free.clear()
        first = asyncio.create_task(batcher.call(0, calls(graph, (1, 7.0))[0]))
        await asyncio.to_thread(_until, lambda: graph.rows)
        rest = asyncio.create_task(answers(batcher, calls(graph, *given)))
        await asyncio.sleep(0.01)
        graph.free.set()
        await first
        return await rest

    assert asyncio.run(told()) == doubled(*given)
    assert graph.rows == [1, 9]


def test_one_that_is_refused_spoils_no_other_and_other_bundles_and_shapes_go_apart(batcher):
    graph = Graph()
    made = calls(graph, (1, 1.0), (1, np.nan), (1, 2.0))
    assert asyncio.run(answers(batcher, made)) == [[[2, 2]], "not finite", [[4, 4]]]
    assert graph.rows == [2, 1]

    async def of_two():
        return await asyncio.gather(
            answers(batcher, calls(graph, (1, 1.0))), answers(batcher, calls(graph, (1, 2.0)), 1)
        )

    assert asyncio.run(of_two()) == [[[[2, 2]]], [[[4, 4]]]]
    assert graph.rows[2:] == [1, 1]
    wide = Call("model", graph, {"x": np.ones((1, 3), np.float32)}, 1, 1)
    assert asyncio.run(answers(batcher, [wide, *calls(graph, (1, 1.0))])) == [[[2, 2, 2]], [[2, 2]]]


def test_quick_calls_need_no_thread_and_slow_ones_get_one_again(batcher):
    graph, here = Graph(), threading.current_thread()
    for _ in range(3):
        asyncio.run(answers(batcher, calls(graph, (1, 1.0))))
    assert [each is here for each in graph.threads] == [False, True, True]
    slow = Graph()

    def busy(arrays):
        until = time.thread_time() + 0.005
        while time.thread_time() < until:
            pass
        return slow(arrays)

    for _ in range(2):
        asyncio.run(answers(batcher, [Call("model", busy, call.arrays, 1, 1) for call in calls(slow, (1, 1.0))]))
    assert [each is here for each in slow.threads] == [True, False]


def test_who_has_left_is_not_computed_for(batcher):
    graph = Graph()

    async def left():
        graph.free.clear()
        first = asyncio.create_task(batcher.call(0, calls(graph, (1, 7.0))[0]))
        await asyncio.to_thread(_until, lambda: graph.rows)
        gone = asyncio.create_task(batcher.call(0, calls(graph, (5, 1.0))[0]))
        stays = asyncio.create_task(batcher.call(0, calls(graph, (2, 1.0))[0]))
        await asyncio.sleep(0.01)
        gone.cancel()
        graph.free.set()
        await asyncio.gather(first, stays)

    asyncio.run(left())
    assert graph.rows == [1, 2]


def _until(condition):
    while not condition():
        time.sleep(0.001)
