"""What `async_def` makes: a coroutine, by all who ask, for all who take one."""

from __future__ import annotations

import asyncio
import collections.abc
import copy
import functools
import gc
import inspect
import sys
import warnings
import weakref
from typing import Any

import pytest
from hand_driver import finish, suspend, value

import verdigris
from verdigris import async_def, await_


def double(x: int) -> int:
    return 2 * x


def wait_once(tag: object = "tag") -> object:
    return await_(suspend(tag))


# --- what it is --------------------------------------------------------------


def test_is_a_coroutine_to_everyone_who_asks() -> None:
    coro = async_def(double, 2)
    assert isinstance(coro, collections.abc.Coroutine)
    assert isinstance(coro, collections.abc.Awaitable)
    assert inspect.isawaitable(coro)
    assert asyncio.iscoroutine(coro)
    assert asyncio.isfuture(coro) is False
    coro.close()


def test_bears_the_name_of_its_function() -> None:
    def local() -> None: ...

    coro = async_def(local)
    assert coro.__name__ == "local"
    assert coro.__qualname__ == "test_bears_the_name_of_its_function.<locals>.local"
    assert coro.__qualname__ in repr(coro)
    assert f"{id(coro):x}" in repr(coro)
    coro.close()


@pytest.mark.parametrize(
    "callable_",
    [functools.partial(double, 2), functools.partial(functools.partial(double), 2)],
    ids=["partial", "partial of a partial"],
)
def test_a_callable_without_a_name_still_has_one(callable_: Any) -> None:
    coro = async_def(callable_)
    assert isinstance(coro.__name__, str) and coro.__name__
    assert isinstance(coro.__qualname__, str) and coro.__qualname__
    assert finish(coro) == 4


def test_any_callable_will_do() -> None:
    class Adder:
        def __init__(self, base: int) -> None:
            self.base = base

        def add(self, x: int) -> int:
            return self.base + finish_value(x)

        def __call__(self, x: int) -> int:
            return self.add(x)

        @classmethod
        def build(cls, base: int) -> Adder:
            return cls(base)

        @staticmethod
        def static(x: int) -> int:
            return finish_value(x)

    def finish_value(x: int) -> int:
        return await_(value(x))

    assert finish(async_def(Adder(1).add, 2)) == 3
    assert finish(async_def(Adder(1), 2)) == 3
    assert finish(async_def(Adder.build, 5)).base == 5
    assert finish(async_def(Adder.static, 7)) == 7
    assert finish(async_def(len, "four")) == 4
    assert finish(async_def(dict, a=1)) == {"a": 1}


def test_passes_every_argument_on() -> None:
    def everything(*args: object, **kwargs: object) -> tuple[object, object]:
        return args, kwargs

    # `fn` is positional only, so the function may have an argument of that name.
    coro = async_def(everything, 1, 2, fn=3, other=4, assert_await_occurs=False)
    assert finish(coro) == ((1, 2), {"fn": 3, "other": 4})


def test_wrong_arguments_are_the_functions_own_type_error() -> None:
    coro = async_def(double)
    with pytest.raises(TypeError, match=r"double\(\) missing 1 required positional argument"):
        finish(coro)


@pytest.mark.parametrize("not_callable", [3, None, "double", object()])
def test_refuses_what_cannot_be_called(not_callable: Any) -> None:
    with pytest.raises(TypeError, match=type(not_callable).__name__):
        finish(async_def(not_callable))


def test_needs_a_function() -> None:
    with pytest.raises(TypeError):
        async_def()  # type: ignore[call-arg]


def test_cannot_be_made_derived_or_copied_behind_the_engines_back() -> None:
    coro = async_def(double, 2)
    kind: Any = type(coro)
    with pytest.raises(TypeError):
        kind()
    with pytest.raises(TypeError):
        kind(double, 2)
    with pytest.raises(TypeError):
        type("Derived", (kind,), {})
    with pytest.raises(TypeError):
        copy.copy(coro)
    coro.close()


def test_can_be_weakly_referenced() -> None:
    coro = async_def(double, 2)
    ref = weakref.ref(coro)
    assert ref() is coro
    coro.close()
    del coro
    gc.collect()
    assert ref() is None


def test_lets_go_of_its_function_and_arguments_when_it_ends() -> None:
    class Thing: ...

    def use(thing: Thing) -> None:
        wait_once()

    thing = Thing()
    ref = weakref.ref(thing)
    for end in (finish, lambda coro: coro.close(), lambda coro: (coro.send(None), coro.close())):
        thing = Thing()
        ref = weakref.ref(thing)
        coro = async_def(use, thing)
        del thing
        end(coro)
        gc.collect()
        assert ref() is None
        assert coro.cr_frame is None


# --- never awaited -----------------------------------------------------------


def never_awaited_warnings() -> list[str]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        async_def(double, 2)
        gc.collect()
    return [str(w.message) for w in caught if w.category is RuntimeWarning]


def test_warns_when_never_awaited() -> None:
    assert never_awaited_warnings() == ["coroutine 'double' was never awaited"]


def test_the_warning_tells_where_it_was_made_when_that_is_known() -> None:
    sys.set_coroutine_origin_tracking_depth(1)
    try:
        (message,) = never_awaited_warnings()
    finally:
        sys.set_coroutine_origin_tracking_depth(0)
    assert message.startswith("coroutine 'double' was never awaited\nCoroutine created at")
    assert "in never_awaited_warnings" in message


def test_does_not_warn_once_awaited_closed_or_thrown_into() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        finish(async_def(double, 2))
        async_def(double, 2).close()
        with pytest.raises(KeyError):
            async_def(double, 2).throw(KeyError)
        gc.collect()


# --- assert_await_occurs -----------------------------------------------------


def test_assert_await_occurs_wants_a_wait() -> None:
    with pytest.raises(verdigris.NoAwaitOccurred, match="no await"):
        finish(async_def(double, 2, assert_await_occurs=True))
    assert issubclass(verdigris.NoAwaitOccurred, RuntimeError)


def test_assert_await_occurs_is_content_with_a_wait_that_never_suspends() -> None:
    assert finish(async_def(lambda: await_(value(1)), assert_await_occurs=True)) == 1


def test_a_value_of_assert_await_occurs_without_a_truth_makes_no_coroutine() -> None:
    class Neither:
        def __bool__(self) -> bool:
            raise ValueError("neither true nor false")

    # And none that could warn it was never awaited: warnings are errors here.
    with pytest.raises(ValueError, match="neither"):
        async_def(double, 2, other=3, assert_await_occurs=Neither())  # type: ignore[call-overload,unused-ignore]
    gc.collect()


def test_assert_await_occurs_looks_at_its_own_function_only() -> None:
    inner = lambda: await_(value(1))  # noqa: E731

    def outer() -> int:
        return finish(async_def(inner))

    with pytest.raises(verdigris.NoAwaitOccurred):
        finish(async_def(outer, assert_await_occurs=True))


def test_assert_await_occurs_of_a_nested_function() -> None:
    """Its own waits count, those of the function that awaits it do not."""

    def outer(inner: Any) -> Any:
        await_(value(1))
        return await_(async_def(inner, assert_await_occurs=True))

    with pytest.raises(verdigris.NoAwaitOccurred):
        finish(async_def(outer, dict))
    assert finish(async_def(outer, wait_once)) is None


def test_assert_await_occurs_does_not_hide_the_functions_own_error() -> None:
    with pytest.raises(TypeError, match="missing 1 required"):
        finish(async_def(double, assert_await_occurs=True))


# --- accepted by -------------------------------------------------------------


def test_accepted_by_await_and_the_runner(loop: Any) -> None:
    def f(x: int) -> int:
        await_(loop.checkpoint())
        return 2 * x

    async def main() -> int:
        return await async_def(f, 2)

    assert loop.run(main) == 4
    # Straight to asyncio.Runner.run and trio.run, nothing in between.
    assert loop.run(async_def, f, 3) == 6


def test_ten_thousand_in_one_loop(loop: Any) -> None:
    results: list[int] = []

    def f(x: int) -> None:
        await_(loop.checkpoint())
        await_(loop.checkpoint())
        results.append(x)

    async def main() -> None:
        async with loop.tasks() as start:
            for x in range(10_000):
                start(async_def, f, x)

    loop.run(main)
    assert sorted(results) == list(range(10_000))


def test_accepted_by_asyncio_run() -> None:
    assert asyncio.run(async_def(lambda: await_(asyncio.sleep(0, "slept")))) == "slept"
    assert asyncio.run(async_def(lambda: await_(asyncio.sleep(0, "slept"))), debug=True) == "slept"


def test_accepted_by_everything_in_asyncio_that_takes_a_coroutine(aio: Any) -> None:
    def f(x: int) -> int:
        return await_(asyncio.sleep(0, 2 * x))

    async def main() -> None:
        task = asyncio.create_task(async_def(f, 1), name="named")
        assert task.get_name() == "named"
        assert await task == 2
        assert await asyncio.gather(async_def(f, 1), async_def(f, 2)) == [2, 4]
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(async_def(f, x)) for x in range(3)]
        assert [t.result() for t in tasks] == [0, 2, 4]
        assert await asyncio.wait_for(async_def(f, 3), 5) == 6
        assert await asyncio.shield(async_def(f, 4)) == 8
        assert await asyncio.ensure_future(async_def(f, 5)) == 10
        assert [await c for c in asyncio.as_completed([async_def(f, 6)])] == [12]
        here = asyncio.get_running_loop()
        elsewhere = await asyncio.to_thread(
            lambda: asyncio.run_coroutine_threadsafe(async_def(f, 7), here).result(10)
        )
        assert elsewhere == 14

    aio.run(main)


def test_a_task_shows_the_functions_name(aio: Any) -> None:
    def my_function() -> None:
        await_(asyncio.sleep(0))

    async def main() -> None:
        task = asyncio.create_task(async_def(my_function))
        assert "my_function" in repr(task)
        await asyncio.sleep(0)
        assert "my_function" in repr(task)
        assert task.get_coro().__name__ == "my_function"
        await task

    aio.run(main)


def test_accepted_by_nursery_start_soon(trio_loop: Any) -> None:
    trio = trio_loop.trio
    seen: list[object] = []

    def child(x: int) -> None:
        await_(trio.sleep(0))
        seen.append((x, trio.lowlevel.current_task().name))

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(async_def, child, 1, name="named")

    trio.run(main)
    assert seen == [(1, "named")]


def test_the_current_task_and_loop_are_the_callers(loop: Any) -> None:
    def f() -> object:
        before = loop.current_task()
        await_(loop.checkpoint())
        assert loop.current_task() is before
        return before

    async def main() -> None:
        assert await async_def(f) is loop.current_task()

    loop.run(main)
