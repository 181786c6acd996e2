"""`to_async` and `run`: blocking functions on threads, and what is async already left as it is."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextvars
import functools
import gc
import inspect
import sys
import threading
import traceback
import weakref
from collections.abc import Callable
from typing import Any

import pytest
from conftest import AsyncioLoop, Loop, TrioLoop

from verdigris import async_, async_def, await_, run, to_async


async def double(number: int) -> int:
    return 2 * number


class Doubles:
    async def method(self, number: int) -> int:
        return 2 * number

    def plain(self, number: int) -> int:
        return 2 * number

    async def __call__(self, number: int) -> int:
        return 2 * number


# --- what is async already ---------------------------------------------------


def test_what_is_async_comes_back_unchanged() -> None:
    doubles = Doubles()
    partial = functools.partial(functools.partial(double), number=1)
    for function in (double, doubles, doubles.method, partial, functools.partial(doubles)):
        assert to_async(function) is function
    green = async_(lambda: 1)
    assert to_async(green) is green


@pytest.mark.skipif(sys.version_info < (3, 12), reason="new in 3.12")
def test_a_marked_function_comes_back_unchanged() -> None:
    def plain(number: int) -> Any:
        return double(number)

    inspect.markcoroutinefunction(plain)
    assert to_async(plain) is plain


def wrapped(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def wrapper(*args: Any) -> Any:
        return function(*args)

    return wrapper


@pytest.mark.parametrize("where", ["thread", "green"])
def test_a_plain_wrapper_of_an_async_function_is_awaited(any_loop: Loop, where: Any) -> None:
    async def main() -> Any:
        checked = threading.get_ident()

        async def on_the_loop(number: int) -> int:
            assert threading.get_ident() == checked
            await any_loop.checkpoint()
            return 2 * number

        return [
            await to_async(wrapped(on_the_loop), where=where)(2),
            await to_async(lambda: async_def(on_the_loop_in_green), where=where)(),
        ]

    def on_the_loop_in_green() -> str:
        await_(any_loop.checkpoint())
        return "green"

    assert any_loop.run(main) == [4, "green"]


def test_methods_static_and_class_methods_and_builtins(any_loop: Loop) -> None:
    class Mixed:
        factor = 3

        @to_async
        def method(self, number: int) -> int:
            return self.factor * number

        @to_async(where="green")
        def green(self, number: int) -> int:
            return self.factor * number

        @to_async
        @staticmethod
        def static(number: int) -> int:
            return number

        @to_async
        @classmethod
        def of_class(cls, number: int) -> int:
            return cls.factor * number

    async def main() -> list[int]:
        mixed = Mixed()
        return [
            await mixed.method(1),
            await mixed.green(1),
            await mixed.static(1),
            await Mixed.static(1),
            await mixed.of_class(1),
            await Mixed.of_class(1),
            await to_async(len)("four"),
            await to_async(functools.partial(divmod, 7))(2),
            await to_async(int)("5"),
        ]

    assert any_loop.run(main) == [3, 3, 1, 1, 3, 3, 4, (3, 1), 5]


def test_the_wrapper_has_the_name_and_is_async() -> None:
    def named(number: int) -> int:
        """Documented."""
        return number

    made = to_async(named)
    assert made.__name__ == "named" and made.__doc__ == "Documented."
    assert inspect.iscoroutinefunction(made)
    assert list(inspect.signature(made).parameters) == ["number"]
    assert to_async(made) is made


@pytest.mark.parametrize("arguments", [{"where": "process"}, {"where": None}])
def test_a_place_that_is_none(arguments: Any) -> None:
    with pytest.raises(ValueError, match='"thread" or "green"'):
        to_async(len, **arguments)


def test_what_is_no_function() -> None:
    with pytest.raises(TypeError, match="Pass the function itself"):
        to_async(3)
    with concurrent.futures.ThreadPoolExecutor(1) as executor, pytest.raises(TypeError):
        to_async(len, where="green", executor=executor)
    coroutine = double(2)
    with pytest.raises(TypeError, match="to_async"):
        to_async(coroutine)
    coroutine.close()


def test_without_a_loop() -> None:
    coroutine = to_async(len)("four")
    with pytest.raises(RuntimeError, match=r"Start one, as with asyncio.run"):
        coroutine.send(None)


# --- on threads --------------------------------------------------------------


def test_several_at_once_on_threads_of_their_own(any_loop: Loop) -> None:
    everyone = threading.Barrier(5)
    threads = set()

    def meet() -> None:
        threads.add(threading.get_ident())
        everyone.wait(30)

    async def main() -> None:
        async with any_loop.tasks() as start:
            for _ in range(5):
                start(to_async(meet))

    any_loop.run(main)
    assert len(threads) == 5 and threading.get_ident() not in threads


def test_the_loop_goes_on(any_loop: Loop) -> None:
    stop = threading.Event()

    async def main() -> Any:
        async with any_loop.tasks() as start:
            waiting = start(to_async(stop.wait), 30)
            for _ in range(5):
                await any_loop.checkpoint()
            stop.set()
            return (await waiting.wait()).value

    assert any_loop.run(main) is True


def test_context_variables_are_a_copy(any_loop: Loop) -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable")

    def change() -> str:
        before = variable.get()
        variable.set("changed")
        return before

    async def main() -> tuple[str, str]:
        variable.set("given")
        return await to_async(change)(), variable.get()

    assert any_loop.run(main) == ("given", "given")


class Broken(Exception):
    pass


@pytest.mark.parametrize("where", ["thread", "green", "executor"])
def test_exceptions_and_their_tracebacks(any_loop: Loop, where: Any) -> None:
    def breaks() -> None:
        raise Broken

    async def main() -> Any:
        with concurrent.futures.ThreadPoolExecutor(1) as executor:
            how: Any = {"executor": executor} if where == "executor" else {"where": where}
            try:
                await to_async(breaks, **how)()
            except Broken as error:
                return [frame.name for frame in traceback.extract_tb(error.__traceback__)]

    names = any_loop.run(main)
    assert names[0] == "main" and names[-1] == "breaks"
    if where != "executor":  # whose own frames are between
        assert len(names) <= 4, names


@pytest.mark.parametrize("where", ["thread", "green"])
def test_stop_iteration_does_not_hang(any_loop: Loop, where: Any) -> None:
    async def main() -> Any:
        with pytest.raises(RuntimeError, match="StopIteration") as caught:
            await to_async(next, where=where)(iter(()))
        return type(caught.value.__cause__)

    assert any_loop.run(main) is StopIteration


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt])
def test_exceptions_that_end_programs_come_to_the_caller(
    any_loop: Loop, kind: type[BaseException]
) -> None:
    def ends() -> None:
        raise kind("from a thread")

    async def main() -> str:
        try:
            await to_async(ends)()
        except kind as error:
            return str(error)
        return "nothing came"

    assert any_loop.run(main) == "from a thread"
    assert any_loop.run(to_async(len), "next") == 4


class Thing:
    pass


def gone(reference: weakref.ref[Any]) -> bool:
    """Whether an object went, as soon as the thread that had it has let go."""
    for _ in range(3_000):
        if reference() is None:
            return True
        threading.Event().wait(0.001)
    return False


def test_arguments_and_results_are_let_go_of(any_loop: Loop) -> None:
    gc.disable()
    try:

        async def main() -> tuple[weakref.ref[Thing], weakref.ref[Thing]]:
            argument, made = Thing(), []

            def make(given: Thing) -> Thing:
                made.append(weakref.ref(given))
                return Thing()

            result = await to_async(make)(argument)
            return weakref.ref(argument), weakref.ref(result)

        for reference in any_loop.run(main):
            assert gone(reference)
    finally:
        gc.enable()


def test_an_error_is_let_go_of(any_loop: Loop) -> None:
    class Weak(Exception):
        pass

    def breaks(thing: Thing) -> None:
        raise Weak

    async def main() -> list[weakref.ref[Any]]:
        thing = Thing()
        try:
            await to_async(breaks)(thing)
        except Weak as error:
            return [weakref.ref(error), weakref.ref(thing)]
        raise AssertionError

    gc.disable()
    try:
        for reference in any_loop.run(main):
            assert gone(reference)
    finally:
        gc.enable()


# --- cancellation ------------------------------------------------------------


def test_cancelled_while_it_runs_the_caller_goes_on_at_once(any_loop: Loop) -> None:
    begun, stop, ended = threading.Event(), threading.Event(), threading.Event()

    def wait() -> None:
        begun.set()
        stop.wait(30)
        ended.set()

    async def main() -> Any:
        async with any_loop.tasks() as start:
            waiting = start(to_async(wait))
            while not begun.is_set():
                await any_loop.sleep(0.001)
            waiting.cancel()
            outcome = await waiting.wait()
            went_on = not ended.is_set()
            stop.set()
            return outcome.cancelled, went_on

    assert any_loop.run(main) == (True, True)
    assert ended.wait(30)


def test_cancelled_before_it_begins_it_never_does(
    any_loop: Loop, monkeypatch: pytest.MonkeyPatch
) -> None:
    from verdigris.worlds import _pool

    work: list[Callable[[], object]] = []

    class FullPool:
        start = work.append

    called = []

    async def main() -> bool:
        monkeypatch.setattr(_pool, "default_pool", FullPool)
        async with any_loop.tasks() as start:
            queued = start(to_async(called.append), 1)
            while not work:
                await any_loop.sleep(0.001)
            queued.cancel()
            return (await queued.wait()).cancelled

    assert any_loop.run(main)
    for call in work:
        call()
    assert called == []


def test_cancelled_before_an_executor_begins_it(any_loop: Loop) -> None:
    stop, called = threading.Event(), []

    async def main() -> bool:
        with concurrent.futures.ThreadPoolExecutor(1) as executor:
            try:
                executor.submit(stop.wait, 30)
                async with any_loop.tasks() as start:
                    queued = start(to_async(called.append, executor=executor), 1)
                    while not executor._work_queue.qsize():
                        await any_loop.sleep(0.001)
                    queued.cancel()
                    return (await queued.wait()).cancelled
            finally:
                stop.set()

    assert any_loop.run(main)
    assert called == []


def test_a_coroutine_that_nobody_awaits_any_more_is_closed(any_loop: Loop) -> None:
    """A plain wrapper returns one on its thread after the caller was cancelled."""
    begun, stop = threading.Event(), threading.Event()
    thread: list[threading.Thread] = []

    def late() -> Any:
        thread.append(threading.current_thread())
        begun.set()
        stop.wait(30)
        return double(1)

    async def main() -> None:
        async with any_loop.tasks() as start:
            waiting = start(to_async(late))
            while not begun.is_set():
                await any_loop.sleep(0.001)
            waiting.cancel()
            await waiting.wait()
        stop.set()
        await to_async(len)("")
        await any_loop.sleep(0.01)

    any_loop.run(main)


def test_green_functions_are_cancelled(any_loop: Loop) -> None:
    seen = []

    def wait() -> None:
        try:
            await_(any_loop.sleep(1000))
        except BaseException as error:
            seen.append(type(error))
            raise

    async def main() -> bool:
        async with any_loop.tasks() as start:
            waiting = start(to_async(wait, where="green"))
            for _ in range(3):
                await any_loop.sleep(0.001)
            waiting.cancel()
            return (await waiting.wait()).cancelled

    assert any_loop.run(main)
    assert len(seen) == 1 and issubclass(seen[0], any_loop.cancelled)


def test_green_functions_run_on_the_thread_of_the_loop(any_loop: Loop) -> None:
    async def main() -> int:
        return await to_async(threading.get_ident, where="green")()

    assert any_loop.run(main) == threading.get_ident()


@pytest.mark.parametrize("fails", [False, True])
def test_a_loop_that_ends_while_the_thread_works(
    any_loop: Loop, fails: bool, caplog: pytest.LogCaptureFixture
) -> None:
    begun, stop, ended = threading.Event(), threading.Event(), threading.Event()

    def late() -> Any:
        begun.set()
        stop.wait(30)
        try:
            if fails:
                raise Broken
            return double(1)
        finally:
            ended.set()

    class Over(Exception):
        pass

    async def main() -> None:
        async with any_loop.tasks() as start:
            waiting = start(to_async(late))
            while not begun.is_set():
                await any_loop.sleep(0.001)
            waiting.cancel()

    any_loop.run(main)
    stop.set()
    assert ended.wait(30)
    # On the same thread or another; whatever was reported, is.
    any_loop.run(to_async(len), "")
    gc.collect()
    assert caplog.records == []


def test_an_asyncio_loop_that_is_closed_over_the_one_who_waits(aio: AsyncioLoop) -> None:
    begun, stop = threading.Event(), threading.Event()

    def late() -> None:
        begun.set()
        stop.wait(30)

    loop = (aio.loop_factory or asyncio.new_event_loop)()

    async def main() -> Any:
        task = asyncio.create_task(to_async(late)())
        while not begun.is_set():
            await asyncio.sleep(0.001)
        return task

    task = loop.run_until_complete(main())
    task._log_destroy_pending = False
    loop.close()
    stop.set()
    task.get_coro().close()


def test_from_loops_in_several_threads(any_loop: Loop) -> None:
    kind = type(any_loop)
    everyone = threading.Barrier(3)
    results = []

    async def main(number: int) -> None:
        await to_async(everyone.wait)(30)
        for step in range(50):
            results.append(await to_async(pow)(number, step % 3))

    threads = [threading.Thread(target=lambda: kind().run(main, 2)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(results) == 150 and set(results) == {1, 2, 4}


def test_in_trio_a_checkpoint(trio_loop: TrioLoop) -> None:
    import trio.testing

    async def main() -> None:
        with trio.testing.assert_checkpoints():
            await to_async(len)("")

    trio_loop.run(main)


# --- run ---------------------------------------------------------------------


def test_run_takes_either_kind(any_loop: Loop) -> None:
    async def main() -> list[Any]:
        return [
            await run(double, 2),
            await run(pow, 2, 5),
            await run(functools.partial(double, number=3)),
            await run(Doubles(), number=4),
            await run(Doubles().plain, 5),
            await run(wrapped(double), 6),
        ]

    assert any_loop.run(main) == [4, 32, 6, 8, 10, 12]


def test_run_of_what_is_no_function(any_loop: Loop) -> None:
    async def main() -> None:
        with pytest.raises(TypeError, match="run\\(\\) needs a function, not 'int'"):
            await run(3)  # type: ignore[arg-type]

    any_loop.run(main)


def test_arguments_that_have_our_names(any_loop: Loop) -> None:
    def takes(**given: Any) -> Any:
        return given

    given = {"fn": 1, "self": 2, "where": 3, "executor": 4, "library": 5, "delivery": 6}

    async def main() -> list[Any]:
        with concurrent.futures.ThreadPoolExecutor(1) as executor:
            return [
                await run(takes, **given),
                await to_async(takes, where="green")(**given),
                await to_async(takes, executor=executor)(**given),
            ]

    assert any_loop.run(main) == [given] * 3
