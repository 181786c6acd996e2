"""asyncio's eager tasks (3.12+) start inside the step of another task."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import pytest
from hand_driver import value

from verdigris import NoAwaitContext, async_def, await_, can_await

if sys.version_info < (3, 12):
    pytest.skip("eager tasks came with 3.12", allow_module_level=True)


async def eagerly(coro: Any) -> Any:
    asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)
    return await coro


@pytest.fixture(autouse=True)
def the_loop_makes_eager_tasks(aio: Any) -> None:
    """uvloop 0.22+ passes `eager_start` to the factory: an error before 3.13.3, lazy after."""

    async def probe() -> bool:
        loop = asyncio.get_running_loop()
        loop.set_task_factory(asyncio.eager_task_factory)
        nothing = value(None)
        try:
            task = asyncio.create_task(nothing)
        except TypeError:
            nothing.close()
            return False
        finally:
            loop.set_task_factory(None)
        eager = task.done()
        await task
        return eager

    if not aio.run(probe):
        pytest.skip(f"this {aio.name} makes no eager tasks on this Python")


def test_a_function_that_never_suspends_is_done_at_once(aio: Any) -> None:
    async def main() -> object:
        task = asyncio.create_task(async_def(lambda: await_(value("at once"))))
        assert task.done()
        return task.result()

    assert aio.run(eagerly, main()) == "at once"


def test_a_function_that_suspends_goes_on_later(aio: Any) -> None:
    steps: list[str] = []

    def f() -> str:
        steps.append("started")
        await_(asyncio.sleep(0))
        steps.append("went on")
        return "finished"

    async def main() -> object:
        task = asyncio.create_task(async_def(f))
        assert steps == ["started"] and not task.done()
        return await task

    assert aio.run(eagerly, main()) == "finished"
    assert steps == ["started", "went on"]


def test_started_inside_another_function(aio: Any) -> None:
    """Two green stacks in one step, and the first must come out unharmed."""

    def inner(n: int) -> int:
        await_(asyncio.sleep(0))
        return n

    def outer() -> list[int]:
        tasks = [asyncio.create_task(async_def(inner, n)) for n in range(10)]
        assert asyncio.current_task() is mine[0]
        return [await_(task) for task in tasks]

    mine: list[object] = []

    async def main() -> object:
        mine.append(asyncio.current_task())
        return await async_def(outer)

    assert aio.run(eagerly, main()) == list(range(10))


def sync_that_waits() -> str:
    assert not can_await()
    return await_(asyncio.sleep(0, "never"))


def test_a_plain_eager_task_made_inside_a_function_has_no_context(aio: Any) -> None:
    """It runs on the green stack but belongs to another task, so it must not wait there."""

    async def plain() -> str:
        with pytest.raises(NoAwaitContext, match="async_def"):
            sync_that_waits()
        await asyncio.sleep(0)
        with pytest.raises(NoAwaitContext, match="async_def"):
            sync_that_waits()
        return "refused twice"

    def green() -> object:
        assert can_await()
        task = asyncio.create_task(plain())
        assert can_await()
        first = await_(asyncio.sleep(0, "the function still waits"))
        return await_(task), first

    assert aio.run(eagerly, async_def(green)) == ("refused twice", "the function still waits")


def test_many_eager_tasks_of_both_kinds(aio: Any) -> None:
    async def plain(n: int) -> int:
        await asyncio.sleep(0)
        return await asyncio.create_task(async_def(green, n - 1)) + 1 if n else 0

    def green(n: int) -> int:
        await_(asyncio.sleep(0))
        return await_(asyncio.create_task(plain(n - 1))) + 1 if n else 0

    async def main() -> list[int]:
        return await asyncio.gather(*(plain(n) for n in range(30)))

    assert aio.run(eagerly, main()) == list(range(30))


def test_an_eager_task_is_cancelled_like_any_other(aio: Any) -> None:
    steps: list[str] = []

    def f() -> None:
        try:
            await_(asyncio.sleep(10))
        finally:
            steps.append("finally")

    async def main() -> None:
        task = asyncio.create_task(async_def(f))
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    aio.run(eagerly, main())
    assert steps == ["finally"]
