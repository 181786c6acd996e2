"""`async_` makes a sync function one that async code awaits."""

from __future__ import annotations

import asyncio
import collections.abc
import contextvars
import inspect
import sys
from typing import Any

import pytest
from hand_driver import finish, suspend

from verdigris import async_, await_

var: contextvars.ContextVar[str] = contextvars.ContextVar("var")


@async_
def double(x: int, *, plus: int = 0) -> int:
    """Doubles."""
    return 2 * await_(suspend(x)) + plus


def echo(coro: Any) -> Any:
    return finish(coro, answer=lambda tag: tag)


def test_calling_gives_a_coroutine() -> None:
    coro = double(2)
    assert isinstance(coro, collections.abc.Coroutine)
    assert echo(coro) == 4
    assert echo(double(2, plus=1)) == 5
    assert echo(async_(lambda: 3)()) == 3


def test_looks_like_the_function_it_wraps() -> None:
    assert double.__name__ == "double"
    assert double.__doc__ == "Doubles."
    assert list(inspect.signature(double).parameters) == ["x", "plus"]
    assert double.__wrapped__.__code__.co_name == "double"  # type: ignore[attr-defined]


def test_frameworks_see_a_coroutine_function() -> None:
    if sys.version_info >= (3, 12):
        assert inspect.iscoroutinefunction(double)
    else:
        # inspect has no marker to set before 3.12.
        assert asyncio.iscoroutinefunction(double)


def test_on_methods() -> None:
    class Client:
        base = 10

        @async_
        def get(self, x: int) -> int:
            return self.base + await_(suspend(x))

        @classmethod
        @async_
        def of_class(cls, x: int) -> int:
            return cls.base + await_(suspend(x))

        @staticmethod
        @async_
        def static(x: int) -> int:
            return await_(suspend(x))

    assert echo(Client().get(1)) == 11
    assert echo(Client.of_class(2)) == 12
    assert echo(Client.static(3)) == 3


def test_in_every_loop(loop: Any) -> None:
    @async_
    def f(x: int) -> int:
        await_(loop.checkpoint())
        return x

    async def main() -> list[int]:
        async with loop.tasks() as start:
            tasks = [start(f, x) for x in range(10)]
        return [(await task.wait()).value for task in tasks]

    assert loop.run(main) == list(range(10))


def test_shares_the_context_by_default() -> None:
    @async_
    def f() -> None:
        assert var.get() == "caller"
        await_(suspend())
        var.set("function")

    def in_a_context() -> str:
        var.set("caller")
        finish(f())
        return var.get()

    assert contextvars.copy_context().run(in_a_context) == "function"


@pytest.mark.parametrize("fails", [False, True])
def test_with_context_runs_in_a_copy_and_writes_back(fails: bool) -> None:
    untouched: contextvars.ContextVar[str] = contextvars.ContextVar("untouched")

    @async_(with_context=True)
    def f() -> str:
        assert var.get() == "caller"
        await_(suspend())
        var.set("function")
        await_(suspend())
        if fails:
            raise KeyError("after setting")
        return var.get()

    def in_a_context() -> str:
        var.set("caller")
        untouched.set("before")
        coro = f()
        coro.send(None)
        coro.send(None)
        # Not yet: the function runs in a copy.
        assert var.get() == "caller"
        untouched.set("meanwhile")
        with pytest.raises(KeyError if fails else StopIteration):
            coro.send(None)
        assert untouched.get() == "meanwhile", "a value it never changed was written back"
        return var.get()

    assert contextvars.copy_context().run(in_a_context) == "function"


@pytest.mark.parametrize("wrong", [3, "text"])
def test_refuses_what_is_no_function(wrong: Any) -> None:
    with pytest.raises(TypeError, match=type(wrong).__name__):
        async_(wrong)


def test_refuses_what_is_async_already() -> None:
    async def already() -> None: ...

    with pytest.raises(TypeError, match="async already"):
        async_(already)
