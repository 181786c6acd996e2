"""A suspended function nobody will resume is unwound where it belongs."""

from __future__ import annotations

import gc
import sys
import threading
import weakref
from collections.abc import Iterator
from typing import Any

import pytest
from conftest import needs_thread_state
from hand_driver import finish, suspend

from verdigris import _engine, async_def, await_


class Thing:
    """Something to hold a weak reference to."""


def test_dropping_the_last_reference_unwinds() -> None:
    steps: list[object] = []

    def f() -> None:
        try:
            await_(suspend())
        except GeneratorExit:
            steps.append("GeneratorExit")
            raise
        finally:
            steps.append(threading.get_ident())

    coro = async_def(f)
    coro.send(None)
    in_use = _engine.stats()["stacks_in_use"]
    del coro
    assert steps == ["GeneratorExit", threading.get_ident()]
    assert _engine.stats()["stacks_in_use"] == in_use - 1


@pytest.fixture
def reported(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The exceptions that could be reported only, by their text."""
    texts: list[str] = []
    # The text alone: to keep the exception would keep the frames it went through.
    monkeypatch.setattr(sys, "unraisablehook", lambda report: texts.append(repr(report.exc_value)))
    return texts


def test_unwinding_may_itself_fail_and_is_reported(reported: list[str]) -> None:

    def f() -> None:
        try:
            await_(suspend())
        finally:
            raise KeyError("while unwinding")

    coro = async_def(f)
    coro.send(None)
    del coro
    assert reported == ["KeyError('while unwinding')"]


def test_finally_blocks_that_wait_are_cut_short_and_the_stack_comes_back(
    reported: list[str],
) -> None:
    """A native coroutine's frame is dropped then; a native stack must be unwound to its end."""
    steps: list[str] = []

    def inner() -> None:
        try:
            await_(suspend())
        finally:
            steps.append("inner")
            await_(suspend())
            steps.append("not reached")

    def outer() -> None:
        try:
            inner()
        finally:
            steps.append("outer")
            await_(suspend())
            steps.append("not reached")

    coro = async_def(outer)
    coro.send(None)
    before = _engine.stats()
    del coro
    after = _engine.stats()
    assert steps == ["inner", "outer"]
    assert after["stacks_in_use"] == before["stacks_in_use"] - 1
    assert after["stacks_leaked"] == before["stacks_leaked"]
    assert reported == ["RuntimeError('coroutine ignored GeneratorExit')"]


def test_an_exception_in_flight_survives_the_unwinding() -> None:
    """Dropping happens anywhere, also while an exception is on its way."""

    def f() -> None:
        try:
            await_(suspend())
        finally:
            steps.append("finally")

    def holds() -> None:
        coro = async_def(f)
        coro.send(None)
        raise KeyError("in flight")

    steps: list[str] = []
    try:
        holds()
    except KeyError as error:
        error.__traceback__ = None
        assert repr(error) == "KeyError('in flight')"
    gc.collect()
    assert steps == ["finally"]


def test_unwinding_may_wait_on_what_never_suspends() -> None:
    async def at_once() -> str:
        return "at once"

    def f() -> None:
        try:
            await_(suspend())
        finally:
            steps.append(await_(at_once()))

    steps: list[str] = []
    coro = async_def(f)
    coro.send(None)
    del coro
    assert steps == ["at once"]


@needs_thread_state
def test_a_cycle_through_its_own_locals_is_collected() -> None:
    refs: list[weakref.ref[Any]] = []
    steps: list[str] = []

    def f(box: list[Any]) -> None:
        thing = Thing()
        thing.box = box  # type: ignore[attr-defined]
        refs.append(weakref.ref(thing))
        try:
            await_(suspend())
        finally:
            steps.append("finally")

    box: list[Any] = []
    coro = async_def(f, box)
    box.append(coro)
    coro.send(None)
    del coro, box
    assert refs[0]() is not None
    gc.collect()
    assert refs[0]() is None
    assert steps == ["finally"]


def deep(box: Any, depth: int) -> Any:
    return deep(box, depth - 1) if depth else await_(suspend())


def awaits_an_object(box: Any) -> Any:
    class Awaitable:
        def __await__(self) -> Iterator[object]:
            yield self

    awaitable = Awaitable()
    awaitable.box = box  # type: ignore[attr-defined]
    await_(awaitable)


def awaits_a_coroutine(box: Any) -> Any:
    async def coroutine(box: Any) -> Any:
        return await suspend()

    return await_(coroutine(box))


def awaits_inside_what_it_awaits(box: Any) -> Any:
    async def coroutine(box: Any) -> Any:
        return deep(box, 3)

    return await_(coroutine(box))


def awaits_another_function(box: Any) -> Any:
    return await_(async_def(lambda box: await_(async_def(deep, box, 3)), box))


def runs_a_generator(box: Any) -> Any:
    def generator(box: Any) -> Any:
        yield deep(box, 3)

    for _ in generator(box):
        pass


# What a frame pushed before it called into C is known from 3.14 on only.
since_3_14 = pytest.mark.skipif(
    sys.version_info < (3, 14), reason="the frame does not tell its stack pointer before 3.14"
)


@needs_thread_state
@pytest.mark.parametrize(
    "body",
    [
        lambda box: deep(box, 20),
        awaits_an_object,
        awaits_a_coroutine,
        awaits_inside_what_it_awaits,
        awaits_another_function,
        pytest.param(runs_a_generator, marks=since_3_14),
    ],
    ids=["deep", "object", "coroutine", "await inside await", "nested function", "generator"],
)
def test_a_cycle_through_a_suspended_stack_is_collected(body: Any) -> None:
    box: list[Any] = []
    thing = Thing()
    thing.box = box  # type: ignore[attr-defined]
    ref = weakref.ref(thing)
    coro = async_def(body, box)
    box += [coro, thing]
    coro.send(None)
    del coro, box, thing
    try:
        gc.collect()
        assert ref() is None
    finally:
        # What could not be collected must not make the next test fail too.
        if (left := ref()) is not None:
            left.box[0].close()  # type: ignore[attr-defined]


def test_a_cycle_of_functions_never_started_is_collected() -> None:
    refs: list[weakref.ref[Any]] = []

    def f(box: Any) -> None: ...

    box: list[Any] = []
    thing = Thing()
    refs.append(weakref.ref(thing))
    coro = async_def(f, box)
    box.extend([coro, thing])
    del thing
    del coro, box
    with pytest.warns(RuntimeWarning, match="never awaited"):
        gc.collect()
    # The recorded warning brought it back to life for a moment.
    gc.collect()
    assert refs[0]() is None


def test_what_a_living_suspended_function_holds_is_not_collected() -> None:
    """The other side: reachable through the stack means alive."""
    refs: list[weakref.ref[Any]] = []

    def f() -> str:
        thing = Thing()
        thing.me = thing  # type: ignore[attr-defined]
        refs.append(weakref.ref(thing))
        await_(suspend())
        return type(thing).__name__

    coro = async_def(f)
    coro.send(None)
    for _ in range(3):
        gc.collect()
    assert refs[0]() is not None
    with pytest.raises(StopIteration) as end:
        coro.send(None)
    assert end.value.value == "Thing"


def test_the_collector_counts_every_reference_once() -> None:
    """Visiting a frame's object twice would free what is still in use."""
    shared = Thing()

    def f(*args: object) -> int:
        local, again = shared, [shared, shared]
        await_(suspend())
        return len(again) + len(args) + (local is shared)

    coros = [async_def(f, shared, shared) for _ in range(50)]
    for coro in coros:
        coro.send(None)
    references = sys.getrefcount(shared)
    for _ in range(5):
        gc.collect()
    assert sys.getrefcount(shared) == references
    for coro in coros:
        with pytest.raises(StopIteration) as end:
            coro.send(None)
        assert end.value.value == 5
    assert gc.is_tracked(coro)


def test_suspended_objects_show_in_referents() -> None:
    thing = Thing()
    coro = async_def(lambda held: await_(suspend()), thing)
    coro.send(None)
    seen: list[Any] = [coro]
    for _ in range(4):
        seen += [r for r in gc.get_referents(*seen) if all(r is not s for s in seen)]
    assert any(s is thing for s in seen)
    coro.close()


@needs_thread_state
def test_collected_while_another_function_runs() -> None:
    """The collector may find a cycle while it runs on some other green stack."""
    steps: list[str] = []

    def abandoned(box: Any) -> None:
        try:
            await_(suspend())
        finally:
            steps.append("finally")

    def collects() -> None:
        box: list[Any] = []
        coro = async_def(abandoned, box)
        box.append(coro)
        coro.send(None)
        del coro, box
        gc.collect()
        await_(suspend())
        steps.append("after")

    coro = async_def(collects)
    coro.send(None)
    with pytest.raises(StopIteration):
        coro.send(None)
    assert steps == ["finally", "after"]


def test_dropped_by_the_very_function_it_waits_in() -> None:
    """A function that drops the last reference to the one driving it."""
    box: list[Any] = []

    def f() -> str:
        box.clear()
        gc.collect()
        return await_(suspend())

    box.append(async_def(f))
    try:
        tag = box[0].send(None)
    except StopIteration:
        tag = "ended"
    assert tag is None
    gc.collect()


@needs_thread_state
def test_dropped_at_the_recursion_limit() -> None:
    """It can't be entered there, and is unwound a little later."""
    ended = []

    def f() -> None:
        try:
            await_(suspend())
        finally:
            ended.append(threading.get_ident())

    held = []
    for _ in range(10):
        held.append(async_def(f))
        held[-1].send(None)
    before = _engine.stats()

    def deeper() -> None:
        try:
            deeper()
        except RecursionError:
            held.clear()
            raise

    with pytest.raises(RecursionError):
        deeper()
    finish(async_def(lambda: None))
    assert ended == [threading.get_ident()] * 10
    after = _engine.stats()
    assert after["stacks_leaked"] == before["stacks_leaked"]
    assert after["stacks_in_use"] == before["stacks_in_use"] - 10


def test_refusing_leaks_with_a_warning(python: Any) -> None:
    done = python("abandon.py", "refused")
    assert done.stdout == "leaked 1\nafter\n"
    assert "refuses" in done.stderr, "leaked without a warning that names the function"


@pytest.mark.parametrize(
    ("case", "printed"),
    [
        ("at_exit_in_a_global", "finally\n"),
        ("at_exit_in_a_cycle", "finally\n"),
        ("at_exit_deep", "finally\n0\n1\n2\n3\n"),
        ("at_exit_many", ".\n" * 1000),
        ("at_exit_refuses", "leaving\n"),
        ("at_exit_while_running", "atexit\n"),
        ("at_exit_with_an_open_loop", "leaving\n"),
        ("os_exit_inside", "inside\n"),
    ],
)
def test_the_interpreter_ends(python: Any, case: str, printed: str) -> None:
    assert python("abandon.py", case).stdout == printed
