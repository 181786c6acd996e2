"""`async_def` gives a coroutine that nobody can tell from a native one."""

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
from collections.abc import Iterator
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


# --- send --------------------------------------------------------------------


def test_does_nothing_until_awaited() -> None:
    ran: list[int] = []
    coro = async_def(ran.append, 1)
    assert ran == []
    finish(coro)
    assert ran == [1]


def test_send_carries_tags_up_and_answers_down_unchanged() -> None:
    tags = [object(), object()]
    answers = [object(), object()]
    seen: list[object] = []

    def f() -> str:
        seen.append(await_(suspend(tags[0])))
        seen.append(await_(suspend(tags[1])))
        return "done"

    coro = async_def(f)
    assert coro.send(None) is tags[0]
    assert coro.send(answers[0]) is tags[1]
    with pytest.raises(StopIteration) as end:
        coro.send(answers[1])
    assert end.value.value == "done"
    assert seen[0] is answers[0] and seen[1] is answers[1]


@pytest.mark.parametrize(
    "result", [None, (), (1, 2), ValueError("a result"), StopIteration(3), StopIteration]
)
def test_any_object_can_be_the_result(result: object) -> None:
    """StopIteration unpacks a tuple and normalises an exception if one lets it."""
    coro = async_def(lambda: result)
    with pytest.raises(StopIteration) as end:
        coro.send(None)
    assert end.value.value is result

    async def awaits() -> object:
        return await async_def(lambda: result)

    assert finish(awaits()) is result
    assert finish(async_def(lambda: await_(value(result)))) is result
    assert finish(async_def(lambda: await_(async_def(lambda: result)))) is result


def test_the_first_send_takes_none_only() -> None:
    coro = async_def(double, 2)
    with pytest.raises(TypeError, match="can't send non-None value to a just-started coroutine"):
        coro.send(1)
    assert finish(coro) == 4


def test_runs_only_once() -> None:
    coro = async_def(double, 2)
    assert finish(coro) == 4
    for again in (lambda: coro.send(None), lambda: coro.throw(ValueError), lambda: finish(coro)):
        with pytest.raises(RuntimeError, match="cannot reuse already awaited coroutine"):
            again()


def test_cannot_be_awaited_by_two_at_once() -> None:
    coro = async_def(wait_once)

    async def awaits() -> object:
        return await coro

    first, second = awaits(), awaits()
    assert first.send(None) == "tag"
    with pytest.raises(RuntimeError, match="coroutine is being awaited already"):
        second.send(None)
    with pytest.raises(StopIteration) as end:
        first.send("answer")
    assert end.value.value == "answer"


def test_its_iterator_is_driven_like_a_native_ones() -> None:
    coro = async_def(wait_once)
    steps = coro.__await__()
    assert iter(steps) is steps
    assert next(steps) == "tag"
    with pytest.raises(StopIteration) as end:
        steps.send("answer")
    assert end.value.value == "answer"

    thrown = async_def(wait_once).__await__()
    next(thrown)
    with pytest.raises(KeyError):
        thrown.throw(KeyError("thrown"))

    closed = async_def(wait_once).__await__()
    next(closed)
    closed.close()
    with pytest.raises(RuntimeError, match="cannot reuse already awaited coroutine"):
        next(closed)


def test_can_be_delegated_to_by_a_generator() -> None:
    class Wrapper:
        def __await__(self) -> Iterator[Any]:
            return (yield from async_def(wait_once).__await__())

    async def awaits() -> object:
        return await Wrapper()

    assert finish(awaits(), answer=lambda tag: (tag, "answer")) == ("tag", "answer")


# --- throw -------------------------------------------------------------------


def test_throw_raises_at_the_waiting_line() -> None:
    error = KeyError("thrown")

    def f() -> object:
        try:
            return await_(suspend())
        except KeyError as caught:
            assert caught is error
            return await_(suspend("after"))

    coro = async_def(f)
    coro.send(None)
    assert coro.throw(error) == "after"
    with pytest.raises(StopIteration) as end:
        coro.send("answer")
    assert end.value.value == "answer"


def test_throw_takes_a_type_too() -> None:
    coro = async_def(wait_once)
    coro.send(None)
    with pytest.raises(KeyError):
        coro.throw(KeyError)


def test_throw_before_the_start_never_runs_the_function() -> None:
    ran: list[int] = []
    coro = async_def(ran.append, 1)
    with pytest.raises(KeyError, match="thrown"):
        coro.throw(KeyError("thrown"))
    assert ran == []
    with pytest.raises(RuntimeError, match="cannot reuse already awaited coroutine"):
        coro.send(None)


@pytest.mark.parametrize("nonsense", [1, None, int, "text"])
def test_throw_refuses_what_is_no_exception(nonsense: Any) -> None:
    coro = async_def(wait_once)
    coro.send(None)
    with pytest.raises(TypeError, match="exceptions must be"):
        coro.throw(nonsense)
    coro.close()


# --- close -------------------------------------------------------------------


def test_close_before_the_start_never_runs_the_function() -> None:
    ran: list[int] = []
    coro = async_def(ran.append, 1)
    coro.close()
    coro.close()
    assert ran == []
    with pytest.raises(RuntimeError, match="cannot reuse already awaited coroutine"):
        coro.send(None)


def test_close_unwinds_from_the_waiting_line() -> None:
    steps: list[str] = []

    def f() -> None:
        try:
            try:
                await_(suspend())
            except GeneratorExit:
                steps.append("GeneratorExit")
                raise
            finally:
                steps.append("inner finally")
        finally:
            steps.append("outer finally")

    coro = async_def(f)
    coro.send(None)
    coro.close()
    assert steps == ["GeneratorExit", "inner finally", "outer finally"]
    coro.close()
    assert len(steps) == 3


def test_close_accepts_a_function_that_just_returns() -> None:
    def f() -> str:
        try:
            await_(suspend())
        except GeneratorExit:
            return "quietly"
        return "never"

    coro = async_def(f)
    coro.send(None)
    coro.close()
    assert coro.cr_frame is None


def test_close_passes_another_exception_on() -> None:
    def f() -> None:
        try:
            await_(suspend())
        finally:
            raise KeyError("while closing")

    coro = async_def(f)
    coro.send(None)
    with pytest.raises(KeyError, match="while closing") as caught:
        coro.close()
    assert isinstance(caught.value.__context__, GeneratorExit)


def test_close_refused_says_so_and_can_be_tried_again() -> None:
    def f() -> str:
        try:
            await_(suspend())
        except GeneratorExit:
            await_(suspend("refused"))
        return "never"

    coro = async_def(f)
    coro.send(None)
    with pytest.raises(RuntimeError, match="coroutine ignored GeneratorExit"):
        coro.close()
    coro.close()
    assert coro.cr_frame is None


def test_close_closes_what_is_being_awaited() -> None:
    closed: list[str] = []

    async def inner() -> None:
        try:
            await suspend()
        finally:
            closed.append("inner")

    coro = async_def(lambda: await_(inner()))
    coro.send(None)
    coro.close()
    assert closed == ["inner"]


# --- cr_* --------------------------------------------------------------------


def test_tells_its_state_as_a_native_one_does() -> None:
    seen: dict[str, Any] = {}

    def f() -> None:
        seen["state"] = inspect.getcoroutinestate(coro)
        seen["running"] = (coro.cr_running, coro.cr_suspended)
        await_(suspend())

    coro = async_def(f)
    assert inspect.getcoroutinestate(coro) == inspect.CORO_CREATED
    assert (coro.cr_running, coro.cr_suspended) == (False, False)
    coro.send(None)
    assert seen == {"state": inspect.CORO_RUNNING, "running": (True, False)}
    assert inspect.getcoroutinestate(coro) == inspect.CORO_SUSPENDED
    assert (coro.cr_running, coro.cr_suspended) == (False, True)
    coro.close()
    assert inspect.getcoroutinestate(coro) == inspect.CORO_CLOSED
    assert (coro.cr_running, coro.cr_suspended) == (False, False)


def test_names_what_it_waits_for() -> None:
    waited_for = suspend()
    coro = async_def(await_, waited_for)
    assert coro.cr_await is None
    coro.send(None)
    assert coro.cr_await is waited_for
    coro.close()
    assert coro.cr_await is None


def test_has_the_code_of_its_function() -> None:
    coro = async_def(double, 2)
    assert coro.cr_code is double.__code__
    coro.close()


def test_remembers_where_it_was_made_when_asked_to() -> None:
    untracked = async_def(double, 2)
    assert untracked.cr_origin is None
    untracked.close()
    before = sys.get_coroutine_origin_tracking_depth()
    sys.set_coroutine_origin_tracking_depth(2)
    try:
        line = sys._getframe().f_lineno + 1
        coro = async_def(double, 2)
    finally:
        sys.set_coroutine_origin_tracking_depth(before)
    assert len(coro.cr_origin) == 2
    assert coro.cr_origin[0] == (
        __file__,
        line,
        "test_remembers_where_it_was_made_when_asked_to",
    )
    coro.close()


@pytest.mark.parametrize("attribute", ["cr_running", "cr_suspended", "cr_frame", "cr_await"])
def test_state_cannot_be_written(attribute: str) -> None:
    coro = async_def(double, 2)
    with pytest.raises(AttributeError):
        setattr(coro, attribute, None)
    coro.close()


def test_can_be_renamed_but_only_to_a_string() -> None:
    coro = async_def(double, 2)
    coro.__name__ = "triple"
    coro.__qualname__ = "Other.triple"
    assert (coro.__name__, coro.__qualname__) == ("triple", "Other.triple")
    with pytest.raises(TypeError):
        coro.__name__ = 3  # type: ignore[assignment]
    with pytest.raises(TypeError):
        del coro.__qualname__
    coro.close()


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
