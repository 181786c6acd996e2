"""Cancellation and timeouts reach the waiting line, and `finally` runs."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from verdigris import async_def, await_


def test_cancelling_reaches_the_waiting_line(loop: Any) -> None:
    steps: list[str] = []

    def f(event: Any) -> None:
        try:
            deeper(event)
        finally:
            steps.append("outer finally")

    def deeper(event: Any) -> None:
        try:
            await_(event.wait())
            steps.append("never")
        except loop.cancelled:
            steps.append("cancelled")
            raise
        finally:
            steps.append("inner finally")

    async def main() -> Any:
        async with loop.tasks() as start:
            task = start(async_def, f, loop.event())
            await loop.checkpoint()
            await loop.checkpoint()
            task.cancel()
        return await task.wait()

    assert loop.run(main).cancelled
    assert steps == ["cancelled", "inner finally", "outer finally"]


def test_a_task_cancelled_before_its_first_step(aio: Any) -> None:
    ran: list[int] = []

    async def main() -> None:
        task = asyncio.create_task(async_def(ran.append, 1))
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    aio.run(main)
    assert ran == []


def test_the_cancel_message_arrives(aio: Any) -> None:
    def f() -> tuple[Any, ...]:
        try:
            await_(asyncio.sleep(10))
        except asyncio.CancelledError as error:
            return error.args
        return ()

    async def main() -> object:
        task = asyncio.create_task(async_def(f))
        await asyncio.sleep(0)
        task.cancel("why")
        return await task

    assert aio.run(main) == ("why",)


def test_a_function_may_refuse_and_go_on(aio: Any) -> None:
    def f() -> str:
        try:
            await_(asyncio.sleep(10))
        except asyncio.CancelledError:
            assert asyncio.current_task().uncancel() == 0  # type: ignore[union-attr]
        return await_(asyncio.sleep(0, "went on"))

    async def main() -> object:
        task = asyncio.create_task(async_def(f))
        await asyncio.sleep(0)
        task.cancel()
        return await task

    assert aio.run(main) == "went on"


def test_cleaning_up_may_wait(loop: Any) -> None:
    steps: list[str] = []

    def f(event: Any) -> None:
        try:
            await_(event.wait())
        finally:
            if loop.name == "trio":
                with loop.trio.CancelScope(shield=True):
                    await_(loop.sleep(0.001))
            else:
                await_(loop.sleep(0.001))
            steps.append("cleaned up")

    async def main() -> Any:
        async with loop.tasks() as start:
            task = start(async_def, f, loop.event())
            await loop.checkpoint()
            await loop.checkpoint()
            task.cancel()
        return await task.wait()

    assert loop.run(main).cancelled
    assert steps == ["cleaned up"]


def test_a_timeout_around_the_function(loop: Any) -> None:
    def f() -> None:
        try:
            await_(loop.sleep(3600))
        finally:
            steps.append("finally")

    async def main() -> None:
        async with loop.deadline(0.01):
            await async_def(f)

    steps: list[str] = []
    with pytest.raises(loop.timed_out):
        loop.run(main)
    assert steps == ["finally"]


def test_a_timeout_inside_the_function(loop: Any) -> None:
    """The block's own task must be right for the deadline to hit this function."""

    def f() -> str:
        with pytest.raises(loop.timed_out):
            within(loop.deadline(0.01))
        return await_(loop_value(loop, "went on"))

    def within(deadline: Any) -> None:
        await_(deadline.__aenter__())
        try:
            await_(loop.sleep(10))
        except BaseException as error:
            if not await_(deadline.__aexit__(type(error), error, error.__traceback__)):
                raise

    assert loop.run(async_def, f) == "went on"


async def loop_value(loop: Any, value: object) -> object:
    await loop.checkpoint()
    return value


def test_wait_for_and_shield(aio: Any) -> None:
    def slow() -> str:
        return await_(asyncio.sleep(0.02, "finished"))

    async def main() -> object:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(async_def(slow), 0.001)
        protected = asyncio.ensure_future(async_def(slow))
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.shield(protected), 0.001)
        return await protected

    assert aio.run(main) == "finished"


def test_shield_inside_the_function(aio: Any) -> None:
    steps: list[str] = []

    def f(inner: asyncio.Task[Any]) -> str:
        try:
            await_(asyncio.shield(inner))
        except asyncio.CancelledError:
            steps.append("cancelled")
            asyncio.current_task().uncancel()  # type: ignore[union-attr]
        return await_(inner)

    async def main() -> object:
        inner = asyncio.create_task(asyncio.sleep(0.01, "finished"))
        task = asyncio.create_task(async_def(f, inner))
        await asyncio.sleep(0.001)
        task.cancel()
        return await task

    assert aio.run(main) == "finished"
    assert steps == ["cancelled"]


def test_nested_functions_unwind_from_the_inside(loop: Any) -> None:
    order: list[int] = []

    def level(depth: int, event: Any) -> None:
        try:
            if depth == 9:
                await_(event.wait())
            elif depth % 2:
                level(depth + 1, event)
            else:
                await_(async_def(level, depth + 1, event))
        finally:
            order.append(depth)

    async def main() -> Any:
        async with loop.tasks() as start:
            task = start(async_def, level, 0, loop.event())
            await loop.checkpoint()
            await loop.checkpoint()
            task.cancel()
        return await task.wait()

    assert loop.run(main).cancelled
    assert order == list(range(9, -1, -1))


def test_cancelling_one_of_many_leaves_the_others(loop: Any) -> None:
    def f(event: Any, n: int) -> int:
        await_(event.wait())
        return n

    async def main() -> list[Any]:
        event = loop.event()
        async with loop.tasks() as start:
            tasks = [start(async_def, f, event, n) for n in range(20)]
            await loop.checkpoint()
            await loop.checkpoint()
            for task in tasks[::2]:
                task.cancel()
            await loop.checkpoint()
            event.set()
        return [await task.wait() for task in tasks]

    outcomes = loop.run(main)
    assert all(outcome.cancelled for outcome in outcomes[::2])
    assert [outcome.value for outcome in outcomes[1::2]] == list(range(1, 20, 2))


def test_cancel_scopes_inside_the_function(trio_loop: Any) -> None:
    trio = trio_loop.trio

    def f() -> list[object]:
        seen: list[object] = []
        with trio.move_on_after(0.005) as outer:
            with trio.CancelScope(shield=True):
                await_(trio.sleep(0.02))
                seen.append("shielded")
            await_(trio.sleep(10))
            seen.append("never")
        seen.append(outer.cancelled_caught)
        with trio.CancelScope() as scope:
            scope.cancel()
            await_(trio.lowlevel.checkpoint())
            seen.append("never")
        seen.append(scope.cancelled_caught)
        return seen

    assert trio.run(async_def, f) == ["shielded", True, True]


def test_nurseries_inside_the_function(trio_loop: Any) -> None:
    trio = trio_loop.trio

    def child(n: int) -> None:
        await_(trio.sleep(0))
        done.append(n)

    def f() -> None:
        manager = trio.open_nursery()
        nursery = await_(manager.__aenter__())
        for n in range(3):
            nursery.start_soon(async_def, child, n)
        await_(manager.__aexit__(None, None, None))

    done: list[int] = []
    trio.run(async_def, f)
    assert sorted(done) == [0, 1, 2]


def test_a_task_group_inside_the_function(aio: Any) -> None:
    def fail() -> None:
        await_(asyncio.sleep(0))
        raise KeyError("child")

    def waits() -> None:
        try:
            await_(asyncio.sleep(10))
        except asyncio.CancelledError:
            cancelled.append("sibling")
            raise

    def f() -> str:
        group = asyncio.TaskGroup()
        await_(group.__aenter__())
        group.create_task(async_def(waits))
        group.create_task(async_def(fail))
        try:
            await_(group.__aexit__(None, None, None))
        except* KeyError:
            cancelled.append("group")
        return await_(asyncio.sleep(0, "went on"))

    cancelled: list[str] = []
    assert aio.run(async_def, f) == "went on"
    assert cancelled == ["sibling", "group"]


def test_the_end_of_the_loop_cancels_what_still_waits(aio: Any) -> None:
    steps: list[str] = []

    def f() -> None:
        try:
            await_(asyncio.sleep(10))
        finally:
            await_(asyncio.sleep(0))
            steps.append("finally")

    async def main() -> None:
        task = asyncio.create_task(async_def(f))
        await asyncio.sleep(0)
        assert not task.done()

    aio.run(main)
    assert steps == ["finally"]
