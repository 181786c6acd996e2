"""`Serial`: calls made one after another."""

from __future__ import annotations

import asyncio
import concurrent.futures
import gc
import threading
from typing import Any

import pytest
from conftest import AsyncioLoop, Loop

from verdigris import CallCancelled, CallsTimedOut, Serial, async_def, block, to_async


class Broken(Exception):
    pass


def breaks() -> None:
    raise Broken


async def number(value: int) -> int:
    return value


def both(serial: Serial, loop: Loop) -> list[Any]:
    """What `run` and `block` give, which is the same."""
    result = loop.run(serial.run)
    assert serial.block() == result
    return result


def test_one_after_another(any_loop: Loop) -> None:
    order: list[Any] = []

    async def on_loop(name: str) -> str:
        order.append(name)
        await asyncio_or(any_loop)
        order.append(name)
        return name

    def on_thread(name: str) -> str:
        order.append(name)
        order.append(name)
        return name

    serial = Serial()
    for step in "abcdef":
        serial.schedule(on_loop if step in "ace" else on_thread, step)
    assert len(serial) == 6
    assert any_loop.run(serial.run) == list("abcdef")
    assert any_loop.run(serial.run) == list("abcdef")  # it runs again
    assert order == list("aabbccddeeff") * 2


async def asyncio_or(loop: Loop) -> None:
    await loop.sleep(0)


def test_chained_and_empty(any_loop: Loop) -> None:
    assert both(Serial(), any_loop) == []
    serial = Serial().schedule(number, 1).schedule(pow, 2, 5).schedule(lambda: number(3))
    assert both(serial, any_loop) == [1, 32, 3]


@pytest.mark.parametrize("how", ["run", "block", "timeout"])
def test_no_further_call_after_one_that_failed(any_loop: Loop, how: str) -> None:
    later: list[int] = []

    async def later_async() -> None:
        later.append(1)

    for further in (later_async, lambda: later.append(1)):
        serial = Serial(timeout=30 if how == "timeout" else None)
        serial.schedule(pow, 2, 5).schedule(breaks).schedule(further).schedule(further)
        with pytest.raises(Broken) as caught:
            serial.block() if how == "block" else any_loop.run(serial.run)
        assert caught.value.__notes__ == ["in call 2 of 4: breaks()"]
    # Whatever was begun on a thread would have been before this.
    any_loop.run(to_async(threading.Event().wait), 0.01)
    assert later == []


def test_exceptions_among_the_results(any_loop: Loop) -> None:
    serial = Serial(return_exceptions=True).schedule(breaks).schedule(pow, 2, 5)
    for results in (any_loop.run(serial.run), serial.block()):
        assert isinstance(results[0], Broken) and results[1] == 32


def test_coroutines_after_one_that_failed_are_closed(any_loop: Loop) -> None:
    serial = Serial().schedule(breaks).schedule(number(1))
    with pytest.raises(Broken):
        any_loop.run(serial.run)
    serial = Serial().schedule(breaks).schedule(number(1))
    with pytest.raises(Broken):
        serial.block()
    del serial
    gc.collect()


def test_the_time_is_over(any_loop: Loop) -> None:
    done: concurrent.futures.Future[int] = concurrent.futures.Future()
    done.set_result(32)
    serial = (
        Serial(timeout=0.05).schedule(done).schedule(lambda: any_loop.sleep(1000)).schedule(breaks)
    )

    async def main() -> None:
        with pytest.raises(CallsTimedOut, match=r"2 of 3 calls .* within 0\.05 seconds") as caught:
            await serial.run()
        assert caught.value.results == [32]

    any_loop.run(main)
    serial = Serial(timeout=0.05).schedule(done).schedule(asyncio.sleep, 1000)
    with pytest.raises(CallsTimedOut) as caught:
        serial.block()
    assert caught.value.results == [32]


def test_a_call_that_times_out_by_itself(any_loop: Loop) -> None:
    def late() -> None:
        threading.Event().wait(0.02)
        raise TimeoutError("mine")

    with pytest.raises(TimeoutError, match="mine") as caught:
        any_loop.run(Serial(timeout=30).schedule(late).run)
    assert not isinstance(caught.value, CallsTimedOut)


def test_cancelled(any_loop: Loop) -> None:
    ended, later = [], []

    async def waits() -> None:
        try:
            await any_loop.sleep(1000)
        finally:
            ended.append(1)

    async def main() -> None:
        async with any_loop.tasks() as start:
            task = start(Serial().schedule(waits).schedule(later.append, 1).run)
            for _ in range(5):
                await any_loop.sleep(0.001)
            task.cancel()
            assert (await task.wait()).cancelled

    any_loop.run(main)
    assert ended == [1] and later == []


def test_a_call_that_cancels_itself(aio: AsyncioLoop) -> None:
    async def cancels() -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await asyncio.sleep(0)

    serial = Serial(return_exceptions=True).schedule(cancels).schedule(pow, 2, 5)
    for first, second in (aio.run(serial.run), serial.block()):
        assert isinstance(first, CallCancelled) and second == 32


def test_blocking_calls_of_block_are_made_right_here() -> None:
    assert Serial().schedule(threading.get_ident).block() == [threading.get_ident()]
    with concurrent.futures.ThreadPoolExecutor(1) as executor:
        serial = Serial(executor=executor).schedule(threading.get_ident)
        assert serial.block() != [threading.get_ident()]


def test_awaitables(any_loop: Loop) -> None:
    done: concurrent.futures.Future[int] = concurrent.futures.Future()
    done.set_result(2)
    assert any_loop.run(Serial().schedule(number(1)).schedule(done).run) == [1, 2]
    assert Serial().schedule(number(1)).schedule(done).block() == [1, 2]


def test_an_error_of_an_awaitable_as_it_is() -> None:
    async def broken() -> None:
        raise Broken

    with pytest.raises(Broken) as caught:
        Serial().schedule(broken()).block()
    assert len(caught.value.__notes__) == 1


def test_block_everywhere(any_loop: Loop) -> None:
    async def on_loop() -> int:
        await any_loop.sleep(0)
        return 1

    serial = Serial().schedule(on_loop).schedule(pow, 2, 5)

    async def main() -> list[Any]:
        return [
            serial.block(),
            await async_def(serial.block),
            await to_async(serial.block)(),
            await Serial().schedule(serial.run).run(),
        ]

    assert any_loop.run(main) == [[1, 32], [1, 32], [1, 32], [[1, 32]]]
    assert block(Serial().schedule(pow, 2, 5).run) == [32]


def test_progress(any_loop: Loop) -> None:
    told: list[tuple[int, int]] = []
    serial = Serial(progress=lambda *numbers: told.append(numbers))  # type: ignore[arg-type]
    both(serial.schedule(number, 1).schedule(pow, 2, 5), any_loop)
    assert told == [(1, 2), (2, 2)] * 2


def test_bad_calls() -> None:
    with pytest.raises(TypeError, match="Pass the function itself"):
        Serial().schedule(3)
