"""The coroutine protocol of what `async_def` makes, step by step as a native one's."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from hand_driver import finish, suspend, value

from verdigris import async_def, await_


def double(x: int) -> int:
    return 2 * x


def wait_once(tag: object = "tag") -> object:
    return await_(suspend(tag))


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


def test_a_function_that_shares_a_stack_waits_when_the_stack_does() -> None:
    inner = async_def(wait_once)
    outer = async_def(lambda: await_(inner))
    outer.send(None)
    assert inspect.getcoroutinestate(inner) == inspect.CORO_SUSPENDED
    assert (inner.cr_running, inner.cr_suspended) == (False, True)
    assert inner.cr_frame is not None and inner.cr_frame.f_code.co_name == "wait_once"
    assert inner.cr_await is outer.cr_await is not None
    # Seen, but not to be touched: whoever awaits it drives it.
    for meddle in (lambda: inner.send(None), inner.close, lambda: inner.throw(KeyError())):
        with pytest.raises(ValueError, match="already executing"):
            meddle()
    outer.close()
    assert inspect.getcoroutinestate(inner) == inspect.CORO_CLOSED


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
