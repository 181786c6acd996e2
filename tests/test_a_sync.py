"""`verdigris.compat.a_sync`: what a_sync 0.5 promises, and where it failed."""

from __future__ import annotations

import asyncio
import concurrent.futures
import functools
import inspect
import threading
from typing import Any

import pytest
from conftest import Loop

from verdigris import async_def
from verdigris.compat import a_sync

NAMES = {
    "ExitOption", "Parallel", "Serial", "ThreadExecutor", "a_input", "block", "idle_event_loop",
    "queue_background_thread", "run", "to_async", "to_blocking",
}  # fmt: skip


async def later(value: Any) -> Any:
    await asyncio.sleep(0)
    return value


def same(value: Any) -> Any:
    return value


def test_every_name_is_there_with_its_parameters() -> None:
    assert set(a_sync.__all__) == NAMES
    parameters = {
        "a_input": ["prompt"], "block": ["fn", "args", "kwargs"], "to_async": ["blocking_func"],
        "to_blocking": ["async_func"], "Parallel": [], "Serial": [], "ThreadExecutor": ["on_exit"],
        "idle_event_loop": [],
    }  # fmt: skip
    for name, expected in parameters.items():
        assert list(inspect.signature(getattr(a_sync, name)).parameters) == expected


def test_what_is_right_comes_back_unchanged() -> None:
    for function in (later, functools.partial(later, 1)):
        assert a_sync.to_async(function) is function
    for function in (same, functools.partial(same, 1), print):
        assert a_sync.to_blocking(function) is function


def mixed(kind: Any) -> Any:
    return kind().schedule(later, 1).schedule(same, 2).schedule(functools.partial(later, value=3))


@pytest.mark.parametrize("kind", [a_sync.Parallel, a_sync.Serial])
def test_results_come_in_order_and_runners_run_again(kind: Any) -> None:
    runner = mixed(kind)
    assert runner.block() == [1, 2, 3]
    assert asyncio.run(runner.run()) == [1, 2, 3]
    assert runner.block() == [1, 2, 3]
    assert kind().block() == []


@pytest.mark.parametrize("kind", [a_sync.Parallel, a_sync.Serial])
def test_blocking_inside_a_running_loop(aio: Any, kind: Any) -> None:
    """There it fails, and leaks a coroutine."""
    runner = mixed(kind)

    async def main() -> list[Any]:
        return [runner.block(), a_sync.block(later, 4), await async_def(runner.block)]

    assert aio.run(main) == [[1, 2, 3], 4, [1, 2, 3]]


def test_runners_inside_of_runners() -> None:
    inner = mixed(a_sync.Parallel)
    outer = a_sync.Serial().schedule(inner.run).schedule(inner.block)
    both = a_sync.Parallel().schedule(outer.run).schedule(outer.block)
    assert both.block() == [[[1, 2, 3]] * 2] * 2


def test_the_first_error_is_raised_itself() -> None:
    def fails() -> None:
        raise KeyError("this")

    for kind in (a_sync.Parallel, a_sync.Serial):
        runner = kind().schedule(same, 1).schedule(fails).schedule(later, 2)
        with pytest.raises(KeyError, match="this"):
            runner.block()
        with pytest.raises(KeyError, match="this"):
            asyncio.run(runner.run())


def test_run_and_block_take_either_kind(loop: Loop) -> None:
    async def here(value: int) -> int:
        await loop.sleep(0)
        return value

    async def main() -> list[int]:
        return [await a_sync.run(here, 1), await a_sync.run(same, 2)]

    assert loop.run(main) == [1, 2]
    assert loop.run(async_def, lambda: [a_sync.block(here, 1), a_sync.block(same, 2)]) == [1, 2]
    assert [a_sync.block(later, 1), a_sync.block(same, 2)] == [1, 2]


def test_more_than_twenty_in_the_background() -> None:
    """There were 20 threads, and the others waited."""
    barrier = threading.Barrier(41)
    futures = [a_sync.queue_background_thread(barrier.wait, 60) for _ in range(40)]
    barrier.wait(60)
    assert sorted(future.result(60) for future in futures)[-1] <= 40
    assert isinstance(futures[0], concurrent.futures.Future)
    assert a_sync.queue_background_thread(later, 3).result(60) == 3


def test_an_idle_loop_inside_a_running_one() -> None:
    async def main() -> Any:
        with a_sync.idle_event_loop() as loop:
            value = loop.run_until_complete(later(1))
        assert loop.is_closed()
        return await later(value)

    assert asyncio.run(main()) == 1
    with a_sync.idle_event_loop() as loop:
        assert not loop.is_running()
        assert loop.run_until_complete(later(2)) == 2
        assert asyncio.get_event_loop() is loop
