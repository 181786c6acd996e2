"""`await_` with nothing to await in: the coroutine is closed, the error helps."""

from __future__ import annotations

import asyncio
import gc
import inspect
import re
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from hand_driver import finish, suspend, value

from verdigris import NoAwaitContext, async_def, await_, can_await

NO_LOOP = re.compile(r"no event loop is running|no running event loop", re.IGNORECASE)


def refused(awaitable: Any) -> str:
    """The text of the error that `await_` raises here."""
    with pytest.raises(NoAwaitContext) as caught:
        await_(awaitable)
    return str(caught.value)


def test_is_a_runtime_error() -> None:
    assert issubclass(NoAwaitContext, RuntimeError)


def test_without_a_loop_the_message_says_so_and_what_to_do() -> None:
    message = refused(value(1))
    assert NO_LOOP.search(message), message
    assert "async_def" in message


def test_the_coroutine_is_closed() -> None:
    coro = value(1)
    refused(coro)
    assert inspect.getcoroutinestate(coro) == inspect.CORO_CLOSED
    green = async_def(lambda: 1)
    refused(green)
    assert inspect.getcoroutinestate(green) == inspect.CORO_CLOSED
    # Warnings are errors: neither may say "never awaited" now.
    gc.collect()


def test_futures_and_tasks_are_left_alone(aio: Any) -> None:
    async def main() -> None:
        future = asyncio.get_running_loop().create_future()
        task = asyncio.create_task(asyncio.sleep(0, "task"))
        refused(future)
        refused(task)
        assert not future.done() and not task.done()
        future.set_result("future")
        assert [await future, await task] == ["future", "task"]

    aio.run(main)


def test_in_a_plain_task_the_message_names_the_function_and_the_line(loop: Any) -> None:
    def entered_without_async_def(coro: Any) -> str:
        return refused_deeper(coro)

    def refused_deeper(coro: Any) -> str:
        return refused(coro)

    async def main() -> tuple[str, int]:
        await loop.checkpoint()
        line = sys._getframe().f_lineno + 1
        return entered_without_async_def(value(1)), line

    message, line = loop.run(main)
    assert "entered_without_async_def" in message
    assert "refused_deeper" not in message
    defined = entered_without_async_def.__code__.co_firstlineno
    lines = {int(n) for n in re.findall(r"(?:line |:)(\d+)", message)}
    assert lines & {line, defined, defined + 1}, message
    assert "async_def" in message
    assert not NO_LOOP.search(message)


def test_straight_in_a_coroutine_the_message_says_await(loop: Any) -> None:
    async def straight() -> str:
        return refused(value(1))

    assert "async_def" in loop.run(straight)


def test_every_way_out_of_a_green_function_has_no_context(loop: Any) -> None:
    """A task, a thread, and a callback started from one are not inside it."""

    def f() -> None:
        assert can_await()

        def in_a_thread() -> None:
            threaded.append(refused(value(1)))

        threaded: list[str] = []
        thread = threading.Thread(target=in_a_thread)
        thread.start()
        thread.join()
        assert NO_LOOP.search(threaded[0])

        async def plain() -> str:
            return refused(value(1))

        async def in_a_task() -> Any:
            async with loop.tasks() as start:
                task = start(plain)
            return await task.wait()

        assert "async_def" in await_(in_a_task()).value

    loop.run(async_def, f)


def test_a_loop_callback_has_no_context(aio: Any) -> None:
    messages: list[str] = []

    def f() -> None:
        asyncio.get_running_loop().call_soon(lambda: messages.append(refused(value(1))))
        await_(asyncio.sleep(0.001))

    aio.run(async_def, f)
    assert len(messages) == 1


def test_the_callback_is_named_and_not_what_started_the_loop(aio: Any) -> None:
    messages: list[str] = []

    def rings() -> None:
        messages.append(refused(value(1)))

    async def main() -> None:
        asyncio.get_running_loop().call_soon(rings)
        await asyncio.sleep(0.001)

    aio.run(main)
    assert "'rings'" in messages[0]
    assert "create_task(async_def(rings" in messages[0]


def test_a_worker_thread_has_no_context(aio: Any) -> None:
    def f() -> str:
        return await_(asyncio.to_thread(refused, value(1)))

    assert NO_LOOP.search(aio.run(async_def, f))


def test_a_generator_of_another_task_has_no_context(loop: Any) -> None:
    """Made inside a green function, run by a plain task: the task decides."""

    def numbers() -> Iterator[object]:
        yield await_(value("inside"))
        yield refused(value("outside"))

    def f() -> Iterator[object]:
        made = numbers()
        assert next(made) == "inside"
        return made

    async def main() -> object:
        made = await async_def(f)
        return next(made)

    assert "async_def" in loop.run(main)


def test_while_another_function_is_suspended() -> None:
    other = async_def(lambda: await_(suspend()))
    other.send(None)
    refused(value(1))
    assert not can_await()
    other.close()


def test_the_function_can_wait_again_after_an_error_elsewhere(loop: Any) -> None:
    def f(event: Any) -> str:
        await_(event.wait())
        return "woken"

    async def main() -> Any:
        event = loop.event()
        async with loop.tasks() as start:
            task = start(async_def, f, event)
            await loop.checkpoint()
            refused(value(1))
            event.set()
        return (await task.wait()).value

    assert loop.run(main) == "woken"


def test_can_await_tells_beforehand(loop: Any) -> None:
    seen: dict[str, bool] = {"no loop": can_await()}

    def f() -> None:
        seen["green"] = can_await()
        await_(loop.checkpoint())
        seen["green after a wait"] = can_await()
        await_(nested())

    async def nested() -> None:
        seen["coroutine driven by await_"] = can_await()
        await loop.checkpoint()
        seen["and after a wait"] = can_await()

    async def main() -> None:
        seen["plain task"] = can_await()
        await async_def(f)
        seen["plain task afterwards"] = can_await()

    loop.run(main)
    assert seen == {
        "no loop": False,
        "plain task": False,
        "green": True,
        "green after a wait": True,
        "coroutine driven by await_": True,
        "and after a wait": True,
        "plain task afterwards": False,
    }


def test_a_type_error_comes_before_a_missing_context() -> None:
    with pytest.raises(TypeError):
        await_(3)  # type: ignore[call-overload]


def test_the_error_carries_no_frames_of_ours_but_one() -> None:
    with pytest.raises(NoAwaitContext) as caught:
        await_(value(1))
    ours = [entry for entry in caught.traceback if "verdigris" in str(entry.path.parent.name)]
    assert len(ours) <= 1


def test_driven_by_hand_there_is_a_context() -> None:
    assert finish(async_def(can_await)) is True
