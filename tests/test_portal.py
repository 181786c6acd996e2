"""Portals for one task: `ensure_portal`, `bestow_portal`, `with_portal_run`, and what they keep.

What nobody should do with them is in test_portal_bad_input.py.
"""

from __future__ import annotations

import asyncio
import collections.abc
import contextvars
import functools
import gc
import inspect
import io
import random
import re
import signal
import sys
import traceback
import types
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Generator, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from conftest import needs_callers, needs_thread_state
from hand_driver import finish, suspend, value

import verdigris
from verdigris import (
    GreenCoroutine,
    NoAwaitContext,
    PortalCoroutine,
    _engine,
    async_def,
    await_,
    bestow_portal,
    can_await,
    ensure_portal,
    has_portal,
    spawn,
    with_portal_run,
    with_portal_run_sync,
)

PACKAGE = Path(verdigris.__file__).resolve().parent
CTask: Any = asyncio.Task
PyTask: Any = asyncio.tasks._PyTask  # type: ignore[attr-defined]


async def settle(loop: Any) -> None:
    """Lets the tasks that have just been started reach their wait."""
    for _ in range(5):
        await loop.checkpoint()


async def after_a_step(loop: Any, result: object = None) -> Any:
    await loop.checkpoint()
    return result


def sync_step(loop: Any, result: object = None) -> Any:
    return await_(after_a_step(loop, result))


def chain(frame: FrameType | None) -> list[str]:
    names = []
    while frame is not None:
        names.append(frame.f_code.co_name)
        frame = frame.f_back
    return names


def contains_in_order(names: list[str], wanted: list[str]) -> bool:
    rest = iter(names)
    return all(name in rest for name in wanted)


def frames_of(error: BaseException) -> list[str]:
    return [frame.name for frame in traceback.extract_tb(error.__traceback__)]


def frames_of_ours(error: BaseException) -> list[str]:
    return [
        f"{frame.filename}:{frame.lineno} in {frame.name}"
        for frame in traceback.extract_tb(error.__traceback__)
        if PACKAGE in Path(frame.filename).resolve().parents
    ]


async def by_ensure(loop: Any, body: Callable[[], Awaitable[Any]]) -> Any:
    await ensure_portal()
    return await body()


async def by_bestow(loop: Any, body: Callable[[], Awaitable[Any]]) -> Any:
    bestow_portal(loop.current_task())
    await loop.checkpoint()
    return await body()


async def by_run(loop: Any, body: Callable[[], Awaitable[Any]]) -> Any:
    return await with_portal_run(body)


Enter = Callable[[Any, Callable[[], Awaitable[Any]]], Awaitable[Any]]


@pytest.fixture(params=[by_ensure, by_bestow, by_run], ids=lambda enter: enter.__name__)
def enter(request: pytest.FixtureRequest) -> Enter:
    """The ways to a portal, each of which must do the same for what runs below."""
    return request.param


# --- anywhere below ----------------------------------------------------------


def test_sync_code_waits(loop: Any, enter: Enter) -> None:
    async def body() -> list[object]:
        assert can_await() and has_portal() and has_portal(loop.current_task())
        return [sync_step(loop, n) for n in range(3)]

    assert loop.run(enter, loop, body) == [0, 1, 2]


def test_await_works_in_the_coroutine_itself_too(loop: Any, enter: Enter) -> None:
    async def body() -> object:
        return await_(after_a_step(loop, "waited"))

    assert loop.run(enter, loop, body) == "waited"


def test_many_steps_of_both_kinds(loop: Any, enter: Enter) -> None:
    async def body() -> list[int]:
        seen = []
        for n in range(300):
            if n % 3:
                seen.append(await after_a_step(loop, n))
            else:
                seen.append(sync_step(loop, n))
        return seen

    assert loop.run(enter, loop, body) == list(range(300))


def test_async_calls_sync_calls_async_ten_deep(loop: Any, enter: Enter) -> None:
    async def level(depth: int) -> list[int]:
        await loop.checkpoint()
        below = sync_level(depth - 1) if depth else []
        await loop.checkpoint()
        return [depth, *below]

    def sync_level(depth: int) -> list[int]:
        sync_step(loop)
        result = await_(level(depth))
        sync_step(loop)
        return result

    async def body() -> list[int]:
        return await level(10)

    assert loop.run(enter, loop, body) == list(range(10, -1, -1))


def test_async_def_inside(loop: Any, enter: Enter) -> None:
    """Awaited, and waited for by sync code, and each of them inside the other."""

    def green(depth: int) -> int:
        here = sync_step(loop, 1)
        if depth % 2:
            return here + await_(async_def(green, depth - 1))
        return here + (await_(native(depth - 1)) if depth else 0)

    async def native(depth: int) -> int:
        return await async_def(green, depth)

    async def body() -> int:
        return await async_def(green, 9) + await_(async_def(green, 9)) + sync_step(loop, 1)

    assert loop.run(enter, loop, body) == 21


def test_ensure_portal_inside_async_def(loop: Any) -> None:
    """A task that is green altogether stays as it is."""

    def green() -> None:
        task = loop.current_task()
        before = loop.coroutine_of(task)
        await_(ensure_portal())
        assert loop.coroutine_of(task) is before
        assert _engine.current_portal() is None
        seen.append(sync_step(loop, "waited"))

    async def main() -> None:
        async with loop.own_tasks() as spawn_own:
            spawn_own(async_def, green)

    seen: list[object] = []
    loop.run(main)
    assert seen == ["waited"]


def test_ensure_portal_inside_async_def_is_for_the_whole_task(loop: Any) -> None:
    def green() -> object:
        await_(ensure_portal())
        return sync_step(loop, "in the function")

    async def main() -> list[object]:
        return [await async_def(green), sync_step(loop, "after it")]

    assert loop.run(main) == ["in the function", "after it"]


def test_ensure_portal_called_by_sync_code(loop: Any, enter: Enter) -> None:
    async def body() -> object:
        before = loop.coroutine_of(loop.current_task())
        await_(ensure_portal())
        assert loop.coroutine_of(loop.current_task()) is before
        return sync_step(loop, "waited")

    assert loop.run(enter, loop, body) == "waited"


def test_awaitlet_works_in_a_portal(loop: Any, enter: Enter) -> None:
    from verdigris.compat import awaitlet

    def sync() -> list[object]:
        inner = awaitlet.async_def(awaitlet.awaitlet, after_a_step(loop, "inner"))
        return [awaitlet.awaitlet(after_a_step(loop, "outer")), awaitlet.awaitlet(inner)]

    async def body() -> list[object]:
        return sync()

    assert loop.run(enter, loop, body) == ["outer", "inner"]


def test_spawn_and_join_in_a_portal(loop: Any, enter: Enter) -> None:
    def work(n: int) -> int:
        return sync_step(loop, n)

    def sync() -> list[int]:
        tasks = [spawn(work, n) for n in range(5)]
        return [task.join() for task in tasks]

    async def body() -> list[int]:
        return sync()

    assert loop.run(enter, loop, body) == list(range(5))


def test_generators_of_both_kinds(loop: Any, enter: Enter) -> None:
    def generator() -> Iterator[int]:
        for n in range(3):
            yield sync_step(loop, n)

    async def async_generator() -> AsyncIterator[int]:
        for n in generator():
            await loop.checkpoint()
            yield sync_step(loop, n)

    async def body() -> list[int]:
        return [n async for n in async_generator()] + sorted([2, 1, 0], key=by_waiting)

    def by_waiting(n: int) -> int:
        return sync_step(loop, n)

    assert loop.run(enter, loop, body) == [0, 1, 2, 0, 1, 2]


def test_a_special_method_waits(loop: Any, enter: Enter) -> None:
    class Row:
        def __getattr__(self, name: str) -> str:
            return sync_step(loop, f"{name} was fetched")

    async def body() -> str:
        return str(Row().colour)

    assert loop.run(enter, loop, body) == "colour was fetched"


def test_the_exception_being_handled_is_kept(loop: Any, enter: Enter) -> None:
    async def body() -> None:
        try:
            raise KeyError("handled")
        except KeyError as error:
            sync_step(loop)
            assert sys.exc_info()[1] is error
            await loop.checkpoint()
            assert sys.exc_info()[1] is error
            raise

    with pytest.raises(KeyError, match="handled"):
        loop.run(enter, loop, body)


def test_hundreds_of_tasks_in_any_order(loop: Any) -> None:
    """Every one keeps its own locals, whoever waits where when."""
    randomness = random.Random(3)
    plans = [[randomness.random() < 0.5 for _ in range(20)] for _ in range(200)]
    results: dict[int, list[int]] = {}

    async def body(number: int) -> None:
        if number % 2:
            await ensure_portal()
            results[number] = await steps(number)
        else:
            results[number] = await with_portal_run(steps, number)

    async def steps(number: int) -> list[int]:
        seen = []
        for index, natively in enumerate(plans[number]):
            result = number * index
            seen.append(await after_a_step(loop, result) if natively else sync_step(loop, result))
        return seen

    async def main() -> None:
        async with loop.own_tasks() as spawn_own:
            for number in range(len(plans)):
                spawn_own(body, number)

    loop.run(main)
    assert results == {n: [n * index for index in range(20)] for n in range(len(plans))}


def test_other_tasks_have_none(loop: Any, enter: Enter) -> None:
    seen: list[object] = []

    async def other() -> None:
        await loop.checkpoint()
        seen.append(has_portal())
        with pytest.raises(NoAwaitContext):
            sync_step(loop)
        seen.append("refused")

    async def body() -> None:
        async with loop.own_tasks() as spawn_own:
            task = spawn_own(other)
            assert not has_portal(task)
            for _ in range(5):
                sync_step(loop)
            seen.append("waited")

    loop.run(enter, loop, body)
    assert sorted(map(str, seen)) == ["False", "refused", "waited"]


def test_a_callback_of_the_loop_has_none(aio: Any, enter: Enter) -> None:
    seen: list[object] = []

    def callback() -> None:
        seen.append(has_portal())
        with pytest.raises(NoAwaitContext):
            sync_step(aio)
        seen.append("refused")

    async def body() -> object:
        asyncio.get_running_loop().call_soon(callback)
        await aio.checkpoint()
        asyncio.get_running_loop().call_soon(callback)
        return sync_step(aio, "the task still waits")

    assert aio.run(enter, aio, body) == "the task still waits"
    assert seen == [False, "refused"] * 2


def test_needs_no_loop_that_is_known() -> None:
    async def program() -> tuple[object, object]:
        return await suspend("natively"), await_(suspend("in sync code"))

    coro = with_portal_run(program)
    assert coro.send(None) == "natively"
    assert coro.send(1) == "in sync code"
    with pytest.raises(StopIteration) as end:
        coro.send(2)
    assert end.value.value == (1, 2)
    assert finish(with_portal_run_sync(lambda: await_(suspend())), lambda tag: "answer") == "answer"


def test_ensure_portal_is_an_async_function_to_all_who_ask(loop: Any) -> None:
    """Though it makes its coroutine in another way where there is a portal."""

    async def main() -> None:
        await ensure_portal()
        coro = ensure_portal()
        assert inspect.iscoroutine(coro)
        await coro

    assert loop.run(ensure_portal) is None
    assert loop.run(main) is None
    # From 3.14 on asyncio's is deprecated; before 3.12 only asyncio's can be told.
    ask = inspect if sys.version_info >= (3, 12) else asyncio
    assert ask.iscoroutinefunction(ensure_portal)  # type: ignore[attr-defined]


# --- checkpoints -------------------------------------------------------------


@types.coroutine
def counted(coro: Coroutine[Any, Any, Any], yields: list[object]) -> Generator[Any, Any, Any]:
    """Awaits, and notes everything that is yielded to the loop."""
    step: Callable[[Any], Any] = coro.send
    argument: object = None
    while True:
        try:
            tag = step(argument)
        except StopIteration as end:
            return end.value
        yields.append(tag)
        try:
            step, argument = coro.send, (yield tag)
        except BaseException as error:
            step, argument = coro.throw, error


async def yields_of(coro: Coroutine[Any, Any, Any]) -> int:
    yields: list[object] = []
    await counted(coro, yields)
    return len(yields)


def test_ensure_portal_yields_once_whatever_there_is(loop: Any) -> None:
    async def main() -> list[int]:
        async def within() -> None:
            counts.append(await yields_of(ensure_portal()))

        counts: list[int] = []
        await with_portal_run(within)
        await async_def(lambda: counts.append(await_(yields_of(ensure_portal()))))
        await within()
        await within()
        return counts

    assert loop.run(main) == [1, 1, 1, 1]


def test_the_others_add_no_step(loop: Any, enter: Enter) -> None:
    """With a portal (inside `enter`) and without: as many steps as the function has."""

    async def native(steps: int) -> None:
        for _ in range(steps):
            await suspend_on(loop)

    def sync(steps: int) -> None:
        for _ in range(steps):
            await_(suspend_on(loop))

    async def mixed(steps: int) -> None:
        sync(steps)
        await_(value("no step"))

    async def suspend_on(loop: Any) -> None:
        steps_taken.append(1)
        await loop.checkpoint()

    async def measure() -> None:
        for run, fn in (
            (with_portal_run, native),
            (with_portal_run, mixed),
            (with_portal_run_sync, sync),
        ):
            for steps in (0, 1, 5):
                assert await yields_of(run(fn, steps)) in allowed(steps)

    # Below a portal sync code yields past `counted`, from the stack.
    def allowed(steps: int) -> set[int]:
        return {steps} if not has_portal() else {0, steps}

    steps_taken: list[int] = []
    loop.run(measure)
    assert len(steps_taken) == 18
    loop.run(enter, loop, measure)
    assert len(steps_taken) == 36


def test_trio_counts_the_checkpoints_where_they_are_documented(trio_loop: Any) -> None:
    trio, testing = trio_loop.trio, pytest.importorskip("trio.testing")

    async def nothing() -> str:
        return "nothing"

    def sync_nothing() -> str:
        return await_(nothing())

    async def one() -> None:
        await trio.lowlevel.checkpoint()

    async def look(portal: bool) -> None:
        assert has_portal() is portal
        with testing.assert_no_checkpoints():
            has_portal()
            assert await with_portal_run(nothing) == "nothing"
            assert await with_portal_run_sync(sync_nothing) == "nothing"
            assert await with_portal_run(as_async(sync_nothing)) == "nothing"
        for run, fn in ((with_portal_run, one), (with_portal_run_sync, lambda: await_(one()))):
            with testing.assert_checkpoints():
                await run(fn)
        if portal:
            with testing.assert_no_checkpoints():
                assert sync_nothing() == "nothing"
                assert await_(async_def(sync_nothing)) == "nothing"
            with testing.assert_checkpoints():
                await_(one())

    def as_async(fn: Callable[[], Any]) -> Callable[[], Awaitable[Any]]:
        async def call() -> Any:
            return fn()

        return call

    async def main() -> None:
        await look(False)
        with testing.assert_checkpoints():
            await ensure_portal()
        await look(True)
        with testing.assert_checkpoints():
            await ensure_portal()
        with testing.assert_checkpoints():
            await_(ensure_portal())

    async def bestowed() -> None:
        with testing.assert_no_checkpoints():
            bestow_portal(trio.lowlevel.current_task())
        with testing.assert_no_checkpoints():
            bestow_portal(trio.lowlevel.current_task())
        with testing.assert_checkpoints():
            await ensure_portal()
        await look(True)

    async def within() -> None:
        with testing.assert_checkpoints():
            await ensure_portal()
        await look(True)

    trio.run(main)
    trio.run(bestowed)
    trio.run(with_portal_run, within)
    trio.run(async_def, lambda: await_(within()))


def test_asyncio_runs_others_where_it_is_documented(aio: Any) -> None:
    async def others_run(awaitable: Awaitable[Any]) -> bool:
        ran: list[int] = []
        asyncio.get_running_loop().call_soon(ran.append, 1)
        await awaitable
        return bool(ran)

    async def main() -> None:
        assert not await others_run(with_portal_run(value, 1))
        assert not await others_run(with_portal_run_sync(lambda: await_(value(1))))
        assert await others_run(with_portal_run(asyncio.sleep, 0))
        assert await others_run(ensure_portal())
        assert await others_run(ensure_portal())
        assert not await others_run(with_portal_run(value, 1))
        assert not await others_run(with_portal_run_sync(lambda: await_(value(1))))
        assert await others_run(with_portal_run_sync(lambda: await_(asyncio.sleep(0))))
        assert await others_run(with_portal_run(asyncio.sleep, 0))

    aio.run(main)


@pytest.mark.parametrize("times", [0, 1], ids=["the first time", "again"])
def test_ensure_portal_is_where_a_cancellation_arrives(aio: Any, times: int) -> None:
    async def main() -> None:
        for _ in range(times):
            await ensure_portal()
        task = asyncio.current_task()
        assert task is not None
        task.cancel("why")
        # None of these gives the loop a chance.
        assert await with_portal_run(value, 1) == 1
        assert await with_portal_run_sync(lambda: await_(value(2))) == 2
        bestow_portal(task)
        with pytest.raises(asyncio.CancelledError, match="why"):
            await ensure_portal()
        assert task.uncancel() == 0
        assert sync_step(aio, "has its portal") == "has its portal"

    aio.run(main)


# --- bestow_portal and has_portal --------------------------------------------


def test_for_the_current_task_it_works_from_the_next_step_on(loop: Any) -> None:
    async def main() -> object:
        task = loop.current_task()
        bestow_portal(task)
        assert isinstance(loop.coroutine_of(task), PortalCoroutine)
        assert not has_portal() and not has_portal(task) and not can_await()
        with pytest.raises(NoAwaitContext):
            sync_step(loop)
        await loop.checkpoint()
        assert has_portal() and has_portal(task)
        return sync_step(loop, "waited")

    assert loop.run(main) == "waited"


def test_for_the_current_task_ending_at_once_is_fine(loop: Any) -> None:
    seen: list[object] = []

    async def body() -> None:
        task = loop.current_task()
        bestow_portal(task)
        seen.append(task)

    async def main() -> None:
        async with loop.own_tasks() as spawn_own:
            spawn_own(body)

    loop.run(main)
    portal = loop.coroutine_of(seen[0])
    assert isinstance(portal, PortalCoroutine)
    assert inspect.getcoroutinestate(portal) == inspect.CORO_CLOSED
    assert not has_portal(seen[0])


def test_for_another_task_it_works_at_once(loop: Any) -> None:
    async def waits(event: Any) -> None:
        await event.wait()
        results.append(sync_step(loop, "waited"))

    async def main() -> None:
        event = loop.event()
        async with loop.own_tasks() as spawn_own:
            task = spawn_own(waits, event)
            await settle(loop)
            assert not has_portal(task)
            bestow_portal(task)
            assert has_portal(task)
            assert not has_portal(), "it is the other's"
            event.set()
        assert not has_portal(task), "it has ended"

    results: list[object] = []
    loop.run(main)
    assert results == ["waited"]


def test_for_a_task_that_has_not_begun(loop: Any) -> None:
    async def body() -> None:
        results.append(sync_step(loop, "waited in its first step"))

    async def main() -> None:
        async with loop.own_tasks() as spawn_own:
            task = spawn_own(body)
            bestow_portal(task)
            assert has_portal(task)

    results: list[object] = []
    loop.run(main)
    assert results == ["waited in its first step"]


def test_for_a_task_that_is_about_to_run(loop: Any) -> None:
    """Trio has looked up by then which method it will call."""

    async def waits(event: Any) -> None:
        await event.wait()
        results.append(has_portal())
        results.append(sync_step(loop, "waited"))

    async def main() -> None:
        event = loop.event()
        async with loop.own_tasks() as spawn_own:
            task = spawn_own(waits, event)
            await settle(loop)
            event.set()
            bestow_portal(task)

    results: list[object] = []
    loop.run(main)
    assert results == [True, "waited"]


def test_for_a_task_that_is_about_to_be_cancelled(loop: Any) -> None:
    async def waits(event: Any) -> None:
        tasks.append(loop.current_task())
        try:
            await event.wait()
        finally:
            results.append(has_portal())
            results.append(await_(value("waited")))

    async def main() -> Any:
        async with loop.tasks() as start:
            background = start(waits, loop.event())
            await settle(loop)
            background.cancel()
            bestow_portal(tasks[0])
        return await background.wait()

    tasks: list[Any] = []
    results: list[object] = []
    assert loop.run(main).cancelled
    assert results == [True, "waited"]


def test_twice_is_once(loop: Any) -> None:
    async def waits(event: Any) -> None:
        await event.wait()
        sync_wait(event)

    def sync_wait(event: Any) -> None:
        await_(loop.checkpoint())

    async def main() -> None:
        event = loop.event()
        async with loop.own_tasks() as spawn_own:
            task = spawn_own(waits, event)
            await settle(loop)
            bestow_portal(task)
            portal = loop.coroutine_of(task)
            bestow_portal(task)
            assert loop.coroutine_of(task) is portal
            assert not isinstance(portal.coroutine, PortalCoroutine)
            event.set()
        own = loop.current_task()
        bestow_portal(own)
        portal = loop.coroutine_of(own)
        bestow_portal(own)
        await loop.checkpoint()
        bestow_portal(own)
        await ensure_portal()
        assert loop.coroutine_of(own) is portal
        assert not isinstance(portal.coroutine, PortalCoroutine)

    loop.run(main)


def test_a_task_keeps_what_it_has_when_it_needs_no_more(loop: Any) -> None:
    """It waits in sync code of its portal, in `with_portal_run`, or is green altogether."""

    async def portal(event: Any) -> None:
        await ensure_portal()
        await_(event.wait())

    async def portal_run(event: Any) -> None:
        await with_portal_run(portal, event)

    async def portal_run_that_waits_natively(event: Any) -> None:
        await with_portal_run(event.wait)

    def green(event: Any) -> None:
        await_(event.wait())

    async def main() -> None:
        event = loop.event()
        async with loop.own_tasks() as spawn_own:
            tasks = [
                spawn_own(body, event)
                for body in (portal, portal_run, portal_run_that_waits_natively)
            ]
            tasks.append(spawn_own(async_def, green, event))
            await settle(loop)
            before = [loop.coroutine_of(task) for task in tasks]
            for task in tasks:
                assert has_portal(task)
                bestow_portal(task)
            assert [loop.coroutine_of(task) for task in tasks] == before
            event.set()

    loop.run(main)


def test_a_task_that_waits_below_async_def_gets_one(loop: Any) -> None:
    """Its function waits on a stack of its own, and goes on there."""

    def green(event: Any) -> object:
        return sync_step(loop, await_(after(event)))

    async def after(event: Any) -> str:
        await event.wait()
        return "green"

    async def body(event: Any) -> None:
        results.append(await async_def(green, event))
        results.append(sync_step(loop, "portal"))

    async def main() -> None:
        event = loop.event()
        async with loop.own_tasks() as spawn_own:
            task = spawn_own(body, event)
            await settle(loop)
            assert isinstance(loop.coroutine_of(task).cr_await, GreenCoroutine)
            bestow_portal(task)
            assert isinstance(loop.coroutine_of(task), PortalCoroutine)
            event.set()

    results: list[object] = []
    loop.run(main)
    assert results == ["green", "portal"]


def test_sync_code_below_a_portal_bestows_one(loop: Any) -> None:
    async def other(event: Any) -> None:
        await event.wait()
        results.append(sync_step(loop, "other"))

    def sync(task: Any) -> None:
        bestow_portal(task)
        results.append(sync_step(loop, "own"))

    async def main() -> None:
        await ensure_portal()
        event = loop.event()
        async with loop.own_tasks() as spawn_own:
            task = spawn_own(other, event)
            await settle(loop)
            sync(task)
            event.set()

    results: list[object] = []
    loop.run(main)
    assert results == ["own", "other"]


def test_outside_of_async_code_there_is_none() -> None:
    assert not has_portal()
    finish(with_portal_run(value, 1))
    assert not has_portal()


# --- with_portal_run and with_portal_run_sync --------------------------------


def test_an_existing_portal_is_used(loop: Any) -> None:
    async def main() -> None:
        await ensure_portal()
        task = loop.current_task()
        portal = loop.coroutine_of(task)
        assert _engine.current_portal() is portal

        async def within() -> object:
            assert _engine.current_portal() is portal
            return sync_step(loop, "async")

        def sync_within() -> object:
            assert _engine.current_portal() is portal
            return sync_step(loop, "sync")

        assert await with_portal_run(within) == "async"
        assert await with_portal_run_sync(sync_within) == "sync"
        assert await_(with_portal_run(with_portal_run, within)) == "async"
        assert loop.coroutine_of(task) is portal

    loop.run(main)


@pytest.mark.parametrize("run", [with_portal_run, with_portal_run_sync])
def test_afterwards_the_task_is_as_before(loop: Any, run: Callable[..., Any]) -> None:
    async def within() -> str:
        return sync_within()

    def sync_within() -> str:
        assert has_portal()
        return sync_step(loop, "waited")

    async def main() -> None:
        before = loop.coroutine_of(loop.current_task())
        assert await run(within if run is with_portal_run else sync_within) == "waited"
        assert loop.coroutine_of(loop.current_task()) is before
        for _ in range(2):
            assert not has_portal()
            with pytest.raises(NoAwaitContext):
                sync_step(loop)
            await loop.checkpoint()

    loop.run(main)


def test_ensure_portal_inside_with_portal_run_adds_none(loop: Any) -> None:
    async def within() -> str:
        before = loop.coroutine_of(loop.current_task())
        await ensure_portal()
        bestow_portal(loop.current_task())
        assert loop.coroutine_of(loop.current_task()) is before
        return sync_step(loop, "waited")

    async def main() -> None:
        assert await with_portal_run(within) == "waited"
        await loop.checkpoint()
        assert not has_portal()

    loop.run(main)


def test_takes_any_awaitable(loop: Any, enter: Enter) -> None:
    class Awaits:
        def __init__(self, result: object) -> None:
            self.result = result

        def __await__(self) -> Generator[Any, Any, Any]:
            assert has_portal()
            # The caller of __await__ is no coroutine here.
            result = yield from after_a_step(loop, self.result).__await__()
            return sync_step(loop, result)

    def makes_a_green_one(result: object) -> Any:
        return async_def(sync_step, loop, result)

    async def body() -> list[object]:
        partial = functools.partial(after_a_step, loop)
        return [await with_portal_run(fn, "x") for fn in (Awaits, makes_a_green_one, partial)]

    assert loop.run(body) == ["x", "x", "x"]
    assert loop.run(enter, loop, body) == ["x", "x", "x"]


def test_takes_futures_and_tasks(aio: Any) -> None:
    async def main() -> list[object]:
        future = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_soon(future.set_result, "future")
        task = asyncio.create_task(after_a_step(aio, "task"))
        return [await with_portal_run(lambda: future), await with_portal_run(lambda: task)]

    assert aio.run(main) == ["future", "task"]


def test_every_name_of_a_keyword_is_the_functions() -> None:
    def sync(*args: object, **kwargs: object) -> object:
        return args, kwargs

    async def function(*args: object, **kwargs: object) -> object:
        return args, kwargs

    keywords = {"fn": 1, "async_fn": 2, "assert_await_occurs": True, "self": 3, "loop": 4}
    assert finish(with_portal_run(function, 1, **keywords)) == ((1,), keywords)
    assert finish(with_portal_run_sync(sync, 1, **keywords)) == ((1,), keywords)
    assert finish(with_portal_run_sync(sync)) == ((), {})


class Custom(BaseException): ...


@pytest.mark.parametrize(
    "kind", [ValueError, Custom, StopAsyncIteration, GeneratorExit, KeyboardInterrupt]
)
@pytest.mark.parametrize("when", ["at once", "after a native step", "after a wait"])
def test_exceptions_come_out_as_they_are(kind: type[BaseException], when: str) -> None:
    error = kind("original")

    async def fails() -> None:
        if when == "after a native step":
            await suspend()
        if when == "after a wait":
            await_(suspend())
        raise error

    def sync_fails() -> None:
        await_(fails())

    for coro in (with_portal_run(fails), with_portal_run_sync(sync_fails)):
        with pytest.raises(kind) as caught:
            finish(coro)
        assert caught.value is error


def test_an_exception_of_the_call_itself() -> None:
    def fails(*args: object) -> Any:
        raise KeyError(*args)

    with pytest.raises(KeyError, match="argument"):
        finish(with_portal_run(fails, "argument"))
    with pytest.raises(TypeError):
        finish(with_portal_run(value))


@pytest.mark.parametrize("result", [(1, 2), ValueError("a result"), StopIteration(3), None])
def test_any_object_can_be_the_result(result: object) -> None:
    async def waits() -> object:
        await_(suspend())
        return result

    assert finish(with_portal_run(value, result)) is result
    assert finish(with_portal_run(waits)) is result
    assert finish(with_portal_run_sync(lambda: await_(waits()))) is result


# --- cancellation ------------------------------------------------------------


@pytest.mark.parametrize("where", ["natively", "in sync code", "in async code below sync code"])
def test_a_cancellation_arrives_where_the_task_waits(loop: Any, enter: Enter, where: str) -> None:
    steps: list[str] = []

    async def waits(event: Any) -> None:
        try:
            await event.wait()
        except loop.cancelled:
            steps.append("async except")
            raise
        finally:
            steps.append("async finally")

    def sync_waits(event: Any) -> None:
        try:
            await_(event.wait() if where == "in sync code" else waits(event))
        except loop.cancelled:
            steps.append("sync except")
            raise
        finally:
            steps.append("sync finally")

    async def body() -> None:
        try:
            if where == "natively":
                await waits(loop.event())
            else:
                sync_waits(loop.event())
        finally:
            steps.append("outer")

    async def main() -> Any:
        async with loop.tasks() as start:
            task = start(enter, loop, body)
            await settle(loop)
            task.cancel()
        return await task.wait()

    assert loop.run(main).cancelled
    inside = ["async except", "async finally"]
    assert (
        steps
        == {
            "natively": [*inside, "outer"],
            "in sync code": ["sync except", "sync finally", "outer"],
            "in async code below sync code": [*inside, "sync except", "sync finally", "outer"],
        }[where]
    )


def test_a_task_cancelled_before_its_first_step(aio: Any) -> None:
    async def body() -> None:
        raise AssertionError("never runs")

    async def main() -> None:
        task = asyncio.create_task(body())
        bestow_portal(task)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert task.cancelled()

    aio.run(main)


def test_a_deadline_ends_the_wait_and_not_the_portal(loop: Any, enter: Enter) -> None:
    async def body() -> object:
        with pytest.raises(loop.timed_out):
            async with loop.deadline(0.01):
                sync_forever()
        with pytest.raises(loop.timed_out):
            async with loop.deadline(0.01):
                await loop.event().wait()

        async def below() -> None:
            async with loop.deadline(0.01):
                sync_forever()

        with pytest.raises(loop.timed_out):
            await_(below())
        return sync_step(loop, "goes on")

    def sync_forever() -> None:
        try:
            await_(loop.event().wait())
        finally:
            steps.append("finally")

    steps: list[str] = []
    assert loop.run(enter, loop, body) == "goes on"
    assert steps == ["finally", "finally"]


def test_cancel_scopes_of_sync_code(trio_loop: Any, enter: Enter) -> None:
    trio = trio_loop.trio

    async def body() -> list[object]:
        seen: list[object] = []
        with trio.move_on_after(0.005) as outer:
            with trio.CancelScope(shield=True):
                seen.append(sync_step(trio_loop, "shielded"))
            await_(trio.sleep_forever())
            seen.append("never")
        seen.append(outer.cancelled_caught)
        with trio.CancelScope() as scope:
            scope.cancel()
            sync_step(trio_loop)
            seen.append("never")
        seen.append(scope.cancelled_caught)
        return seen

    assert trio_loop.run(enter, trio_loop, body) == ["shielded", True, True]


def test_sync_code_may_refuse_and_go_on(aio: Any, enter: Enter) -> None:
    def refuses(task: asyncio.Task[Any]) -> str:
        try:
            await_(asyncio.Event().wait())
        except asyncio.CancelledError as error:
            assert error.args == ("why",)
            assert task.cancelling() == 1
            assert task.uncancel() == 0
        return sync_step(aio, "went on")

    async def body() -> str:
        task = asyncio.current_task()
        assert task is not None
        return refuses(task)

    async def main() -> object:
        task = asyncio.create_task(enter(aio, body))  # type: ignore[arg-type]
        await settle(aio)
        task.cancel("why")
        return await task

    assert aio.run(main) == "went on"


def test_wait_for_and_shield(aio: Any, enter: Enter) -> None:
    async def body() -> str:
        event = asyncio.Event()

        async def slow() -> str:
            await event.wait()
            return "finished"

        def sync_waits() -> str:
            with pytest.raises(TimeoutError):
                await_(asyncio.wait_for(event.wait(), 0.001))
            protected = asyncio.ensure_future(slow())
            with pytest.raises(TimeoutError):
                await_(asyncio.wait_for(asyncio.shield(protected), 0.001))
            event.set()
            return await_(protected)

        return sync_waits()

    assert aio.run(enter, aio, body) == "finished"


def test_a_shielded_portal_task_goes_on(aio: Any) -> None:
    async def inner(event: asyncio.Event) -> str:
        await ensure_portal()
        await_(event.wait())
        return "finished"

    async def outer(task: asyncio.Task[str]) -> str:
        await ensure_portal()
        return await_(asyncio.shield(task))

    async def main() -> str:
        event = asyncio.Event()
        task = asyncio.create_task(inner(event))
        waiter = asyncio.create_task(outer(task))
        await settle(aio)
        waiter.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiter
        event.set()
        return await task

    assert aio.run(main) == "finished"


def test_the_end_of_the_loop_cancels_what_still_waits(aio: Any) -> None:
    steps: list[str] = []

    async def body(waits_in_sync_code: bool) -> None:
        await ensure_portal()
        try:
            if waits_in_sync_code:
                await_(asyncio.Event().wait())
            await asyncio.Event().wait()
        finally:
            steps.append(sync_step(aio, "finally"))

    async def main() -> None:
        for waits_in_sync_code in (False, True):
            left = asyncio.create_task(body(waits_in_sync_code))
            left.add_done_callback(lambda task: steps.append(str(task.cancelled())))
        await settle(aio)

    aio.run(main)
    assert steps == ["finally", "finally", "True", "True"]


def test_sigint_is_a_cancellation_of_the_main_task(aio: Any) -> None:
    steps: list[str] = []

    async def main() -> None:
        await ensure_portal()
        try:
            asyncio.get_running_loop().call_soon(signal.raise_signal, signal.SIGINT)
            await_(asyncio.Event().wait())
        except asyncio.CancelledError:
            steps.append("cancelled")
            raise

    # A shell starts what it puts in the background with SIGINT ignored.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            aio.run(main)
    finally:
        signal.signal(signal.SIGINT, before)
    assert steps == ["cancelled"]


@needs_callers
def test_trios_protection_against_sigint_is_as_without(trio_loop: Any) -> None:
    trio = trio_loop.trio

    def protected() -> bool:
        return bool(trio.lowlevel.currently_ki_protected())

    @trio.lowlevel.enable_ki_protection
    def guarded() -> list[bool]:
        before = protected()
        if has_portal():
            sync_step(trio_loop)
        return [before, protected()]

    async def look() -> list[object]:
        await trio.lowlevel.checkpoint()
        return [protected(), guarded(), protected(), await in_a_coroutine()]

    async def in_a_coroutine() -> bool:
        return protected()

    async def main() -> None:
        without = await look()
        assert without == [False, [True, True], False, False]
        await ensure_portal()
        assert await look() == without
        assert await_(look()) == without

    trio.run(main)
    trio.run(with_portal_run, main)


def test_sigint_interrupts_sync_code_on_trio(trio_loop: Any) -> None:
    trio = trio_loop.trio

    @trio.lowlevel.enable_ki_protection
    def guarded() -> None:
        signal.raise_signal(signal.SIGINT)
        steps.append("guarded")

    def sync() -> None:
        guarded()
        sync_step(trio_loop)
        steps.append("never: the interrupt was delivered at the checkpoint")

    async def main() -> None:
        await ensure_portal()
        with pytest.raises(KeyboardInterrupt):
            sync()
        with pytest.raises(KeyboardInterrupt):
            interrupted()

    def interrupted() -> None:
        sync_step(trio_loop)
        signal.raise_signal(signal.SIGINT)
        steps.append("never")

    steps: list[str] = []
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        trio.run(main)
    finally:
        signal.signal(signal.SIGINT, before)
    assert steps == ["guarded"]


# --- exceptions --------------------------------------------------------------


def test_a_traceback_shows_the_users_frames_alone(aio: Any) -> None:
    async def fails() -> None:
        await asyncio.sleep(0)
        raise KeyError("from below")

    def sync_fails() -> None:
        await_(fails())

    async def natively() -> None:
        await ensure_portal()
        await fails()

    async def at_once() -> None:
        await ensure_portal()
        raise KeyError("from the top")

    async def through_sync_code() -> None:
        await ensure_portal()
        sync_fails()

    async def main() -> list[list[str]]:
        seen = []
        for body in (natively, at_once, through_sync_code):
            task = asyncio.create_task(body())
            await asyncio.wait([task])
            error = task.exception()
            assert isinstance(error, KeyError)
            assert frames_of_ours(error) == []
            assert error.__context__ is None and error.__cause__ is None
            seen.append(frames_of(error))
        return seen

    assert aio.run(main) == [
        ["natively", "fails"],
        ["at_once"],
        ["through_sync_code", "sync_fails", "fails"],
    ]


def test_a_traceback_out_of_the_loop(loop: Any) -> None:
    """The loop's own frames are there, ours are not."""

    async def fails() -> None:
        await loop.checkpoint()
        raise KeyError("from below")

    def sync_fails() -> None:
        await_(fails())

    async def main() -> None:
        await ensure_portal()
        sync_fails()

    with pytest.raises(KeyError) as caught:
        loop.run(main)
    assert frames_of_ours(caught.value) == []
    assert frames_of(caught.value)[-3:] == ["main", "sync_fails", "fails"]


def test_what_the_loop_cannot_understand_is_answered_where_it_was_yielded(
    loop: Any, enter: Enter
) -> None:
    expected = TypeError if loop.name == "trio" else RuntimeError
    text = "unrecognized yield message" if loop.name == "trio" else "bad yield"

    def sync() -> None:
        await_(suspend("nonsense"))

    async def body() -> str:
        with pytest.raises(expected, match=text):
            sync()
        with pytest.raises(expected, match=text):
            await suspend("nonsense")
        return sync_step(loop, "went on")

    assert loop.run(enter, loop, body) == "went on"


def test_a_portal_given_before_trio_throws_that_error(trio_loop: Any) -> None:
    """Trio has looked up `throw` of the task's own coroutine by then."""
    trio = trio_loop.trio

    class Bestows(trio.abc.Instrument):  # type: ignore[misc, name-defined]
        def after_task_step(self, task: Any) -> None:
            if task is tasks[0] and not isinstance(task.coro, PortalCoroutine):
                bestow_portal(task)

    async def main() -> str:
        tasks.append(trio.lowlevel.current_task())
        instrument = Bestows()
        trio.lowlevel.add_instrument(instrument)
        with pytest.raises(TypeError, match="unrecognized yield message"):
            await suspend("nonsense")
        trio.lowlevel.remove_instrument(instrument)
        return sync_step(trio_loop, "went on")

    tasks: list[Any] = []
    assert trio.run(main) == "went on"


def test_stop_iteration_is_what_it_is_without_a_portal(loop: Any, enter: Enter) -> None:
    def stops() -> None:
        sync_step(loop)
        raise StopIteration("sync")

    async def body() -> str:
        with pytest.raises(StopIteration, match="sync"):
            stops()
        return "went on"

    async def lets_it_out() -> None:
        stops()

    assert loop.run(enter, loop, body) == "went on"
    with pytest.raises(RuntimeError, match="coroutine raised StopIteration") as caught:
        loop.run(enter, loop, lets_it_out)
    assert isinstance(caught.value.__cause__, StopIteration)


def test_the_result_of_the_task(aio: Any) -> None:
    async def body(result: object) -> object:
        await ensure_portal()
        sync_step(aio)
        return result

    async def main() -> None:
        for result in (None, (1, 2), StopIteration(3), ValueError("a result")):
            assert await asyncio.create_task(body(result)) is result

    aio.run(main)


# --- what can be seen of it --------------------------------------------------


async def sleeps(event: Any) -> None:
    await event.wait()


def sync_sleeps(event: Any) -> None:
    await_(sleeps(event))


async def calls_sync_code(event: Any) -> None:
    sync_sleeps(event)


async def idle_then_in_sync_code(first: Any, second: Any) -> str:
    await ensure_portal()
    await sleeps(first)
    await calls_sync_code(second)
    return "done"


def test_every_state_is_shown_as_that_of_a_coroutine(loop: Any) -> None:
    async def main() -> None:
        first, second = loop.event(), loop.event()
        async with loop.own_tasks() as spawn_own:
            task = spawn_own(idle_then_in_sync_code, first, second)
            bestow_portal(task)
            portal = loop.coroutine_of(task)
            own = portal.coroutine
            assert repr(own) in repr(portal)
            assert (portal.__name__, portal.__qualname__) == (own.__name__, own.__qualname__)

            assert inspect.getcoroutinestate(portal) == inspect.CORO_CREATED
            assert chain(portal.cr_frame) == ["idle_then_in_sync_code"]
            assert portal.cr_await is None
            assert portal.cr_code is idle_then_in_sync_code.__code__

            await settle(loop)
            assert inspect.getcoroutinestate(portal) == inspect.CORO_SUSPENDED
            assert (portal.cr_running, portal.cr_suspended) == (False, True)
            assert portal.cr_frame is own.cr_frame
            assert chain(portal.cr_frame) == ["idle_then_in_sync_code"]
            assert portal.cr_await is own.cr_await
            assert portal.cr_await.__name__ == "sleeps"
            assert portal.cr_code is idle_then_in_sync_code.__code__
            assert dict(inspect.getcoroutinelocals(portal)) == {"first": first, "second": second}

            first.set()
            await settle(loop)
            assert inspect.getcoroutinestate(portal) == inspect.CORO_SUSPENDED
            assert (portal.cr_running, portal.cr_suspended) == (False, True)
            assert chain(portal.cr_frame) == [
                "sync_sleeps",
                "calls_sync_code",
                "idle_then_in_sync_code",
            ]
            assert portal.cr_await.__name__ == "sleeps"
            assert portal.cr_code is sync_sleeps.__code__
            second.set()

        assert inspect.getcoroutinestate(portal) == inspect.CORO_CLOSED
        assert (portal.cr_running, portal.cr_suspended) == (False, False)
        assert portal.cr_frame is None and portal.cr_await is None

    loop.run(main)


def test_while_it_runs_it_says_so(loop: Any, enter: Enter) -> None:
    async def body() -> list[object]:
        return [*look(), sync_step(loop, 0), *look()]

    def look() -> list[object]:
        portal = _engine.current_portal()
        assert portal is not None
        assert portal.cr_frame is portal.coroutine.cr_frame
        return [inspect.getcoroutinestate(portal), portal.cr_running, portal.cr_suspended]

    running = [inspect.CORO_RUNNING, True, False]
    assert loop.run(enter, loop, body) == [*running, 0, *running]


def test_is_a_coroutine_to_all_who_ask() -> None:
    coro = value(1)
    portal = _engine.portal(coro)
    assert isinstance(portal, collections.abc.Coroutine)
    assert asyncio.iscoroutine(portal) and inspect.isawaitable(portal)
    assert not isinstance(portal, collections.abc.Iterator)
    assert weakref.ref(portal)() is portal
    assert portal.cr_origin is coro.cr_origin
    assert finish(portal) == 1


def test_a_task_prints_itself(aio: Any) -> None:
    async def main() -> None:
        first, second = asyncio.Event(), asyncio.Event()
        task = asyncio.create_task(idle_then_in_sync_code(first, second), name="printed")
        await settle(aio)
        own = task.get_coro().coroutine  # type: ignore[union-attr]
        line = own.cr_frame.f_lineno
        assert re.search(rf"coro=<idle_then_in_sync_code\(\) running at .*:{line}>", repr(task))
        assert printed(task)[0] == ["idle_then_in_sync_code"]

        first.set()
        await settle(aio)
        names, text = printed(task)
        assert names == ["idle_then_in_sync_code", "calls_sync_code", "sync_sleeps"]
        assert "await_(sleeps(event))" in text
        line = sync_sleeps.__code__.co_firstlineno + 1
        assert re.search(rf"coro=<idle_then_in_sync_code\(\) running at .*:{line}>", repr(task))

        second.set()
        assert await task == "done"
        assert "finished name='printed' coro=<idle_then_in_sync_code() done" in repr(task)
        assert "result='done'" in repr(task)
        assert printed(task)[0] == []

    def printed(task: asyncio.Task[Any]) -> tuple[list[str], str]:
        text = io.StringIO()
        task.print_stack(file=text)
        return [frame.f_code.co_name for frame in task.get_stack()], text.getvalue()

    aio.run(main)


def test_a_task_prints_itself_while_it_runs(aio: Any) -> None:
    async def body() -> list[str]:
        await ensure_portal()
        return sync()

    def sync() -> list[str]:
        sync_step(aio)
        task = asyncio.current_task()
        assert task is not None
        assert "running at" in repr(task) and "body()" in repr(task)
        return [frame.f_code.co_name for frame in task.get_stack()]

    async def main() -> list[str]:
        return await asyncio.create_task(body())

    assert aio.run(main)[-1] == "body"


def test_trio_walks_the_frames_of_a_task(trio_loop: Any) -> None:
    async def main() -> None:
        first, second = trio_loop.event(), trio_loop.event()
        async with trio_loop.own_tasks() as spawn_own:
            task = spawn_own(idle_then_in_sync_code, first, second)
            await settle(trio_loop)
            assert walked(task)[:2] == ["idle_then_in_sync_code", "sleeps"]
            first.set()
            await settle(trio_loop)
            assert walked(task)[:2] == ["sync_sleeps", "sleeps"]
            second.set()

    def walked(task: Any) -> list[str]:
        return [frame.f_code.co_name for frame, line in task.iter_await_frames() if line > 0]

    trio_loop.run(main)


@pytest.mark.skipif(not hasattr(asyncio, "capture_call_graph"), reason="came with 3.14")
def test_asyncio_captures_its_call_graph(aio: Any) -> None:
    def names(task: Any) -> list[str]:
        graph = asyncio.capture_call_graph(task)  # type: ignore[attr-defined]
        return [entry.frame.f_code.co_name for entry in graph.call_stack]

    async def main() -> None:
        first, second = asyncio.Event(), asyncio.Event()
        task = asyncio.create_task(idle_then_in_sync_code(first, second))
        await settle(aio)
        assert {"idle_then_in_sync_code", "sleeps"} <= set(names(task))
        first.set()
        await settle(aio)
        assert {"sync_sleeps", "sleeps"} <= set(names(task))
        second.set()
        await task

    aio.run(main)


@needs_callers
def test_sync_code_sees_its_callers_up_to_the_loop(loop: Any, enter: Enter) -> None:
    def sync() -> list[str]:
        sync_step(loop)
        return chain(sys._getframe())

    async def below() -> list[str]:
        return sync()

    async def body() -> list[str]:
        return await below()

    names = loop.run(enter, loop, body)
    assert contains_in_order(names, ["sync", "below", "body", enter.__name__])
    if loop.name != "uvloop":  # which steps tasks from C
        assert contains_in_order(names, [enter.__name__, "run"])
    assert not [name for name in names if name in ("async_def", "ensure_portal")]


def test_asyncios_debug_mode(aio: Any, enter: Enter, caplog: pytest.LogCaptureFixture) -> None:
    async def body() -> object:
        loop = asyncio.get_running_loop()
        loop.set_debug(True)
        loop.slow_callback_duration = 0.0  # logs every step, with the task's repr
        for _ in range(3):
            sync_step(aio)
            await aio.checkpoint()
        return sync_step(aio, "waited")

    assert aio.run(enter, aio, body) == "waited"
    if aio.name == "asyncio":
        assert "coro=<by_" in caplog.text


# --- other kinds of tasks ----------------------------------------------------


class WithSlots(CTask):
    __slots__ = ("extra", "more")


class WithFields(CTask):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.extra = "extra"
        super().__init__(*args, **kwargs)


class Lies(CTask):
    def get_coro(self) -> Any:
        return None


class Mixin:
    __slots__ = ()

    def greet(self) -> str:
        return "hello"


class Mixed(Mixin, WithFields, CTask): ...


class InPython(PyTask):
    def get_coro(self) -> Any:
        return None


def running_task() -> Any:
    """From 3.14 on `asyncio.current_task` does not know the tasks written in Python."""
    task = asyncio.current_task()
    if task is None and sys.version_info >= (3, 14):
        task = asyncio.tasks._py_current_task()  # type: ignore[attr-defined]
    return task


KINDS = [CTask, WithSlots, WithFields, Lies, Mixed, PyTask, InPython]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_kind_of_task(aio: Any, kind: Any) -> None:
    def factory(loop: Any, coro: Any, **options: Any) -> Any:
        return kind(coro, loop=loop, **options)

    async def body() -> list[object]:
        assert type(running_task()) is kind
        await ensure_portal()
        seen: list[object] = [has_portal(running_task())]
        for n in range(3):
            seen.append(sync_step(aio, n))
            await aio.checkpoint()
        return seen

    async def waits(event: asyncio.Event) -> object:
        await event.wait()
        return sync_step(aio, "bestowed")

    async def fails() -> None:
        await ensure_portal()
        try:
            await_(asyncio.Event().wait())
        except asyncio.CancelledError:
            raise KeyError("cancelled in sync code") from None

    async def main() -> None:
        asyncio.get_running_loop().set_task_factory(factory)
        assert await asyncio.create_task(body()) == [True, 0, 1, 2]
        event = asyncio.Event()
        task = asyncio.create_task(waits(event))
        await settle(aio)
        assert not has_portal(task)
        bestow_portal(task)
        bestow_portal(task)
        assert has_portal(task)
        event.set()
        assert await task == "bestowed"
        failing = asyncio.create_task(fails())
        await settle(aio)
        failing.cancel()
        with pytest.raises(KeyError, match="cancelled in sync code"):
            await failing

    aio.run(main)


def test_a_task_made_by_hand_in_python_from_scratch(aio: Any) -> None:
    """asyncio knows a future by an attribute; whoever keeps `_coro` as well is a task."""

    class Scratch(asyncio.Future):  # type: ignore[type-arg]
        def __init__(self, coro: Any) -> None:
            super().__init__()
            self._coro = coro
            self.get_loop().call_soon(self.step)

        def step(self) -> None:
            try:
                self._coro.send(None)
            except StopIteration as end:
                self.set_result(end.value)
            else:
                self.get_loop().call_soon(self.step)

    async def body() -> object:
        return await_(two_steps())

    async def two_steps() -> str:
        await suspend()
        await suspend()
        return "waited"

    async def main() -> object:
        task = Scratch(body())
        assert not has_portal(task)
        bestow_portal(task)
        assert has_portal(task)
        return await task

    assert aio.run(main) == "waited"


# --- context variables -------------------------------------------------------

var: contextvars.ContextVar[object] = contextvars.ContextVar("var")


def test_sync_code_shares_the_tasks_context(loop: Any, enter: Enter) -> None:
    def sync() -> None:
        assert var.get() == "task"
        var.set("sync")
        await_(below())
        assert var.get() == "below"
        token = var.set("sync again")
        sync_step(loop)
        var.reset(token)
        assert var.get() == "below"

    async def below() -> None:
        assert var.get() == "sync"
        await loop.checkpoint()
        assert var.get() == "sync"
        var.set("below")

    async def body() -> None:
        var.set("task")
        sync()
        assert var.get() == "below"
        await loop.checkpoint()
        assert var.get() == "below"

    async def outermost() -> None:
        await enter(loop, body)
        assert var.get() == "below"

    loop.run(outermost)


def test_tasks_with_portals_keep_their_contexts_apart(loop: Any) -> None:
    async def body(number: int) -> None:
        await ensure_portal()
        assert var.get() == "parent"
        for _ in range(3):
            var.set(number)
            sync_step(loop)
            assert var.get() == number
            await loop.checkpoint()
            assert var.get() == number
        ended.append(number)

    async def main() -> None:
        var.set("parent")
        async with loop.own_tasks() as spawn_own:
            for number in range(20):
                spawn_own(body, number)
        assert var.get() == "parent"

    ended: list[int] = []
    loop.run(main)
    assert sorted(ended) == list(range(20))


# --- where a task written in C keeps its coroutine ---------------------------


@pytest.fixture
def made_task() -> Iterator[tuple[Any, Any]]:
    """A task that was never stepped, and its coroutine."""
    loop = asyncio.new_event_loop()
    coro = value("result")
    task = CTask(coro, loop=loop)
    yield task, coro
    loop.run_until_complete(task)
    loop.close()


def test_the_field_is_found(made_task: Any) -> None:
    task, coro = made_task
    index = _engine.find_field(CTask, task, coro)
    assert isinstance(index, int)
    assert _engine.find_field(CTask, task, object()) is None


def test_a_second_match_is_no_match() -> None:
    class LoopAndCoroutine:
        """Two words of its task refer to it."""

        def __init__(self) -> None:
            self.coroutine = value(None)

        def __getattr__(self, name: str) -> Any:
            return getattr(self.coroutine, name)

        def __await__(self) -> Any:
            return self.coroutine.__await__()

        def get_debug(self) -> bool:
            return False

        def call_soon(self, *args: Any, **kwargs: Any) -> None: ...

        def call_exception_handler(self, context: Any) -> None: ...

        send = throw = close = None

    collections.abc.Coroutine.register(LoopAndCoroutine)
    both = LoopAndCoroutine()
    task = CTask(both, loop=both)
    task._log_destroy_pending = False
    assert _engine.find_field(CTask, task, both) is None
    both.coroutine.close()


def test_the_field_is_changed_only_if_it_holds_what_it_should(made_task: Any) -> None:
    task, coro = made_task
    index = _engine.find_field(CTask, task, coro)
    assert index is not None
    other = value("other")
    references = sys.getrefcount(other)
    for wrong_index, old in ((index, other), (index + 1, coro), (0, coro), (10**9, coro)):
        assert _engine.swap_field(CTask, task, wrong_index, old, other) is False
        assert task.get_coro() is coro
    assert sys.getrefcount(other) == references

    assert _engine.swap_field(CTask, task, index, coro, other) is True
    assert task.get_coro() is other
    assert sys.getrefcount(other) == references + 1
    assert _engine.swap_field(CTask, task, index, other, coro) is True
    assert task.get_coro() is coro
    assert sys.getrefcount(other) == references
    other.close()


def test_the_field_of_something_else_is_a_type_error(made_task: Any) -> None:
    task, coro = made_task
    index = _engine.find_field(CTask, task, coro)
    assert index is not None
    for kind, candidate in ((CTask, object()), (CTask, None), (PyTask, task), (3, task)):
        with pytest.raises(TypeError):
            _engine.find_field(kind, candidate, coro)
        with pytest.raises(TypeError):
            _engine.swap_field(kind, candidate, index, coro, coro)
    with pytest.raises(TypeError):
        _engine.swap_field(CTask, task, "1", coro, coro)  # type: ignore[arg-type]
    with pytest.raises(OverflowError):
        _engine.swap_field(CTask, task, -1, coro, coro)
    with pytest.raises(TypeError):
        _engine.swap_field(CTask, task, index, coro)  # type: ignore[call-arg]
    with pytest.raises(TypeError):
        _engine.find_field(CTask, task)  # type: ignore[call-arg]
    assert task.get_coro() is coro


def test_a_field_that_is_not_found_is_a_clear_error(
    aio: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from verdigris import loops

    async def main() -> str:
        task = asyncio.current_task()
        assert task is not None
        before = task.get_coro()
        host = loops.host_of(task)
        monkeypatch.setattr(_engine, "find_field", lambda *arguments: None)
        monkeypatch.setattr(host, "_field", None)
        with pytest.raises(RuntimeError, match=r"Could not find .* with_portal_run\(\)"):
            await ensure_portal()
        monkeypatch.setattr(host, "_field", 10**9)
        with pytest.raises(RuntimeError, match=r"is not where .* with_portal_run\(\)"):
            await ensure_portal()
        assert task.get_coro() is before
        assert not has_portal()
        return await with_portal_run(as_advised)

    async def as_advised() -> str:
        return sync_step(aio, "as advised")

    assert aio.run(main) == "as advised"


# --- memory ------------------------------------------------------------------


class Thing:
    """Something to hold a weak reference to."""


@pytest.mark.parametrize(
    "where", ["natively", pytest.param("in sync code", marks=needs_thread_state)]
)
def test_a_task_in_a_cycle_is_collected(where: str) -> None:
    """Nobody holds the future it waits for, so nobody can ever wake it."""
    loop = asyncio.new_event_loop()
    loop.set_exception_handler(lambda loop, context: messages.append(context["message"]))
    messages: list[str] = []
    steps: list[str] = []
    refs: list[weakref.ref[Any]] = []

    def sync_waits(box: list[Any]) -> None:
        try:
            await_(box[0])
        finally:
            steps.append("sync finally")

    async def body() -> None:
        thing = Thing()
        box = [asyncio.get_running_loop().create_future(), asyncio.current_task(), thing]
        thing.box = box  # type: ignore[attr-defined]
        refs.append(weakref.ref(thing))
        await ensure_portal()
        refs.append(weakref.ref(_engine.current_portal()))
        try:
            if where == "natively":
                await box[0]  # type: ignore[misc]
            else:
                sync_waits(box)
        except GeneratorExit:
            steps.append("GeneratorExit")
            raise
        finally:
            steps.append("finally")

    task = loop.create_task(body())
    for _ in range(5):
        loop.run_until_complete(asyncio.sleep(0))
    assert has_portal(task) and len(refs) == 2
    in_use = _engine.stats()["stacks_in_use"]
    del task
    gc.collect()
    inner = ["sync finally"] if where == "in sync code" else []
    assert steps == [*inner, "GeneratorExit", "finally"]
    assert [ref() for ref in refs] == [None, None]
    assert messages == ["Task was destroyed but it is pending!"]
    assert _engine.stats()["stacks_in_use"] == in_use - len(inner)
    loop.close()


def test_abandoned_while_sync_code_waits_it_is_unwound() -> None:
    steps: list[str] = []

    def sync_waits() -> None:
        try:
            await_(suspend())
        except GeneratorExit:
            steps.append("GeneratorExit")
            raise
        finally:
            steps.append("sync finally")

    async def body() -> None:
        try:
            sync_waits()
        finally:
            steps.append("finally")

    in_use = _engine.stats()["stacks_in_use"]
    portal = _engine.portal(body())
    portal.send(None)
    assert _engine.stats()["stacks_in_use"] == in_use + 1
    ref = weakref.ref(portal)
    del portal
    assert steps == ["GeneratorExit", "sync finally", "finally"]
    assert ref() is None
    assert _engine.stats()["stacks_in_use"] == in_use


def test_abandoned_with_portal_run_is_unwound() -> None:
    steps: list[str] = []

    async def program() -> None:
        try:
            await_(suspend())
        finally:
            steps.append("finally")

    coro = with_portal_run(program)
    coro.send(None)
    del coro
    assert steps == ["finally"]


@needs_thread_state
def test_a_portal_in_a_cycle_with_its_own_coroutine_is_collected() -> None:
    refs: list[weakref.ref[Any]] = []

    async def body(box: list[Any], waits: Callable[[], Any]) -> None:
        thing = Thing()
        thing.box = box  # type: ignore[attr-defined]
        refs.append(weakref.ref(thing))
        waits()
        await suspend()

    for waits in (lambda: None, lambda: await_(suspend())):
        box: list[Any] = []
        box.append(_engine.portal(body(box, waits)))
        box[0].send(None)
        refs.append(weakref.ref(box[0]))
    del box
    assert None not in [ref() for ref in refs]
    gc.collect()
    assert [ref() for ref in refs] == [None] * 4


def test_what_a_waiting_portal_holds_is_not_collected() -> None:
    shared = Thing()

    def sync_waits(thing: Thing) -> bool:
        local = thing
        await_(suspend())
        return local is thing

    async def body(thing: Thing) -> bool:
        await suspend()
        return sync_waits(thing) and thing is shared

    portals = [_engine.portal(body(shared)) for _ in range(50)]
    for portal in portals:
        portal.send(None)
    for portal in portals[::2]:
        portal.send(None)
    references = sys.getrefcount(shared)
    for _ in range(3):
        gc.collect()
    assert sys.getrefcount(shared) == references
    assert all(finish(portal) for portal in portals)


def test_a_thousand_portal_tasks_leave_nothing_behind(loop: Any) -> None:
    refs: list[weakref.ref[Any]] = []

    async def body(number: int) -> None:
        await ensure_portal()
        refs.append(weakref.ref(_engine.current_portal()))
        refs.append(weakref.ref(loop.current_task()))
        refs.append(weakref.ref(loop.coroutine_of(loop.current_task()).coroutine))
        if number % 2:
            sync_step(loop)
        if number % 3 == 0:
            await loop.checkpoint()

    async def main() -> None:
        async with loop.own_tasks() as spawn_own:
            for number in range(1000):
                spawn_own(body, number)
        assert _engine.stats()["stacks_in_use"] == in_use

    in_use = _engine.stats()["stacks_in_use"]
    loop.run(main)
    gc.collect()
    assert len(refs) == 3000
    assert [ref for ref in refs if ref() is not None] == []


def test_references_stay_flat() -> None:
    async def body() -> None:
        await ensure_portal()
        await_(value(1))

    async def waits() -> None:
        await ensure_portal()
        await_(asyncio.sleep(0))

    async def runs() -> None:
        await with_portal_run(asyncio.sleep, 0)
        await with_portal_run_sync(sync)

    def sync() -> None:
        await_(value(1))

    shared = [PortalCoroutine, GreenCoroutine, CTask, body, body.__code__, waits, runs, sync]
    shared += [ensure_portal, ensure_portal.__code__, value.__code__]
    loop = asyncio.new_event_loop()

    def rounds(number: int) -> None:
        async def main() -> None:
            for _ in range(number):
                for fn in (body, waits, runs):
                    await loop.create_task(fn())

        loop.run_until_complete(main())
        gc.collect()

    def counted() -> tuple[list[int], int]:
        return [sys.getrefcount(thing) for thing in shared], sys.getallocatedblocks()

    references, blocks = [], []
    try:
        rounds(100)
        # The second time shows whether what the first one took was only warming up.
        for _ in range(2):
            before = counted()
            rounds(10_000)
            after = counted()
            references.append(max(abs(b - a) for a, b in zip(before[0], after[0], strict=True)))
            blocks.append(after[1] - before[1])
    finally:
        loop.close()
    # A few are kept in free lists and caches.
    assert min(references) < 50 and min(blocks) < 200, (references, blocks)


def test_idle_tasks_hold_no_stack(loop: Any) -> None:
    async def body(first: Any, second: Any, third: Any) -> None:
        await ensure_portal()
        await first.wait()
        await_(second.wait())
        await third.wait()

    def in_use() -> int:
        return _engine.stats()["stacks_in_use"] - before

    async def main() -> list[int]:
        seen = []
        events = [loop.event() for _ in range(3)]
        async with loop.own_tasks() as spawn_own:
            tasks = [spawn_own(body, *events) for _ in range(100)]
            seen.append(in_use())
            for event in events:
                await settle(loop)
                assert all(has_portal(task) for task in tasks)
                seen.append(in_use())
                event.set()
        seen.append(in_use())
        return seen

    before = _engine.stats()["stacks_in_use"]
    assert loop.run(main) == [0, 0, 100, 0, 0]
