"""Queues between green functions, loops and OS threads."""

from __future__ import annotations

import gc
import queue as _stdlib
import threading
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest

from verdigris import async_def, spawn
from verdigris.green import _wait
from verdigris.green import queue as green_queue

queue: Any = green_queue
stdlib: Any = _stdlib


def green(loop: Any, function: Callable[..., Any], *args: Any) -> Any:
    return loop.run(async_def, function, *args)


KINDS = pytest.mark.parametrize("kind", ["Queue", "LifoQueue", "PriorityQueue", "SimpleQueue"])


def test_has_all_of_the_stdlibs() -> None:
    assert set(stdlib.__all__) <= set(vars(green_queue))
    assert queue.Empty is stdlib.Empty and queue.Full is stdlib.Full
    assert issubclass(queue.Queue, stdlib.Queue) and issubclass(queue.LifoQueue, queue.Queue)
    assert queue.SimpleQueue[int] and queue.Queue[int]


@KINDS
@pytest.mark.parametrize("asks", ["get_nowait", "empty", "qsize"])
def test_who_asks_in_a_busy_loop_lets_others_run(loop: Any, kind: str, asks: str) -> None:
    def waits_busily(q: Any) -> int:
        while True:
            try:
                if asks == "get_nowait" or q.empty() is False or q.qsize():
                    return int(q.get(False))
            except queue.Empty:
                pass

    async def main() -> int:
        q = getattr(queue, kind)()
        task = spawn(waits_busily, q)
        await loop.sleep(0)
        q.put(1)
        return await task

    assert loop.run(main) == 1


def test_who_fills_a_full_queue_in_a_busy_loop_lets_others_run(loop: Any) -> None:
    def fills_busily(q: Any) -> None:
        while True:
            try:
                return q.put_nowait(2)
            except queue.Full:
                while q.full():
                    pass

    async def main() -> int:
        q = queue.Queue(1)
        q.put(1)
        task = spawn(fills_busily, q)
        await loop.sleep(0)
        assert q.get_nowait() == 1
        await task
        return int(q.get_nowait())

    assert loop.run(main) == 2


@KINDS
def test_between_green_functions(loop: Any, kind: str) -> None:
    def main() -> None:
        q = getattr(queue, kind)()
        getters = [spawn(q.get) for _ in range(5)]
        _wait.sleep(0.005)
        for n in range(5):
            q.put(n)
        assert sorted(getter.join(timeout=20) for getter in getters) == [0, 1, 2, 3, 4]
        assert q.empty() and q.qsize() == 0

    green(loop, main)


@pytest.mark.parametrize("timeout", [Decimal("0.01"), Fraction(1, 100), "1"], ids=repr)
def test_numbers_that_the_stdlib_takes_for_a_timeout(loop: Any, timeout: Any) -> None:
    """All that are real from 3.15 on, and only integers and floats before."""

    def kind_of_error(module: Any) -> type[Exception]:
        with pytest.raises((TypeError, queue.Empty)) as info:
            module.SimpleQueue().get(timeout=timeout)
        return info.type

    assert green(loop, kind_of_error, queue) is kind_of_error(stdlib)


@KINDS
@pytest.mark.parametrize("getter", ["function", "thread"])
def test_between_a_function_and_an_os_thread(loop: Any, kind: str, getter: str) -> None:
    def main() -> None:
        q = getattr(queue, kind)()
        got: list[int] = []

        def puts() -> None:
            for n in range(200):
                q.put(n)

        def gets() -> None:
            got.extend(q.get(timeout=20) for _ in range(200))

        here, there = (gets, puts) if getter == "function" else (puts, gets)
        thread = threading.Thread(target=there)
        thread.start()
        here()
        _wait.offload(thread.join)
        assert sorted(got) == list(range(200))

    green(loop, main)


@KINDS
def test_empty(loop: Any, kind: str) -> None:
    def main() -> None:
        q = getattr(queue, kind)()
        for get in (
            q.get_nowait,
            lambda: q.get(False),
            lambda: q.get(timeout=0.01),
            lambda: q.get(timeout=0),
        ):
            with pytest.raises(stdlib.Empty):
                get()
        with pytest.raises(ValueError, match="non-negative"):
            q.get(timeout=-1)
        q.put(1)
        assert q.get(timeout=0) == 1

    green(loop, main)
    main()


def test_full(loop: Any) -> None:
    def main() -> None:
        q = queue.Queue(1)
        q.put(1)
        with pytest.raises(stdlib.Full):
            q.put(2, timeout=0.01)
        putter = spawn(q.put, 2)
        assert [q.get(), q.get(timeout=20)] == [1, 2]
        putter.join()

    green(loop, main)


def test_join(loop: Any) -> None:
    def main() -> None:
        q = queue.Queue()
        done: list[int] = []

        def works() -> None:
            while (n := q.get()) is not None:
                _wait.sleep(0.001)
                done.append(n)
                q.task_done()

        worker = spawn(works)
        for n in range(5):
            q.put(n)
        q.join()
        assert done == [0, 1, 2, 3, 4]
        q.put(None)
        worker.join()

    green(loop, main)


def test_simple_queue_is_in_order(loop: Any) -> None:
    def main() -> None:
        q = queue.SimpleQueue()
        q.put(1)
        q.put_nowait(2)
        q.put(3, False, 0)
        assert q.qsize() == 3 and not q.empty()
        assert [q.get(), q.get_nowait(), q.get(False)] == [1, 2, 3]

    green(loop, main)
    main()


def test_a_cancelled_getter_loses_no_item(loop: Any) -> None:
    async def main() -> None:
        q = queue.SimpleQueue()
        async with loop.tasks() as start:
            getters = [start(async_def, q.get) for _ in range(3)]
            await loop.sleep(0.01)
            q.put("a")
            getters[0].cancel()
            q.put("b")
            await getters[0].wait()
            if not getters[0].outcome.cancelled:
                q.put("c")
        values = [getter.outcome.value for getter in getters]
        assert (
            sorted(value for value in values if value) == ["a", "b", "c"][: 3 - values.count(None)]
        )
        assert values[1] and values[2]

    loop.run(main)


def test_simple_queue_used_in_del(loop: Any) -> None:
    def main() -> None:
        q = queue.SimpleQueue()

        class Finalised:
            def __del__(self) -> None:
                q.put("finalised")

        getter = spawn(lambda: [q.get() for _ in range(20)])
        before = gc.get_threshold()
        # Every allocation may run `__del__`, those of the queue's own code too.
        gc.set_threshold(1, 1, 1)
        try:
            for _ in range(10):
                circle: Any = Finalised()
                circle.itself = circle
                del circle
                q.put("put")
        finally:
            gc.set_threshold(*before)
        gc.collect()
        assert sorted(getter.join(timeout=20)) == ["finalised"] * 10 + ["put"] * 10

    green(loop, main)


@pytest.mark.skipif(not hasattr(stdlib, "ShutDown"), reason="queues shut down from 3.13 on")
def test_shutdown(loop: Any) -> None:
    def main() -> None:
        q = queue.Queue()

        def gets() -> None:
            with pytest.raises(stdlib.ShutDown):
                q.get()

        getter = spawn(gets)
        _wait.sleep(0.005)
        q.shutdown()
        getter.join(timeout=20)
        assert queue.ShutDown is stdlib.ShutDown

    green(loop, main)
