"""`Parallel.as_completed`: calls as they end, in async code and in blocking code."""

from __future__ import annotations

import asyncio
import gc
import threading
from typing import Any

import pytest
from conftest import AsyncioLoop, Loop

from verdigris import (
    CallsTimedOut,
    Completed,
    Parallel,
    async_def,
    block,
    ensure_portal,
    queue_background_thread,
    to_async,
)


class Broken(Exception):
    pass


def breaks() -> None:
    raise Broken("text")


async def number(value: int) -> int:
    return value


class Begun:
    """An async function that waits, and notes what becomes of it."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self.begun = self.ended = 0

    async def __call__(self) -> None:
        self.begun += 1
        try:
            await self._loop.sleep(1000)
        finally:
            self.ended += 1


# --- in async code -----------------------------------------------------------


def test_they_come_as_they_end(any_loop: Loop) -> None:
    async def main() -> list[int]:
        first, second = any_loop.event(), threading.Event()

        async def waits() -> int:
            await first.wait()
            return 0

        parallel = Parallel().schedule(waits).schedule(second.wait, 30).schedule(number, 2)
        order = []
        async for one in parallel.as_completed():
            order.append(one.index)
            assert one.exception() is None
            if one.index == 2:
                second.set()
            elif one.index == 1:
                first.set()
        return order

    assert any_loop.run(main) == [2, 1, 0]


def test_what_is_given(any_loop: Loop) -> None:
    async def main() -> dict[int, Completed]:
        parallel = Parallel().schedule(breaks).schedule(pow, 2, 5)
        return {one.index: one async for one in parallel.as_completed()}

    results = any_loop.run(main)
    assert results[1].result() == 32 and str(results[1].call) == "pow(2, 5)"
    error = results[0].exception()
    assert isinstance(error, Broken) and error.__notes__ == ["in call 1 of 2: breaks()"]
    with pytest.raises(Broken):
        results[0].result()
    assert repr(results[0]) == "<Completed 0: breaks() raised Broken('text')>"
    assert repr(results[1]) == "<Completed 1: pow(2, 5) returned 32>"


def test_left_early_with_async_with(any_loop: Loop) -> None:
    begun = Begun(any_loop)

    async def main() -> None:
        parallel = Parallel().schedule(number, 1).schedule(begun).schedule(begun)
        async with parallel.as_completed() as results:
            async for one in results:
                assert one.result() == 1
                break
        assert begun.ended == begun.begun
        assert [one async for one in results] == []
        await results.aclose()

    any_loop.run(main)


def test_dropped_without_closing(any_loop: Loop, caplog: pytest.LogCaptureFixture) -> None:
    if any_loop.name == "curio":
        pytest.skip("curio cancels in coroutines only")
    begun = Begun(any_loop)

    async def main() -> None:
        parallel = Parallel(limit=3).schedule(number, 1).schedule(begun).schedule(begun)
        parallel.schedule(number(1)).schedule(number(2))
        async for _ in parallel.as_completed():
            break
        parallel = Parallel()
        for _ in range(100):
            if begun.begun and begun.ended == begun.begun:
                break
            await any_loop.sleep(0.01)
        assert begun.ended == begun.begun

    any_loop.run(main)
    gc.collect()
    assert caplog.records == []


@pytest.mark.parametrize("from_thread", [False, True])
def test_dropped_in_a_cycle(any_loop: Loop, from_thread: bool) -> None:
    """The collector may run in any thread, or when the loop has ended."""

    async def main() -> None:
        results: Any = Parallel().schedule(number, 1).schedule(any_loop.sleep, 0.1).as_completed()
        await anext(results)
        cycle = [results]
        cycle.append(cycle)
        del results, cycle
        if from_thread:
            await to_async(gc.collect)()
            await any_loop.sleep(0.01)

    gc.disable()
    try:
        any_loop.run(main)
    finally:
        gc.enable()
    gc.collect()


def test_the_time_is_over(any_loop: Loop) -> None:
    begun = Begun(any_loop)

    async def main() -> None:
        results = Parallel(timeout=0.1).schedule(number, 1).schedule(begun).as_completed()
        assert (await anext(results)).result() == 1
        with pytest.raises(CallsTimedOut, match=r"1 of 2 calls .* 0\.1 seconds: Begun\(\)"):
            await anext(results)
        assert begun.ended == 1
        with pytest.raises(StopAsyncIteration):
            await anext(results)

    any_loop.run(main)


def test_cancelled(any_loop: Loop) -> None:
    begun = Begun(any_loop)
    results = Parallel().schedule(begun).schedule(begun).as_completed()

    async def main() -> None:
        async with any_loop.tasks() as start:
            task = start(results.__anext__)
            while begun.begun < 2:
                await any_loop.sleep(0.001)
            task.cancel()
            assert (await task.wait()).cancelled
            assert begun.ended == 2

    any_loop.run(main)


def test_two_tasks_take_at_once(any_loop: Loop) -> None:
    begun = Begun(any_loop)
    results = Parallel().schedule(begun).as_completed()

    async def main() -> None:
        async with any_loop.tasks() as start:
            task = start(results.__anext__)
            while not begun.begun:
                await any_loop.sleep(0.001)
            with pytest.raises(RuntimeError, match="one at a time"):
                await anext(results)
            assert begun.ended == 0
            task.cancel()

    any_loop.run(main)


def test_the_limit_holds_while_they_are_taken(any_loop: Loop) -> None:
    begun = []

    async def main() -> None:
        parallel = Parallel(limit=2)
        for value in range(6):
            parallel.schedule(begun.append, value)
        taken = 0
        async for _ in parallel.as_completed():
            taken += 1
            assert len(begun) <= taken + 2
        assert taken == 6

    any_loop.run(main)


def test_in_async_code_a_plain_for_is_refused(any_loop: Loop) -> None:
    async def main() -> None:
        results = Parallel().schedule(number, 1).schedule(number, 2).as_completed()
        with pytest.raises(RuntimeError, match="iterate with 'async for' here"):
            next(results)
        await anext(results)
        with pytest.raises(RuntimeError, match="await aclose"):
            results.close()
        assert (await anext(results)).result() in (1, 2)
        with Parallel().schedule(number, 1).as_completed():
            pass  # nothing was begun

    any_loop.run(main)


def test_on_two_loops(any_loop: Loop) -> None:
    results = Parallel().schedule(number, 1).schedule(number, 2).as_completed()

    async def main() -> None:
        await anext(results)

    any_loop.run(main)

    def elsewhere() -> None:
        with pytest.raises(RuntimeError, match="begun on another loop"):
            next(results)
        with pytest.raises(RuntimeError, match="begun on another loop"):
            results.close()

    queue_background_thread(elsewhere).result(30)


# --- in blocking code --------------------------------------------------------


def taken(parallel: Parallel) -> list[Any]:
    return sorted(one.result() for one in parallel.as_completed())


def test_in_plain_threads() -> None:
    parallel = Parallel().schedule(asyncio.sleep, 0, 1).schedule(pow, 2, 5)
    assert taken(parallel) == [1, 32]
    assert queue_background_thread(taken, parallel).result(30) == [1, 32]


def test_where_sync_code_can_wait(any_loop: Loop) -> None:
    parallel = Parallel().schedule(any_loop.sleep, 0.001).schedule(pow, 2, 5)
    parallel = Parallel().schedule(number, 1).schedule(pow, 2, 5)

    async def main() -> list[Any]:
        green = await async_def(taken, parallel)
        thread = await to_async(taken)(parallel)
        await ensure_portal()
        return [green, thread, taken(parallel)]

    assert any_loop.run(main) == [[1, 32]] * 3


def test_left_early_in_blocking_code() -> None:
    ended = []

    async def waits() -> None:
        try:
            await asyncio.sleep(1000)
        finally:
            ended.append(1)

    with Parallel().schedule(number, 1).schedule(waits).as_completed() as results:
        for one in results:
            assert one.index == 0
            break
    assert ended == [1] and list(results) == []
    results.close()


def test_dropped_in_blocking_code(caplog: pytest.LogCaptureFixture) -> None:
    ended = []

    async def waits() -> None:
        try:
            await asyncio.sleep(1000)
        finally:
            ended.append(1)

    def body() -> None:
        for _ in Parallel().schedule(number, 1).schedule(waits).as_completed():
            break
        # The loop of this thread runs on with the next call.
        block(asyncio.sleep, 0.01)
        assert ended == [1]
        for _ in Parallel().schedule(number, 1).schedule(waits).as_completed():
            break

    queue_background_thread(body).result(30)
    thread = threading.Thread(target=body)
    ended.clear()
    thread.start()
    thread.join(30)
    assert ended == [1, 1]
    gc.collect()
    assert caplog.records == []


def test_left_open_at_exit(python: Any) -> None:
    done = python(
        """
        import asyncio, threading
        from verdigris import Parallel
        stop = threading.Event()
        results = Parallel().schedule(asyncio.sleep, 0).schedule(asyncio.sleep, 1000).as_completed()
        next(results)
        """,
        options=("-X", "dev", "-W", "error"),
    )
    assert done.stderr == ""


def test_ctrl_c(python: Any) -> None:
    done = python("""
        import asyncio, os, signal
        from verdigris import Parallel
        async def waits():
            asyncio.get_running_loop().call_later(0.01, os.kill, os.getpid(), signal.SIGINT)
            try:
                await asyncio.sleep(1000)
            finally:
                print("ended")
        results = Parallel().schedule(waits).as_completed()
        for call in (lambda: list(results), Parallel().schedule(waits).block):
            try:
                call()
            except KeyboardInterrupt:
                print("interrupted")
        print(list(results))
        """)
    assert done.stdout.split("\n") == ["ended", "interrupted"] * 2 + ["[]", ""]


def test_a_task_that_is_cancelled_before_its_first_step(aio: AsyncioLoop) -> None:
    """It holds a coroutine that was scheduled as it is, which must not be reported."""

    async def main() -> None:
        results = Parallel(limit=1).schedule(pow, 2, 5).schedule(number(1)).as_completed()
        await anext(results)
        del results
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    aio.run(main)
    gc.collect()
