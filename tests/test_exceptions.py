"""Exceptions in both directions, and the exception being handled, across switches.

Several tests run one body as a green function and as a native coroutine and
compare: what CPython does for `async def` is what must come out here.
"""

from __future__ import annotations

import asyncio
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hand_driver import finish, suspend, value

import verdigris
from verdigris import async_def, await_

PACKAGE = Path(verdigris.__file__).resolve().parent


def frames_of(error: BaseException) -> list[str]:
    return [frame.name for frame in traceback.extract_tb(error.__traceback__)]


def frames_of_ours(error: BaseException) -> list[str]:
    return [
        f"{frame.filename}:{frame.lineno} in {frame.name}"
        for frame in traceback.extract_tb(error.__traceback__)
        if PACKAGE in Path(frame.filename).resolve().parents
    ]


async def fails(error: BaseException) -> None:
    await suspend()
    raise error


async def fails_at_once(error: BaseException) -> None:
    raise error


# --- both ways ---------------------------------------------------------------


class Custom(BaseException): ...


@pytest.mark.parametrize(
    "kind", [ValueError, Custom, KeyboardInterrupt, SystemExit, GeneratorExit, StopAsyncIteration]
)
@pytest.mark.parametrize("fail", [fails, fails_at_once])
def test_out_of_the_awaitable_through_the_function_to_the_caller(
    kind: type[BaseException], fail: Callable[..., Any]
) -> None:
    error, seen = kind("original"), []

    def f() -> None:
        try:
            await_(fail(error))
        except BaseException as caught:
            seen.append(caught)
            raise

    with pytest.raises(kind) as caught:
        finish(async_def(f))
    assert caught.value is error
    assert seen == [error]


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_exits_leave_the_loop(loop: Any, kind: type[BaseException]) -> None:
    cleaned: list[str] = []

    def f() -> None:
        try:
            await_(loop.checkpoint())
            raise kind("out")
        finally:
            cleaned.append("finally")

    with pytest.raises(kind):
        loop.run(async_def, f)
    assert cleaned == ["finally"]


def test_sigint_inside_a_busy_function() -> None:
    def f() -> None:
        await_(suspend())
        signal.raise_signal(signal.SIGINT)
        for _ in range(1000):
            pass

    # A shell starts what it puts in the background with SIGINT ignored.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        coro = async_def(f)
        coro.send(None)
        with pytest.raises(KeyboardInterrupt):
            coro.send(None)
    finally:
        signal.signal(signal.SIGINT, before)
    assert coro.cr_frame is None


def test_exception_groups(aio: Any) -> None:
    async def group() -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(async_def(fail, KeyError("one")))
            tasks.create_task(async_def(fail, ValueError("two")))

    def fail(error: Exception) -> None:
        await_(asyncio.sleep(0))
        raise error

    def f() -> list[str]:
        caught: list[str] = []
        try:
            await_(group())
        except* KeyError as errors:
            caught += [repr(e) for e in errors.exceptions]
        except* ValueError as errors:
            await_(asyncio.sleep(0))
            caught += [repr(e) for e in errors.exceptions]
        return caught

    assert aio.run(async_def, f) == ["KeyError('one')", "ValueError('two')"]


# --- tracebacks --------------------------------------------------------------


def test_the_traceback_reads_like_a_native_one() -> None:
    def f() -> None:
        g()

    def g() -> None:
        await_(inner())

    async def inner() -> None:
        await suspend()
        raise KeyError("innermost")

    async def outer() -> None:
        await async_def(f)

    with pytest.raises(KeyError) as caught:
        finish(outer())
    theirs = [n for n in frames_of(caught.value) if not n.startswith("test_")]
    assert len(frames_of_ours(caught.value)) <= 1
    assert [n for n in theirs if n in ("outer", "f", "g", "inner")] == ["outer", "f", "g", "inner"]


def test_the_traceback_does_not_grow_while_passing_many_stacks() -> None:
    """One entry a Python frame, and at most one of ours in all."""

    def level(depth: int) -> None:
        if depth == 0:
            raise KeyError("deepest")
        await_(async_def(level, depth - 1))

    with pytest.raises(KeyError) as caught:
        finish(async_def(level, 10))
    assert frames_of(caught.value).count("level") == 11
    assert len(frames_of_ours(caught.value)) <= 1


def test_a_thrown_exception_shows_the_waiting_line() -> None:
    def waits_here() -> None:
        await_(suspend())

    coro = async_def(waits_here)
    coro.send(None)
    with pytest.raises(KeyError) as caught:
        coro.throw(KeyError("thrown"))
    assert "waits_here" in frames_of(caught.value)
    assert len(frames_of_ours(caught.value)) <= 1


# --- __context__ and __cause__ -----------------------------------------------


def chain(error: BaseException | None) -> list[str]:
    """The exceptions that led to this one, by what they say."""
    links: list[str] = []
    while error is not None:
        links.append(repr(error))
        error = error.__cause__ or error.__context__
    return links


def test_context_and_cause_are_those_of_native_code() -> None:
    def body_sync(wait: Callable[[], object]) -> None:
        try:
            wait()
            raise KeyError("first")
        except KeyError:
            wait()
            try:
                raise ValueError("second")
            except ValueError as second:
                wait()
                raise TypeError("third") from second

    async def body_native() -> None:
        try:
            await suspend()
            raise KeyError("first")
        except KeyError:
            await suspend()
            try:
                raise ValueError("second")
            except ValueError as second:
                await suspend()
                raise TypeError("third") from second

    def under_a_handler(coro: Any) -> list[str]:
        try:
            raise OSError("the driver's")
        except OSError:
            try:
                finish(coro)
            except TypeError as error:
                first = error.__cause__.__context__  # type: ignore[union-attr]
                return [*chain(error), "then", *chain(first)]
        return []

    native = under_a_handler(body_native())
    assert "KeyError('first')" in native and 'OSError("the driver\'s")' in native
    assert under_a_handler(async_def(body_sync, lambda: await_(suspend()))) == native


def test_an_exception_thrown_in_gets_the_one_being_handled_as_context() -> None:
    def f() -> None:
        try:
            raise KeyError("being handled")
        except KeyError:
            await_(suspend())

    coro = async_def(f)
    coro.send(None)
    with pytest.raises(ValueError, match="thrown") as caught:
        coro.throw(ValueError("thrown"))
    assert repr(caught.value.__context__) == "KeyError('being handled')"


def test_an_exception_thrown_in_does_not_get_the_drivers_as_context() -> None:
    """As natively: what the driver handles is not why the function failed."""

    async def native() -> None:
        await suspend()

    for coro in (native(), async_def(lambda: await_(suspend()))):
        coro.send(None)
        try:
            raise OSError("the driver's")
        except OSError:
            with pytest.raises(ValueError, match="thrown") as caught:
                coro.throw(ValueError("thrown"))
        assert caught.value.__context__ is None


# --- the exception being handled ---------------------------------------------


def test_bare_raise_after_a_wait() -> None:
    original = KeyError("original")

    def f() -> None:
        try:
            raise original
        except KeyError:
            await_(suspend())
            assert sys.exc_info()[1] is original
            raise

    coro = async_def(f)
    coro.send(None)
    assert sys.exc_info() == (None, None, None)
    with pytest.raises(KeyError) as caught:
        coro.send(None)
    assert caught.value is original


def test_the_drivers_own_handler_is_not_disturbed() -> None:
    def f() -> None:
        for n in range(3):
            try:
                raise KeyError(n)
            except KeyError:
                await_(suspend(n))

    coro = async_def(f)
    mine = OSError("the driver's")
    try:
        raise mine
    except OSError:
        for n in range(3):
            assert coro.send(None) == n
            assert sys.exc_info()[1] is mine
        with pytest.raises(StopIteration):
            coro.send(None)
        assert sys.exc_info()[1] is mine
    assert sys.exc_info()[1] is None


def test_sees_what_its_driver_handles_now_as_a_native_coroutine_does() -> None:
    async def native(seen: list[object]) -> None:
        seen.append(repr(sys.exc_info()[1]))
        await suspend()
        seen.append(repr(sys.exc_info()[1]))
        await suspend()
        seen.append(repr(sys.exc_info()[1]))

    def green(seen: list[object]) -> None:
        seen.append(repr(sys.exc_info()[1]))
        await_(suspend())
        seen.append(repr(sys.exc_info()[1]))
        await_(suspend())
        seen.append(repr(sys.exc_info()[1]))

    def drive_under_handlers(coro: Any) -> None:
        try:
            raise OSError("outer")
        except OSError:
            coro.send(None)
            try:
                raise KeyError("inner")
            except KeyError:
                coro.send(None)
        with pytest.raises(StopIteration):
            coro.send(None)

    expected: list[object] = []
    drive_under_handlers(native(expected))
    assert expected == ["OSError('outer')", "KeyError('inner')", "None"]
    seen: list[object] = []
    drive_under_handlers(async_def(green, seen))
    assert seen == expected


def test_interleaved_functions_keep_their_own() -> None:
    def f(mine: BaseException) -> None:
        try:
            raise mine
        except BaseException:
            for _ in range(3):
                await_(suspend())
                assert sys.exc_info()[1] is mine
            raise

    errors = [KeyError(n) for n in range(4)]
    coros = [async_def(f, error) for error in errors]
    for coro in coros:
        coro.send(None)
    for _ in range(2):
        for coro in reversed(coros):
            coro.send(None)
    for coro, error in zip(coros, errors, strict=True):
        with pytest.raises(KeyError) as caught:
            coro.send(None)
        assert caught.value is error
        # pytest.raises has handled it: nothing is being handled any more.
        assert sys.exc_info()[1] is None


def test_nested_drivers_link_through() -> None:
    """A green function that handles one drives another green function by hand."""

    def inner() -> list[object]:
        first = repr(sys.exc_info()[1])
        await_(suspend())
        return [first, repr(sys.exc_info()[1])]

    def outer() -> list[object]:
        coro = async_def(inner)
        try:
            raise KeyError("outer's")
        except KeyError:
            coro.send(None)
        await_(suspend())
        try:
            raise ValueError("outer's second")
        except ValueError:
            with pytest.raises(StopIteration) as end:
                coro.send(None)
        return end.value.value

    assert finish(async_def(outer)) == ['KeyError("outer\'s")', 'ValueError("outer\'s second")']


# --- exceptions with a meaning to the protocol -------------------------------


def test_stop_iteration_becomes_a_runtime_error_as_in_a_coroutine(loop: Any) -> None:
    stop = StopIteration("mine")

    def f(waits: bool) -> None:
        if waits:
            await_(loop.checkpoint())
        raise stop

    for waits in (False, True):
        with pytest.raises(RuntimeError, match="raised StopIteration") as caught:
            loop.run(async_def, f, waits)
        assert caught.value.__cause__ is stop
        with pytest.raises(RuntimeError, match="raised StopIteration") as caught:
            loop.run(async_def, lambda waits=waits: await_(async_def(f, waits)))
        assert caught.value.__cause__ is stop


def test_stop_iteration_inside_a_function_is_its_own_affair() -> None:
    def f() -> str:
        it = iter([1])
        await_(suspend())
        next(it)
        try:
            next(it)
        except StopIteration:
            await_(suspend())
            return "caught"
        return "never"

    assert finish(async_def(f)) == "caught"


def test_stop_iteration_from_an_awaited_coroutine() -> None:
    async def leaks() -> None:
        raise StopIteration("inside a coroutine")

    def f() -> None:
        await_(leaks())

    with pytest.raises(RuntimeError, match="coroutine raised StopIteration"):
        finish(async_def(f))


def test_stop_async_iteration_passes_as_in_a_coroutine() -> None:
    def f() -> None:
        raise StopAsyncIteration("passes")

    with pytest.raises(StopAsyncIteration, match="passes"):
        finish(async_def(f))


def test_async_iteration_ends_by_stop_async_iteration() -> None:
    async def numbers() -> Any:
        await suspend()
        yield 1

    def f() -> list[int]:
        agen, seen = numbers(), []
        while True:
            try:
                seen.append(await_(agen.__anext__()))
            except StopAsyncIteration:
                return seen

    assert finish(async_def(f)) == [1]


def test_swallowed_generator_exit_is_reported_by_close() -> None:
    def f() -> None:
        while True:
            try:
                await_(suspend())
            except GeneratorExit:
                if given_up:
                    raise

    given_up = False
    coro = async_def(f)
    coro.send(None)
    with pytest.raises(RuntimeError, match="coroutine ignored GeneratorExit"):
        coro.close()
    given_up = True
    coro.close()


def test_a_system_exit_in_a_subprocess_is_its_exit_code(python: Any) -> None:
    done = python(
        """
        import asyncio, sys
        from verdigris import async_def, await_

        def f():
            await_(asyncio.sleep(0))
            try:
                sys.exit(7)
            finally:
                await_(asyncio.sleep(0))
                print("cleaned")

        asyncio.run(async_def(f))
        """,
        check=False,
    )
    assert (done.returncode, done.stdout) == (7, "cleaned\n"), done.stderr


def test_exceptions_do_not_keep_the_function_alive() -> None:
    """A finished function's locals go when its exception goes."""
    import gc
    import weakref

    class Thing: ...

    refs: list[weakref.ref[Thing]] = []

    def f() -> None:
        thing = Thing()
        refs.append(weakref.ref(thing))
        await_(value(1))
        await_(suspend())
        raise KeyError("with a local")

    coro = async_def(f)
    coro.send(None)
    with pytest.raises(KeyError):
        coro.send(None)
    del coro
    gc.collect()
    assert refs[0]() is None
