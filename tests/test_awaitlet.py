"""`verdigris.compat.awaitlet` passes what the package awaitlet checks of itself.

Its own tests, rewritten (the SQLAlchemy ones belong to the greenlet chapter),
then its documented guarantees and exact texts.
"""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import random
from typing import Any

import pytest
from hand_driver import finish, suspend

import verdigris
from verdigris.compat import awaitlet as compat
from verdigris.compat.awaitlet import (
    NoAwaitletContext,
    NoAwaitOccurred,
    async_def,
    awaitlet,
)


async def run1() -> int:
    return 1


async def run2() -> int:
    return 2


def go(*fns: Any) -> int:
    return sum(awaitlet(fn()) for fn in fns)


# --- its own suite -----------------------------------------------------------


def test_ok(aio: Any) -> None:
    assert aio.run(async_def, go, run1, run2) == 3


def test_async_error(aio: Any) -> None:
    async def err() -> None:
        raise ValueError("an error")

    with pytest.raises(ValueError, match="an error"):
        aio.run(async_def, go, run1, err)


def test_propagate_cancelled(aio: Any) -> None:
    cleanup = []

    async def async_meth_raise() -> None:
        raise asyncio.CancelledError

    def sync_meth() -> None:
        try:
            awaitlet(async_meth_raise())
        except BaseException:
            cleanup.append(True)
            raise

    async def main() -> None:
        with pytest.raises(asyncio.CancelledError):
            await async_def(sync_meth)

    aio.run(main)
    assert cleanup


def test_sync_error(aio: Any) -> None:
    def fails() -> None:
        awaitlet(run1())
        raise ValueError("sync error")

    with pytest.raises(ValueError, match="sync error"):
        aio.run(async_def, fails)


def test_awaitlet_without_async_def(aio: Any) -> None:
    async def main() -> None:
        to_await = run1()
        with pytest.raises(NoAwaitletContext):
            awaitlet(to_await)
        # It was closed, so it is done.
        with pytest.raises(RuntimeError):
            await async_def(awaitlet, to_await)
        # And a fresh one works, without a warning.
        assert await async_def(awaitlet, run1()) == 1

    aio.run(main)


def test_nesting_works_here(aio: Any) -> None:
    """There: NoAwaitletContext. "awaitlet() calls cannot be nested" ends here."""

    async def inner_await() -> int:
        return awaitlet(run1())

    assert aio.run(async_def, lambda: awaitlet(inner_await())) == 1


def test_contextvars(aio: Any) -> None:
    var: contextvars.ContextVar[int] = contextvars.ContextVar("var")
    concurrency = 500

    async def async_inner(val: int) -> int:
        await asyncio.sleep(random.uniform(0.005, 0.015))
        assert val == var.get()
        return var.get()

    async def async_set(val: int) -> None:
        await asyncio.sleep(random.uniform(0.005, 0.015))
        var.set(val)

    def inner(val: int) -> int:
        retval = awaitlet(async_inner(val))
        assert val == var.get() == retval
        newval = val + concurrency
        var.set(newval)
        syncset = awaitlet(async_inner(newval))
        assert newval == var.get() == syncset
        retval = val + 2 * concurrency
        awaitlet(async_set(retval))
        assert var.get() == retval
        assert awaitlet(async_inner(retval)) == retval
        return retval

    async def task(val: int) -> int:
        await asyncio.sleep(random.uniform(0.005, 0.015))
        var.set(val)
        await asyncio.sleep(random.uniform(0.005, 0.015))
        return await async_def(inner, val)

    async def main() -> set[int]:
        return {await coro for coro in asyncio.as_completed([task(i) for i in range(concurrency)])}

    assert aio.run(main) == set(range(concurrency * 2, concurrency * 3))


def test_require_await(aio: Any) -> None:
    def run() -> int:
        return 1 + 1

    assert aio.run(async_def, run) == 2

    async def main() -> None:
        with pytest.raises(NoAwaitOccurred):
            await async_def(run, assert_await_occurs=True)
        assert await async_def(go, run1, assert_await_occurs=True) == 1

    aio.run(main)


# --- names, texts, signatures ------------------------------------------------


def test_has_its_names_and_no_others() -> None:
    assert sorted(compat.__all__) == [
        "NoAwaitOccurred",
        "NoAwaitletContext",
        "async_def",
        "awaitlet",
    ]


def test_says_what_it_says() -> None:
    with pytest.raises(NoAwaitletContext) as caught:
        awaitlet(run1())
    assert str(caught.value) == (
        "Can't call awaitlet() unless the call stack was invoked with async_def()."
    )
    with pytest.raises(NoAwaitOccurred) as occurred:
        finish(async_def(int, assert_await_occurs=True))
    assert str(occurred.value) == "Function was run but no await was called."


def test_errors_are_ours_too() -> None:
    """Code that moves over bit by bit may catch either name."""
    assert issubclass(NoAwaitletContext, verdigris.NoAwaitContext)
    assert issubclass(NoAwaitOccurred, verdigris.NoAwaitOccurred)


def test_parameters_have_its_names() -> None:
    parameters = inspect.signature(async_def).parameters
    assert list(parameters) == ["fn", "args", "assert_await_occurs", "kwargs"]
    assert parameters["assert_await_occurs"].default is False
    assert list(inspect.signature(awaitlet).parameters) == ["awaitable"]
    assert asyncio.run(async_def(go, run1)) == 1


def test_async_def_passes_for_the_coroutine_function_it_was() -> None:
    assert inspect.iscoroutinefunction(async_def) or asyncio.iscoroutinefunction(async_def)


def test_a_future_is_left_alone(aio: Any) -> None:
    async def main() -> None:
        future = asyncio.get_running_loop().create_future()
        with pytest.raises(NoAwaitletContext):
            awaitlet(future)
        assert not future.cancelled() and not future.done()

    aio.run(main)


def test_any_base_exception_is_raised_at_the_call() -> None:
    class Unheard(BaseException): ...

    async def fails() -> None:
        await suspend()
        raise Unheard

    def f() -> str:
        try:
            awaitlet(fails())
        except Unheard:
            return "heard"
        return "never"

    assert finish(async_def(f)) == "heard"


def test_an_error_from_deeper_down_keeps_its_own_text() -> None:
    """Only a missing context of this very call is reworded."""

    async def refused_elsewhere() -> None:
        raise verdigris.NoAwaitContext("from elsewhere")

    with pytest.raises(verdigris.NoAwaitContext, match="from elsewhere") as caught:
        finish(async_def(lambda: awaitlet(refused_elsewhere())))
    assert type(caught.value) is verdigris.NoAwaitContext


def test_is_no_decorator() -> None:
    with pytest.raises(TypeError):
        finish(async_def(lambda: awaitlet(run1)))  # type: ignore[arg-type]


def test_both_faces_work_on_one_stack() -> None:
    assert finish(verdigris.async_def(go, run1, run2)) == 3
    assert finish(async_def(lambda: verdigris.await_(run1()))) == 1
