"""Context variables: the function shares the context of whoever drives it."""

from __future__ import annotations

import asyncio
import contextvars
import random
from typing import Any

import pytest
from hand_driver import finish, suspend

from verdigris import async_def, await_

var: contextvars.ContextVar[object] = contextvars.ContextVar("var")


def test_shared_with_the_caller_both_ways(loop: Any) -> None:
    def f() -> None:
        assert var.get() == "caller"
        var.set("function")
        await_(coroutine())
        assert var.get() == "coroutine"
        var.set("function again")

    async def coroutine() -> None:
        assert var.get() == "function"
        await loop.checkpoint()
        var.set("coroutine")

    async def main() -> None:
        var.set("caller")
        await async_def(f)
        assert var.get() == "function again"

    loop.run(main)


def test_a_task_has_its_own_copy(loop: Any) -> None:
    def f(n: int) -> None:
        assert var.get() == "parent"
        for _ in range(3):
            var.set(n)
            await_(loop.checkpoint())
            assert var.get() == n

    async def main() -> None:
        var.set("parent")
        async with loop.tasks() as start:
            tasks = [start(async_def, f, n) for n in range(20)]
        for task in tasks:
            outcome = await task.wait()
            assert outcome.error is None
        assert var.get() == "parent"

    loop.run(main)


def test_a_token_can_be_reset_after_a_wait() -> None:
    def f() -> None:
        token = var.set("inside")
        await_(suspend())
        var.reset(token)

    var_before = var.get(None)
    finish(async_def(f))
    assert var.get(None) == var_before


def test_a_context_stays_open_across_a_wait() -> None:
    """Edge: `Context.run` below, the driver's own context above."""
    inside = contextvars.copy_context()

    def f() -> list[object]:
        inside.run(var.set, "inside")
        seen = [inside.run(within)]
        seen.append(var.get(None))
        return seen

    def within() -> object:
        before = var.get()
        await_(suspend("inside"))
        assert var.get() is before
        await_(suspend("inside"))
        return var.get()

    def drive() -> None:
        var.set("driver")
        coro = async_def(f)
        assert coro.send(None) == "inside"
        assert var.get() == "driver"
        assert coro.send(None) == "inside"
        assert var.get() == "driver"
        with pytest.raises(StopIteration) as end:
            coro.send(None)
        assert end.value.value == ["inside", "driver"]
        assert var.get() == "driver"

    contextvars.copy_context().run(drive)


def test_the_drivers_context_may_change_meanwhile() -> None:
    """Each step runs in the context of who drives that step, as native code does."""

    async def native() -> list[object]:
        seen = [var.get()]
        await suspend()
        seen.append(var.get())
        await suspend()
        return [*seen, var.get()]

    def green() -> list[object]:
        seen = [var.get()]
        await_(suspend())
        seen.append(var.get())
        await_(suspend())
        return [*seen, var.get()]

    def in_three_contexts(coro: Any) -> object:
        def step(name: str) -> object:
            var.set(name)
            try:
                return coro.send(None)
            except StopIteration as end:
                return end.value

        for name in ("one", "two"):
            contextvars.copy_context().run(step, name)
        return contextvars.copy_context().run(step, "three")

    assert in_three_contexts(native()) == ["one", "two", "three"]
    assert in_three_contexts(async_def(green)) == ["one", "two", "three"]


def test_the_drivers_context_changes_while_one_is_open_on_the_stack() -> None:
    """The sharpest edge: closing the inner context must find the right outer one."""

    def f() -> list[object]:
        seen: list[object] = [var.get()]
        contextvars.copy_context().run(within, seen)
        seen.append(var.get())
        return seen

    def within(seen: list[object]) -> None:
        var.set("inner")
        await_(suspend())
        seen.append(var.get())

    coro = async_def(f)

    def step(name: str) -> object:
        var.set(name)
        try:
            coro.send(None)
        except StopIteration as end:
            assert var.get() == name
            return end.value
        assert var.get() == name
        return None

    contextvars.copy_context().run(step, "first driver")
    seen = contextvars.copy_context().run(step, "second driver")
    assert seen[:2] == ["first driver", "inner"]
    # As with `await` in native code, what it sees is a driver's, never "inner".
    assert seen[2] in ("first driver", "second driver")


def test_a_context_open_on_a_suspended_stack_cannot_be_entered_again() -> None:
    shared = contextvars.copy_context()
    coro = async_def(lambda: shared.run(lambda: await_(suspend())))
    coro.send(None)
    with pytest.raises(RuntimeError, match="already entered"):
        shared.run(lambda: None)
    coro.close()
    assert shared.run(lambda: "entered") == "entered"


def test_two_functions_interleave_with_contexts_open() -> None:
    def f(name: str, depth: int) -> object:
        if depth == 0:
            var.set(name)
            for _ in range(3):
                await_(suspend())
                assert var.get() == name
            return var.get()
        return contextvars.copy_context().run(f, name, depth - 1)

    def drive() -> None:
        var.set("driver")
        coros = {name: async_def(f, name, 3) for name in ("a", "b", "c")}
        order = list(coros) * 3
        random.Random(1).shuffle(order)
        for name in order:
            coros[name].send(None)
            assert var.get() == "driver"
        for name, coro in coros.items():
            with pytest.raises(StopIteration) as end:
                coro.send(None)
            assert end.value.value == name
            assert var.get() == "driver"

    contextvars.copy_context().run(drive)


def test_closing_with_a_context_open_puts_the_drivers_back() -> None:
    def f() -> None:
        contextvars.copy_context().run(within)

    def within() -> None:
        var.set("inner")
        await_(suspend())

    def drive() -> None:
        var.set("driver")
        for end in ("close", "throw", "drop"):
            coro = async_def(f)
            coro.send(None)
            if end == "close":
                coro.close()
            elif end == "throw":
                with pytest.raises(KeyError):
                    coro.throw(KeyError())
            del coro
            assert var.get() == "driver"

    contextvars.copy_context().run(drive)


def test_a_loop_callback_gets_the_functions_context(aio: Any) -> None:
    seen: list[object] = []

    def f() -> None:
        var.set("function")
        asyncio.get_running_loop().call_soon(lambda: seen.append(var.get()))
        await_(asyncio.sleep(0.001))

    aio.run(async_def, f)
    assert seen == ["function"]


def test_to_thread_sees_the_functions_context(aio: Any) -> None:
    def f() -> object:
        var.set("function")
        return await_(asyncio.to_thread(var.get))

    assert aio.run(async_def, f) == "function"
