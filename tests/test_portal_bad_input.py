"""Portals where they can't be: an error that says why, or defined behaviour, never a crash."""

from __future__ import annotations

import asyncio
import collections.abc
import copy
import importlib.util
import inspect
import sys
import threading
import types
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest
from conftest import needs_address_space_limit, needs_native_stacks, needs_thread_state
from hand_driver import finish, suspend, value

from verdigris import (
    NoAwaitContext,
    PortalCoroutine,
    _engine,
    async_def,
    await_,
    bestow_portal,
    ensure_portal,
    has_portal,
    with_portal_run,
)


async def settle(loop: Any) -> None:
    """Lets the tasks that have just been started reach their wait."""
    for _ in range(5):
        await loop.checkpoint()


async def after_a_step(loop: Any, result: object = None) -> Any:
    await loop.checkpoint()
    return result


def sync_step(loop: Any, result: object = None) -> Any:
    return await_(after_a_step(loop, result))


# --- what is no task, or none that can be changed ----------------------------


@pytest.mark.parametrize(
    "thing",
    [42, "task", object(), asyncio.Task, [], sync_step, asyncio.Event()],
    ids=lambda thing: type(thing).__name__,
)
def test_what_is_no_task_is_a_type_error(thing: object) -> None:
    with pytest.raises(TypeError, match=rf"bestow_portal\(\) .*{type(thing).__name__}"):
        bestow_portal(thing)
    with pytest.raises(TypeError, match=rf"has_portal\(\) .*{type(thing).__name__}"):
        has_portal(thing)


def test_none_is_no_task_either() -> None:
    with pytest.raises(TypeError, match="NoneType"):
        bestow_portal(None)


def test_a_coroutine_or_a_future_is_no_task(aio: Any) -> None:
    async def main() -> None:
        coro, green = value(1), async_def(print)
        future = asyncio.get_running_loop().create_future()
        for thing in (coro, future, _engine.portal(coro), green):
            for fn in (bestow_portal, has_portal):
                with pytest.raises(TypeError, match=type(thing).__name__):
                    fn(thing)
        coro.close()
        green.close()

    aio.run(main)


@pytest.mark.parametrize("how", ["returned", "failed", "cancelled"])
def test_a_task_that_has_ended(loop: Any, how: str) -> None:
    tasks: list[Any] = []

    async def ends(with_portal: bool) -> None:
        tasks.append(loop.current_task())
        if with_portal:
            await ensure_portal()
        if how == "failed":
            raise KeyError("failed")
        if how == "cancelled":
            await loop.event().wait()

    async def main() -> None:
        async with loop.tasks() as start:
            started = [start(ends, with_portal) for with_portal in (False, True)]
            await settle(loop)
            for background in started:
                background.cancel()
        assert len(tasks) == 2
        for task in tasks:
            assert not has_portal(task)
            with pytest.raises(RuntimeError, match="has ended"):
                bestow_portal(task)

    loop.run(main)
    for task in tasks:
        with pytest.raises(RuntimeError, match="has ended"):
            bestow_portal(task)


def test_the_main_task_of_a_run_that_is_over(loop: Any) -> None:
    async def main() -> Any:
        await ensure_portal()
        return loop.current_task()

    task = loop.run(main)
    assert not has_portal(task)
    with pytest.raises(RuntimeError, match="has ended"):
        bestow_portal(task)


@pytest.mark.parametrize("from_a_loop", [False, True], ids=["no loop here", "another loop here"])
def test_a_task_of_a_loop_in_another_thread(loop: Any, from_a_loop: bool) -> None:
    tasks: list[Any] = []
    seen: list[object] = []
    ready, stop = threading.Event(), threading.Event()

    async def waits() -> None:
        tasks.append(loop.current_task())
        while not stop.is_set():
            ready.set()
            await loop.sleep(0.001)
        seen.append(has_portal())
        await ensure_portal()
        seen.append(sync_step(loop, "its own portal"))

    async def within() -> None:
        attempt()

    def attempt() -> None:
        (task,) = tasks
        assert not has_portal(task)
        with pytest.raises(RuntimeError, match="another thread") as caught:
            bestow_portal(task)
        named = task.get_name() if hasattr(task, "get_name") else task.name
        assert named in str(caught.value)

    thread = threading.Thread(target=loop.run, args=(waits,))
    thread.start()
    try:
        assert ready.wait(30)
        if from_a_loop:
            loop.run(within)
        else:
            attempt()
    finally:
        stop.set()
        thread.join()
    assert seen == [False, "its own portal"]


def test_a_task_of_a_loop_that_does_not_run(aio: Any) -> None:
    """Not yet, and no more for now: nobody can step it meanwhile."""

    async def body(event: asyncio.Event) -> list[object]:
        seen = [sync_step(aio, "in the first step")] if has_portal() else []
        await event.wait()
        return [*seen, sync_step(aio, "later")]

    loop = (aio.loop_factory or asyncio.new_event_loop)()
    event = asyncio.Event()
    try:
        early, late = loop.create_task(body(event)), loop.create_task(body(event))
        bestow_portal(early)
        assert has_portal(early) and not has_portal(late)
        for _ in range(5):
            loop.run_until_complete(aio.checkpoint())
        bestow_portal(late)
        assert has_portal(late)
        event.set()
        both = asyncio.gather(early, late)
        assert loop.run_until_complete(both) == [["in the first step", "later"], ["later"]]
    finally:
        loop.close()


def test_a_portal_that_another_loop_gives(aio: Any, trio_loop: Any) -> None:
    """A task of asyncio is none of the Trio run that goes on here."""

    async def body() -> str:
        return sync_step(aio, "waited")

    async def trio_main(task: asyncio.Task[Any]) -> None:
        with pytest.raises(RuntimeError, match="has ended"):
            bestow_portal(ended)
        bestow_portal(task)

    loop = (aio.loop_factory or asyncio.new_event_loop)()
    try:
        ended = loop.create_task(aio.checkpoint())
        loop.run_until_complete(ended)
        task = loop.create_task(body())
        trio_loop.run(trio_main, task)
        assert loop.run_until_complete(task) == "waited"
    finally:
        loop.close()


# --- ensure_portal where no task runs ----------------------------------------


def test_ensure_portal_outside_of_any_loop() -> None:
    coro = ensure_portal()
    with pytest.raises(RuntimeError, match=r"none of these runs here.*with_portal_run"):
        coro.send(None)
    assert not has_portal()


def test_ensure_portal_below_a_driver_that_is_not_known() -> None:
    async def program() -> object:
        with pytest.raises(RuntimeError, match="with_portal_run"):
            await ensure_portal()
        return await with_portal_run(as_advised)

    async def as_advised() -> object:
        return await_(suspend("tag"))

    assert finish(program(), lambda tag: f"answer to {tag}") == "answer to tag"


def test_ensure_portal_in_a_callback(aio: Any) -> None:
    errors: list[Any] = []

    def callback() -> None:
        coro = ensure_portal()
        try:
            coro.send(None)
        except BaseException as error:
            errors.append(error)

    async def main() -> None:
        asyncio.get_running_loop().call_soon(callback)
        await aio.checkpoint()
        await ensure_portal()
        asyncio.get_running_loop().call_soon(callback)
        await aio.checkpoint()

    aio.run(main)
    assert [type(error) for error in errors] == [RuntimeError] * 2
    assert all("callback of the loop" in str(error) for error in errors)


def test_ensure_portal_never_awaited_says_so(loop: Any) -> None:
    async def main() -> None:
        with pytest.warns(RuntimeWarning, match="never awaited"):
            ensure_portal()
        assert not has_portal()
        await ensure_portal()
        with pytest.warns(RuntimeWarning, match="never awaited"):
            ensure_portal()

    loop.run(main)


def test_a_cancellation_during_ensure_portal(loop: Any) -> None:
    """The portal is there, and a task that goes on can use it."""

    async def main() -> str:
        if loop.name == "trio":
            with loop.trio.CancelScope() as scope:
                scope.cancel()
                await ensure_portal()
            assert scope.cancelled_caught
        else:
            task = asyncio.current_task()
            assert task is not None
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await ensure_portal()
            assert task.uncancel() == 0
        assert isinstance(loop.coroutine_of(loop.current_task()), PortalCoroutine)
        assert has_portal()
        return sync_step(loop, "went on")

    assert loop.run(main) == "went on"


def test_a_task_cancelled_while_it_sets_up_and_never_seen_again(loop: Any) -> None:
    async def body() -> None:
        tasks.append(loop.current_task())
        await ensure_portal()
        raise AssertionError("never reached")

    async def main() -> Any:
        async with loop.tasks() as start:
            background = start(body)
            # asyncio cancels it between its only two steps; Trio wherever it is by then.
            while not tasks:
                await loop.checkpoint()
            background.cancel()
        return await background.wait()

    tasks: list[Any] = []
    if loop.name == "trio":
        assert loop.run(in_a_cancelled_scope, loop, body)
    else:
        assert loop.run(main).cancelled
    assert len(tasks) == 1


async def in_a_cancelled_scope(loop: Any, body: Callable[[], Any]) -> bool:
    with loop.trio.CancelScope() as scope:
        scope.cancel()
        await body()
    return bool(scope.cancelled_caught)


# --- a portal while the task runs --------------------------------------------


def test_set_while_the_task_runs_it_shows_a_running_coroutine(loop: Any) -> None:
    async def main() -> str:
        task = loop.current_task()
        bestow_portal(task)
        portal = loop.coroutine_of(task)
        assert inspect.getcoroutinestate(portal) == inspect.CORO_RUNNING
        assert portal.cr_running and not portal.cr_suspended
        await loop.checkpoint()
        return sync_step(loop, "waited")

    assert loop.run(main) == "waited"


@pytest.mark.parametrize("method", ["send", "throw", "close"])
def test_stepped_by_hand_before_the_task_has_yielded(loop: Any, method: str) -> None:
    """Refused, as stepping the running coroutine itself would be, and without harm."""

    async def main() -> str:
        bestow_portal(loop.current_task())
        portal = loop.coroutine_of(loop.current_task())
        arguments = {"send": (None,), "throw": (KeyError("thrown"),), "close": ()}[method]
        for coro in (portal.coroutine, portal):
            with pytest.raises(ValueError, match="coroutine already executing"):
                getattr(coro, method)(*arguments)
        await loop.checkpoint()
        return sync_step(loop, "waited")

    assert loop.run(main) == "waited"


@pytest.mark.parametrize("wait", ["natively", "in sync code"])
@pytest.mark.parametrize("method", ["send", "throw", "close"])
def test_stepped_by_hand_from_inside(method: str, wait: str) -> None:
    def meddle() -> None:
        arguments = {"send": (None,), "throw": (KeyError("thrown"),), "close": ()}[method]
        for coro in (portal, portal.coroutine):
            with pytest.raises(ValueError, match="coroutine already executing"):
                getattr(coro, method)(*arguments)

    def sync() -> None:
        meddle()
        await_(suspend())
        meddle()

    async def body() -> str:
        meddle()
        if wait == "natively":
            await suspend()
        else:
            sync()
        meddle()
        return "went on"

    portal = _engine.portal(body())
    assert finish(portal) == "went on"


# --- stepping a portal by hand, as nobody should -----------------------------


async def natively() -> object:
    return await suspend(1), await suspend(2)


def sync_suspend(tag: object) -> object:
    return await_(suspend(tag))


async def natively_then_in_sync_code() -> object:
    return await suspend(1), sync_suspend(2)


async def in_sync_code() -> object:
    return sync_suspend(1), sync_suspend(2)


async def refuses_natively() -> object:
    try:
        await suspend(1)
    except GeneratorExit:
        return await suspend("refused")


async def refuses_in_sync_code() -> object:
    try:
        sync_suspend(1)
    except GeneratorExit:
        return sync_suspend("refused")
    return None


async def catches_natively() -> object:
    try:
        await suspend(1)
    except KeyError as error:
        return await suspend("caught"), error.args
    return None


async def catches_in_sync_code() -> object:
    try:
        sync_suspend(1)
    except KeyError as error:
        return sync_suspend("caught"), error.args
    return None


async def fails_while_closing_natively() -> object:
    try:
        await suspend(1)
    finally:
        raise KeyError("while closing")


async def fails_while_closing_in_sync_code() -> object:
    try:
        sync_suspend(1)
    finally:
        raise KeyError("while closing")


BODIES = {
    "waits": [natively, natively_then_in_sync_code, in_sync_code],
    "refuses": [refuses_natively, refuses_in_sync_code],
    "catches": [catches_natively, catches_in_sync_code],
    "fails": [fails_while_closing_natively, fails_while_closing_in_sync_code],
}

Call = tuple[Any, ...]
SEND, CLOSE, NEXT = ("send", None), ("close",), ("next",)
THROW, STOP = ("throw", KeyError("thrown")), ("throw", StopIteration("thrown"))

SEQUENCES: dict[str, tuple[str, list[Call]]] = {
    "as one should": ("waits", [SEND, ("send", "a"), ("send", "b")]),
    "a value for the first step": ("waits", [("send", 3), SEND, SEND, SEND]),
    "on after the end": ("waits", [SEND, SEND, SEND, SEND, THROW, CLOSE, SEND]),
    "throw at the start": ("waits", [THROW, SEND, THROW, CLOSE]),
    "throw StopIteration at the start": ("waits", [STOP, SEND]),
    "throw while it waits": ("waits", [SEND, THROW, SEND]),
    "throw later": ("waits", [SEND, SEND, THROW, SEND]),
    "throw StopIteration": ("waits", [SEND, STOP, SEND]),
    "throw a class": ("waits", [SEND, ("throw", KeyError), SEND]),
    "throw GeneratorExit": ("waits", [SEND, ("throw", GeneratorExit()), SEND]),
    "throw what is caught": ("catches", [SEND, THROW, ("send", "a"), SEND]),
    "close at the start": ("waits", [CLOSE, CLOSE, SEND]),
    "close while it waits": ("waits", [SEND, CLOSE, CLOSE, SEND]),
    "close later": ("waits", [SEND, SEND, CLOSE, CLOSE, THROW]),
    "close what refuses": ("refuses", [SEND, CLOSE, CLOSE, CLOSE, SEND]),
    "close what refuses and go on": ("refuses", [SEND, CLOSE, ("send", "a"), SEND]),
    "close what fails": ("fails", [SEND, CLOSE, CLOSE, SEND]),
}

if hasattr(sys, "gettotalrefcount") and sys.version_info >= (3, 14):
    # CPython itself ends by an assertion, in a debug build, when StopIteration is thrown into a
    # native coroutine that has not begun.
    del SEQUENCES["throw StopIteration at the start"]


def outcomes(coro: Any, calls: list[Call]) -> list[object]:
    """What a coroutine answers, and the state it is in after each call."""
    seen: list[object] = []
    for method, *arguments in calls:
        try:
            answer = getattr(coro, method)(*arguments)
        except StopIteration as end:
            outcome: object = ("returned", end.value)
        except BaseException as error:
            outcome = (type(error), str(error))
        else:
            outcome = ("gave", answer)
        seen.append((outcome, inspect.getcoroutinestate(coro)))
    return seen


@pytest.mark.parametrize("sequence", SEQUENCES)
def test_answers_as_a_native_coroutine_does(sequence: str) -> None:
    kind, calls = SEQUENCES[sequence]
    native, *others = BODIES[kind]
    expected = outcomes(native(), calls)
    for body in (native, *others):
        portal = _engine.portal(body())
        seen = outcomes(portal, calls)
        portal.coroutine.close()
        assert seen == expected, body.__name__


@pytest.mark.parametrize("sequence", SEQUENCES)
def test_answers_as_one_does_when_a_statement_awaits_it(sequence: str) -> None:
    async def awaits(coro: Any) -> object:
        return await coro

    kind, calls = SEQUENCES[sequence]
    native, *others = BODIES[kind]
    coro = native()
    expected = outcomes(awaits(coro), calls)
    # Where the statement was never reached the coroutine was not either.
    coro.close()
    for body in (native, *others):
        portal = _engine.portal(body())
        seen = outcomes(awaits(portal), calls)
        portal.close()
        assert seen == expected, body.__name__


@pytest.mark.parametrize("sequence", SEQUENCES)
def test_its_iterator_is_driven_like_a_native_ones(sequence: str) -> None:
    def drive(awaited: Any, coro: Any) -> list[object]:
        iterator = awaited.__await__()
        assert iter(iterator) is iterator
        seen = [
            (step(iterator, method, arguments), inspect.getcoroutinestate(awaited))
            for method, *arguments in calls
        ]
        coro.close()
        return seen

    kind, calls = SEQUENCES[sequence]
    native, *others = BODIES[kind]
    coro = native()
    expected = drive(coro, coro)
    for body in (native, *others):
        portal = _engine.portal(body())
        assert drive(portal, portal.coroutine) == expected, body.__name__


def step(iterator: Any, method: str, arguments: Any) -> object:
    try:
        return getattr(iterator, method)(*arguments)
    except BaseException as error:
        return type(error), str(error)


def test_next_steps_it_too() -> None:
    portal = _engine.portal(in_sync_code())
    assert next(portal) == 1  # type: ignore[call-overload]
    assert next(portal) == 2  # type: ignore[call-overload]
    with pytest.raises(StopIteration) as end:
        next(portal)  # type: ignore[call-overload]
    assert end.value.value == (None, None)


@pytest.mark.parametrize("nonsense", [42, None, "KeyError", [KeyError()], int])
def test_throwing_what_is_no_exception_does_no_harm(nonsense: Any) -> None:
    for body in BODIES["waits"]:
        portal = _engine.portal(body())
        for tag in (1, 2):
            assert portal.send(None) == tag
            with pytest.raises(TypeError, match="exceptions must be"):
                portal.throw(nonsense)
        with pytest.raises(StopIteration):
            portal.send(None)


def test_awaited_by_two_at_once() -> None:
    """The second is refused, as with a native coroutine, and takes no step of the first."""

    async def awaits(coro: Any) -> object:
        return await coro

    for make in (
        natively,
        lambda: _engine.portal(natively()),
        lambda: _engine.portal(in_sync_code()),
    ):
        coro = make()
        first, second = awaits(coro), awaits(coro)
        try:
            assert first.send(None) == 1
            with pytest.raises(RuntimeError, match="coroutine is being awaited already"):
                second.send(None)
            assert first.send("a") == 2
            with pytest.raises(StopIteration) as end:
                first.send("b")
            assert end.value.value == ("a", "b")
        finally:
            first.close()
            second.close()


def test_never_awaited_says_so() -> None:
    with pytest.warns(RuntimeWarning, match="coroutine 'natively' was never awaited"):
        _engine.portal(natively())


# --- what a portal can be around ---------------------------------------------


@pytest.mark.parametrize("thing", [42, None, "text", [], object(), natively, asyncio.Event])
def test_a_portal_needs_a_coroutine(thing: Any) -> None:
    with pytest.raises(TypeError, match=f"needs a coroutine, not '{type(thing).__name__}'"):
        _engine.portal(thing)


def test_a_future_is_no_coroutine() -> None:
    loop = asyncio.new_event_loop()
    with pytest.raises(TypeError, match=r"has no send\(\)"):
        _engine.portal(loop.create_future())  # type: ignore[arg-type]
    loop.close()


def test_cannot_be_made_or_changed_otherwise() -> None:
    coro = value(1)
    portal = _engine.portal(coro)
    for attempt in (
        lambda: PortalCoroutine(),
        lambda: PortalCoroutine.__new__(PortalCoroutine),
        lambda: object.__new__(PortalCoroutine),
        lambda: copy.copy(portal),
        lambda: type("Derived", (PortalCoroutine,), {}),
        lambda: _engine.portal(),  # type: ignore[call-arg]
        lambda: _engine.can_withdraw(coro),  # type: ignore[arg-type]
    ):
        with pytest.raises(TypeError):
            attempt()
    for name in ("coroutine", "cr_running", "cr_frame", "cr_await", "__name__", "anything"):
        with pytest.raises(AttributeError):
            setattr(portal, name, None)
    with pytest.raises(AttributeError):
        del portal.coroutine  # type: ignore[misc]
    with pytest.raises(AttributeError, match="no_such_name"):
        portal.no_such_name  # noqa: B018
    assert finish(portal) == 1


def test_around_a_green_function() -> None:
    def green() -> object:
        return sync_suspend(1), await_(natively())

    portal = _engine.portal(async_def(green))
    assert portal.send(None) == 1
    assert inspect.getcoroutinestate(portal) == inspect.CORO_SUSPENDED
    assert portal.cr_frame is not None and portal.cr_frame.f_code is sync_suspend.__code__
    assert portal.send("a") == 1
    assert portal.send("b") == 2
    with pytest.raises(StopIteration) as end:
        portal.send("c")
    assert end.value.value == ("a", ("b", "c"))
    assert inspect.getcoroutinestate(portal) == inspect.CORO_CLOSED


def test_around_a_green_function_that_is_closed() -> None:
    in_use = _engine.stats()["stacks_in_use"]
    portal = _engine.portal(async_def(sync_suspend, 1))
    portal.send(None)
    assert _engine.stats()["stacks_in_use"] == in_use + 1
    portal.close()
    assert _engine.stats()["stacks_in_use"] == in_use
    assert inspect.getcoroutinestate(portal) == inspect.CORO_CLOSED


@pytest.mark.parametrize("body", BODIES["waits"])
def test_a_portal_of_a_portal(body: Callable[[], Coroutine[Any, Any, Any]]) -> None:
    inner = _engine.portal(body())
    outer = _engine.portal(inner)
    assert outer.send(None) == 1
    assert outer.send("a") == 2
    for portal in (inner, outer):
        assert inspect.getcoroutinestate(portal) == inspect.CORO_SUSPENDED
        assert portal.cr_frame is not None
    assert repr(outer) == f"<portal of {inner!r}>"
    with pytest.raises(StopIteration) as end:
        outer.send("b")
    assert end.value.value == ("a", "b")


def test_two_portals_of_one_coroutine() -> None:
    """Only one can step it at a time; the other is told so, and neither is lost."""
    coro = natively_then_in_sync_code()
    first, second = _engine.portal(coro), _engine.portal(coro)
    assert first.send(None) == 1
    # It waits natively: whoever steps it next has it.
    assert second.send("a") == 2
    with pytest.raises(ValueError, match="coroutine already executing"):
        first.send("stolen")
    with pytest.raises(StopIteration) as end:
        second.send("b")
    assert end.value.value == ("a", "b")


def test_around_a_generator() -> None:
    @types.coroutine
    def generator() -> Iterator[Any]:
        first = yield 1
        return first, sync_suspend(2)

    portal = _engine.portal(generator())  # type: ignore[arg-type]
    assert portal.send(None) == 1
    assert portal.send("a") == 2
    with pytest.raises(StopIteration) as end:
        portal.send("b")
    assert end.value.value == ("a", "b")


class Wraps(collections.abc.Coroutine):  # type: ignore[type-arg]
    """A coroutine written in Python, as some libraries have."""

    def __init__(self, coro: Any) -> None:
        self.coro = coro

    def send(self, value: Any) -> Any:
        return self.coro.send(value)

    def throw(self, *error: Any) -> Any:
        return self.coro.throw(*error)

    def close(self) -> None:
        self.coro.close()

    def __await__(self) -> Any:
        return self.coro.__await__()


@pytest.mark.parametrize("body", BODIES["waits"])
def test_around_a_coroutine_written_in_python(body: Callable[[], Any]) -> None:
    portal = _engine.portal(Wraps(body()))
    assert portal.send(None) == 1
    assert portal.send("a") == 2
    with pytest.raises(StopIteration) as end:
        portal.send("b")
    assert end.value.value == ("a", "b")
    portal = _engine.portal(Wraps(body()))
    portal.send(None)
    with pytest.raises(KeyError):
        portal.throw(KeyError())


def test_a_task_of_a_coroutine_written_in_python(aio: Any) -> None:
    async def body() -> str:
        await ensure_portal()
        return sync_step(aio, "waited")

    async def main() -> object:
        return await asyncio.create_task(Wraps(body()))

    assert aio.run(main) == "waited"


# --- the coroutine is in other hands -----------------------------------------


def test_closed_by_somebody_else_while_it_waits_natively() -> None:
    coro = natively()
    portal = _engine.portal(coro)
    assert portal.send(None) == 1
    coro.close()
    assert inspect.getcoroutinestate(portal) == inspect.CORO_CLOSED
    for attempt in (lambda: portal.send(None), lambda: portal.throw(KeyError())):
        with pytest.raises(RuntimeError, match="cannot reuse already awaited coroutine"):
            attempt()
    portal.close()


def test_closed_by_somebody_else_before_its_first_step() -> None:
    coro = natively()
    portal = _engine.portal(coro)
    coro.close()
    assert inspect.getcoroutinestate(portal) == inspect.CORO_CLOSED
    with pytest.raises(RuntimeError, match="cannot reuse already awaited coroutine"):
        portal.send(None)


def test_meddled_with_while_sync_code_waits() -> None:
    coro = in_sync_code()
    portal = _engine.portal(coro)
    assert portal.send(None) == 1
    for attempt in (lambda: coro.send(None), lambda: coro.throw(KeyError()), coro.close):
        with pytest.raises(ValueError, match="coroutine already executing"):
            attempt()
    assert portal.send("a") == 2
    with pytest.raises(StopIteration) as end:
        portal.send("b")
    assert end.value.value == ("a", "b")


def test_a_task_whose_coroutine_was_closed(aio: Any) -> None:
    async def body(future: asyncio.Future[Any]) -> None:
        await ensure_portal()
        await future

    async def main() -> None:
        for closed_through_the_portal in (False, True):
            future = asyncio.get_running_loop().create_future()
            task = asyncio.create_task(body(future))
            await settle(aio)
            portal: Any = task.get_coro()
            (portal if closed_through_the_portal else portal.coroutine).close()
            future.set_result(None)
            with pytest.raises(RuntimeError, match="cannot reuse already awaited coroutine"):
                await task

    aio.run(main)


def test_a_coroutine_moves_on_without_its_portal() -> None:
    """Stepped past the portal by its owner: sync code below has no portal then."""

    async def body() -> str:
        await suspend(1)
        with pytest.raises(NoAwaitContext):
            sync_suspend(2)
        await suspend(3)
        return str(sync_suspend(4))

    coro = body()
    portal = _engine.portal(coro)
    assert portal.send(None) == 1
    assert coro.send(None) == 3
    assert portal.send(None) == 4
    with pytest.raises(StopIteration) as end:
        portal.send("a")
    assert end.value.value == "a"


# --- threads -----------------------------------------------------------------


def in_thread(fn: Callable[[], Any]) -> Any:
    """Run `fn` to the end in a thread of its own; its result or its error."""
    box: list[Any] = []

    def body() -> None:
        try:
            box.append(fn())
        except BaseException as error:
            box.append(error)

    thread = threading.Thread(target=body)
    thread.start()
    thread.join()
    return box[0]


def test_resumed_on_the_wrong_thread_while_sync_code_waits() -> None:
    portal = _engine.portal(in_sync_code())
    assert portal.send(None) == 1
    for attempt in (
        lambda: portal.send("stolen"),
        lambda: portal.throw(KeyError("stolen")),
        portal.close,
        lambda: finish(portal),
    ):
        error = in_thread(attempt)
        assert isinstance(error, RuntimeError) and "thread" in str(error), error
        assert "in_sync_code" in str(error)
    assert inspect.getcoroutinestate(portal) == inspect.CORO_SUSPENDED
    # Refused without harm: at home it goes on.
    assert portal.send("a") == 2
    with pytest.raises(StopIteration) as end:
        portal.send("b")
    assert end.value.value == ("a", "b")


def test_a_portal_that_waits_natively_belongs_to_no_thread() -> None:
    portal = _engine.portal(natively_then_in_sync_code())
    assert in_thread(lambda: portal.send(None)) == 1
    assert portal.send("a") == 2
    assert isinstance(in_thread(lambda: portal.send("b")), RuntimeError)
    with pytest.raises(StopIteration):
        portal.send("b")


def test_each_thread_has_a_loop_with_portals(loop: Any) -> None:
    async def main(number: int) -> list[int]:
        await ensure_portal()
        return [sync_step(loop, number) for _ in range(50)]

    results: list[list[int]] = []
    threads = [
        threading.Thread(target=lambda number=number: results.append(loop.run(main, number)))
        for number in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results) == [[number] * 50 for number in range(4)]


# --- eager tasks -------------------------------------------------------------


def skip_without(package: str) -> None:
    """Skips where it is not installed. Does not import it: the programs do, not this process."""
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"{package} is not installed")


@pytest.fixture
def eager(aio: Any) -> Callable[[Callable[[], Coroutine[Any, Any, Any]]], Any]:
    """Runs a program on a loop whose tasks start in place."""
    if sys.version_info < (3, 12):
        pytest.skip("eager tasks came with 3.12")

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
        is_eager = task.done()
        await task
        return is_eager

    async def program(main: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
        asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)
        return await main()

    # uvloop passes `eager_start` to the factory: an error before 3.13.3, lazy after.
    if not aio.run(probe):
        pytest.skip(f"this {aio.name} makes no eager tasks on this Python")
    return lambda main: aio.run(program, main)


@pytest.mark.parametrize("parent_has_a_portal", [False, True])
def test_an_eager_task_ensures_a_portal_in_its_first_step(
    aio: Any, eager: Any, parent_has_a_portal: bool
) -> None:
    async def child(number: int) -> int:
        assert not has_portal(), "the parent's is not its own"
        await ensure_portal()
        assert has_portal()
        result = sync_step(aio, number)
        await aio.checkpoint()
        return result + sync_step(aio, number)

    async def main() -> list[int]:
        if parent_has_a_portal:
            await ensure_portal()
        before = has_portal()
        tasks = [asyncio.create_task(child(number)) for number in range(10)]
        assert has_portal() is before
        results = [await task for task in tasks]
        if parent_has_a_portal:
            assert sync_step(aio, "waits too") == "waits too"
        return results

    assert eager(main) == [2 * number for number in range(10)]


def test_an_eager_task_started_by_sync_code_of_a_portal(aio: Any, eager: Any) -> None:
    async def child() -> str:
        with pytest.raises(NoAwaitContext):
            sync_step(aio)
        await ensure_portal()
        return sync_step(aio, "child")

    async def at_once() -> str:
        return await with_portal_run(value, "at once")

    def sync() -> list[str]:
        assert has_portal()
        tasks = [asyncio.create_task(child()), asyncio.create_task(at_once())]
        assert has_portal()
        return [await_(task) for task in tasks]

    async def main() -> list[str]:
        await ensure_portal()
        return sync()

    assert eager(main) == ["child", "at once"]


def test_an_eager_task_runs_a_portal_in_its_first_step(aio: Any, eager: Any) -> None:
    async def child() -> str:
        return await with_portal_run(as_portal)

    async def as_portal() -> str:
        return sync_step(aio, "child")

    async def main() -> list[str]:
        first = await asyncio.create_task(child())
        await ensure_portal()
        return [first, await asyncio.create_task(child()), sync_step(aio, "parent")]

    assert eager(main) == ["child", "child", "parent"]


def test_a_portal_bestowed_in_an_eager_first_step(aio: Any, eager: Any) -> None:
    async def child() -> str:
        bestow_portal(asyncio.current_task())
        assert not has_portal()
        await aio.checkpoint()
        return sync_step(aio, "waited")

    async def ends_at_once() -> str:
        bestow_portal(asyncio.current_task())
        return "at once"

    async def main() -> list[str]:
        return [await asyncio.create_task(fn()) for fn in (child, ends_at_once)]

    assert eager(main) == ["waited", "at once"]


# --- in a process of its own -------------------------------------------------

by_library = pytest.mark.parametrize("library", ["asyncio", "trio"])


@pytest.fixture
def greenback(python: Any) -> Callable[..., list[str]]:
    """Runs a case with greenback in a process of its own; gives the lines it prints."""
    for name in ("greenback", "trio"):
        skip_without(name)
    return lambda case, *arguments: python("portals.py", case, *arguments).stdout.split("\n")[:-1]


@by_library
def test_greenback_first(greenback: Any, library: str) -> None:
    assert greenback("greenback_first", library) == ["refused", "refused", "goes on"]


@by_library
def test_inside_greenbacks_with_portal_run(greenback: Any, library: str) -> None:
    assert greenback("inside_greenbacks_run", library) == ["refused", "goes on", "ours"]


@by_library
def test_for_another_task_inside_greenbacks_with_portal_run(greenback: Any, library: str) -> None:
    lines = greenback("another_task_inside_greenbacks_run", library)
    assert sorted(lines) == ["goes on", "refused", "waited"]


@by_library
def test_greenback_after_ours(greenback: Any, library: str) -> None:
    """Their portal is put around ours."""
    lines = greenback("ours_first", library)
    assert lines in (["refused", "lives"], ["theirs", "lives"])


@by_library
def test_ours_inside_a_task_of_greenback(greenback: Any, library: str) -> None:
    """Refused at some point, or everything works."""
    lines = greenback("ours_inside_greenbacks", library)
    assert lines[-1] == "lives"
    assert set(lines) <= {"ours", "theirs", "refused", "lives"}


@by_library
def test_both_await_inside_greenbacks_with_portal_run(greenback: Any, library: str) -> None:
    lines = greenback("both_await_inside_greenbacks_run", library)
    assert lines[-1] == "lives"
    assert set(lines) <= {"ours", "theirs", "refused", "lives"}


@by_library
@pytest.mark.parametrize("others_wait", ["natively", "in sync code"])
def test_greenbacks_with_portal_run_inside_ours(
    greenback: Any, library: str, others_wait: str
) -> None:
    assert greenback("greenbacks_run_inside_ours", library, others_wait) == ["lives"]


@by_library
def test_greenlets_that_live_from_step_to_step(python: Any, library: str) -> None:
    for name in ("greenlet", "trio"):
        skip_without(name)
    assert python("portals.py", "greenlets_outlive_steps", library).stdout == "lives\n"


DESTROYED = "Task was destroyed but it is pending!"
UNWOUND = {
    "natively": ["natively"],
    "in_sync_code": ["GeneratorExit", "in sync code", "below sync code"],
}


@pytest.mark.parametrize("case", ["loop_closed", "loop_closed_by_the_garbage_collector"])
@pytest.mark.parametrize(
    "which", ["natively", pytest.param("in_sync_code", marks=needs_thread_state)]
)
def test_the_loop_is_closed_while_a_portal_task_waits(python: Any, case: str, which: str) -> None:
    lines = python("portals.py", case, which).stdout.split("\n")[:-1]
    if case == "loop_closed":
        assert lines.pop(0) == "closed"
    assert lines.pop() == "collected"
    lines.remove(DESTROYED)
    assert lines == UNWOUND[which]


@pytest.mark.parametrize("case", ["interpreter_exit", "interpreter_exit_in_a_cycle"])
def test_the_interpreter_ends_while_portal_tasks_wait(python: Any, case: str) -> None:
    lines = python("portals.py", case).stdout.split("\n")[:-1]
    assert lines.pop(0) == "leaving"
    assert sorted(lines) == sorted(
        [DESTROYED] * 3 + UNWOUND["natively"] + UNWOUND["in_sync_code"] * 2
    )


def test_the_interpreter_is_ended_by_sync_code(python: Any) -> None:
    done = python("portals.py", "interpreter_exit_inside", check=False)
    assert (done.returncode, done.stdout, done.stderr) == (3, "leaving\n", "")


def test_a_trio_run_that_crashes(python: Any) -> None:
    pytest.importorskip("trio", reason="trio is not installed")
    done = python("portals.py", "trio_run_that_crashes")
    assert sorted(done.stdout.split()) == ["0", "crashed", "unwound"]


def test_a_thread_ends_while_sync_code_waits(python: Any) -> None:
    done = python("portals.py", "thread_ends_while_sync_code_waits")
    assert done.stdout == "RuntimeError\n" * 4 + "['RuntimeWarning']\n"


@pytest.mark.parametrize("case", ["thread_ends_with_its_loop", "held_by_a_thread_local"])
def test_a_thread_ends_with_its_portals(python: Any, case: str) -> None:
    assert python("portals.py", case).stdout.split("\n")[-2:] == ["survived", ""]


def test_dropped_by_another_thread(python: Any) -> None:
    assert python("portals.py", "dropped_by_another_thread").stdout == "unwound at home\n"


def test_a_daemon_thread_with_portals_at_exit(python: Any) -> None:
    assert python("portals.py", "daemon_thread_at_exit").stdout == "leaving\n"


@needs_native_stacks
@needs_address_space_limit
@pytest.mark.parametrize("case", ["out_of_stacks", "out_of_stacks_in_a_loop"])
def test_running_out_of_stacks_is_a_memory_error(python: Any, case: str) -> None:
    assert python("portals.py", case).stdout == "nothing lost\n"
