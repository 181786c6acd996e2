"""`block`, `to_blocking` and `queue_background_thread`: they know where they are."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import gc
import inspect
import sys
import threading
from collections.abc import Callable
from typing import Any

import pytest
from conftest import AsyncioLoop, Loop, TrioLoop

from verdigris import (
    async_,
    async_def,
    await_,
    block,
    detect_blocking,
    ensure_portal,
    queue_background_thread,
    to_async,
    to_blocking,
)
from worlds.conftest import CurioLoop


async def double(number: int) -> int:
    await asyncio.sleep(0)
    return 2 * number


class Doubles:
    async def method(self, number: int) -> int:
        return 2 * number

    async def __call__(self, number: int) -> int:
        return 2 * number


class Broken(Exception):
    pass


def in_a_thread(function: Callable[..., Any], *args: Any) -> Any:
    """Calls a function in a plain thread."""
    results: list[Any] = []
    errors: list[BaseException] = []

    def body() -> None:
        try:
            results.append(function(*args))
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=body)
    thread.start()
    thread.join(60)
    if errors:
        raise errors[0]
    return results[0]


# --- what is blocking already ------------------------------------------------


def test_what_is_blocking_comes_back_unchanged() -> None:
    partial = functools.partial(functools.partial(pow), 2)
    for function in (len, partial, Doubles, [].append, in_a_thread):
        assert to_blocking(function) is function
    made = to_blocking(double)
    assert to_blocking(made) is made


def test_what_is_async_becomes_blocking() -> None:
    doubles = Doubles()
    for function in (
        double,
        functools.partial(functools.partial(double)),
        doubles,
        doubles.method,
        async_(lambda number: 2 * number),
    ):
        made = to_blocking(function)
        assert not inspect.iscoroutinefunction(made)
        assert made(2) == 4
        assert in_a_thread(made, 2) == 4


@pytest.mark.skipif(sys.version_info < (3, 12), reason="new in 3.12")
def test_a_marked_function() -> None:
    def plain(number: int) -> Any:
        return double(number)

    inspect.markcoroutinefunction(plain)
    made = to_blocking(plain)
    assert not inspect.iscoroutinefunction(made)
    assert made(2) == 4


def test_methods_and_decorators() -> None:
    class Mixed:
        factor = 3

        @to_blocking
        async def method(self, number: int) -> int:
            return self.factor * number

        @to_blocking(library="asyncio")
        @staticmethod
        async def static(number: int) -> int:
            return number

        @to_blocking
        @classmethod
        async def of_class(cls, number: int) -> int:
            return cls.factor * number

    mixed = Mixed()
    assert [mixed.method(1), mixed.static(1), mixed.of_class(1), Mixed.of_class(1)] == [3, 1, 3, 3]


def test_bad_arguments() -> None:
    with pytest.raises(TypeError, match="Pass the async function itself"):
        to_blocking(3)
    with pytest.raises(ValueError, match="not 'twisted'"):
        to_blocking(double, library="twisted")  # type: ignore[call-overload]
    with pytest.raises(TypeError, match="queue_background_thread\\(\\) needs a function"):
        queue_background_thread(3)  # type: ignore[arg-type]


def test_arguments_that_have_our_names() -> None:
    async def takes(**given: Any) -> Any:
        return given

    given = {"fn": 1, "library": 2, "token": 3, "self": 4, "args": 5}
    assert block(takes, **given) == given
    assert to_blocking(takes)(**given) == given
    assert queue_background_thread(takes, **given).result(30) == given


# --- in a plain thread -------------------------------------------------------


def test_in_a_plain_thread() -> None:
    def body() -> list[Any]:
        return [
            block(double, 2),
            block(pow, 2, 5),
            block(lambda: double(3)),
            block(lambda: async_def(lambda: await_(double(4)))),
        ]

    assert in_a_thread(body) == body() == [4, 32, 6, 8]


def test_what_is_awaited_may_be_a_future() -> None:
    class Gives:
        def __await__(self) -> Any:
            return double(2).__await__()

    @functools.partial(functools.partial)
    def gives() -> Any:
        return Gives()

    async def asks() -> Any:
        return await Gives()

    assert block(asks) == 4


def test_exceptions_in_a_plain_thread() -> None:
    async def breaks(kind: type[BaseException]) -> None:
        raise kind("out")

    for kind in (Broken, SystemExit, asyncio.CancelledError, KeyboardInterrupt):
        with pytest.raises(kind, match="out"):
            in_a_thread(block, breaks, kind)
    assert block(double, 2) == 4


def test_a_task_that_cancels_itself() -> None:
    async def cancels() -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await asyncio.sleep(0)

    with pytest.raises(asyncio.CancelledError):
        in_a_thread(block, cancels)


def test_context_variables_in_a_plain_thread() -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable")

    async def look() -> str:
        return variable.get()

    def body() -> str:
        variable.set("given")
        return block(look)

    assert in_a_thread(body) == "given"


# --- through a green function or a portal ------------------------------------


def others_go_on(loop: Loop, body: Callable[[Callable[[], Any]], Any]) -> Any:
    """Runs `body` with an async function that only another task lets end."""

    async def main() -> Any:
        asked, answered = loop.event(), loop.event()

        async def answers() -> None:
            await asked.wait()
            answered.set()

        async def asks() -> str:
            asked.set()
            await answered.wait()
            return "answered"

        async with loop.tasks() as start:
            start(answers)
            result = body(asks)
            return await result if inspect.isawaitable(result) else result

    return loop.run(main)


@pytest.mark.parametrize(
    "call", [block, lambda fn: to_blocking(fn)(), lambda fn: block(lambda: fn())]
)
def test_in_a_green_function_the_loop_goes_on(any_loop: Loop, call: Any) -> None:
    assert others_go_on(any_loop, lambda asks: async_def(call, asks)) == "answered"


def test_in_a_portal_the_loop_goes_on(any_loop: Loop) -> None:
    async def with_portal(asks: Any) -> Any:
        await ensure_portal()
        return block(asks)

    assert others_go_on(any_loop, with_portal) == "answered"


def test_cancellation_comes_through(any_loop: Loop) -> None:
    seen = []

    async def waits() -> None:
        try:
            await any_loop.sleep(1000)
        except any_loop.cancelled:
            seen.append("cancelled")
            raise

    async def main() -> bool:
        async with any_loop.tasks() as start:
            task = start(async_def, block, waits)
            for _ in range(3):
                await any_loop.sleep(0.001)
            task.cancel()
            return (await task.wait()).cancelled

    assert any_loop.run(main)
    assert seen == ["cancelled"]


@pytest.mark.parametrize("library", ["asyncio", "trio"])
def test_of_another_library_than_the_loop_in_green(any_loop: Loop, library: Any) -> None:
    """It runs on a thread, and the loop that the function is on goes on."""
    if library == "trio":
        trio: Any = pytest.importorskip("trio")
        sleep = trio.sleep
    else:
        sleep = asyncio.sleep
    asked, answered = threading.Event(), threading.Event()

    async def asks() -> int:
        asked.set()
        while not answered.is_set():
            await sleep(0.001)
        return threading.get_ident()

    async def main() -> int:
        async def answers() -> None:
            while not asked.is_set():
                await any_loop.sleep(0.001)
            answered.set()

        async with any_loop.tasks() as start:
            start(answers)
            return await async_def(to_blocking(asks, library=library))

    same = library == ("asyncio" if any_loop.name == "uvloop" else any_loop.name)
    assert (any_loop.run(main) == threading.get_ident()) is same


# --- in a running loop without a portal --------------------------------------


def test_in_a_running_loop_it_runs_on_another_thread(any_loop: Loop) -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable")

    async def look() -> tuple[int, str]:
        await any_loop.sleep(0)
        return threading.get_ident(), variable.get()

    async def breaks() -> None:
        await any_loop.sleep(0)
        raise Broken

    async def main() -> Any:
        variable.set("given")
        with pytest.raises(Broken):
            block(breaks)
        with pytest.raises(Broken):
            to_blocking(breaks)()
        return block(look), block(lambda: look())

    (thread, seen), (_, seen_by_wrapper) = any_loop.run(main)
    assert thread != threading.get_ident() and seen == seen_by_wrapper == "given"


def test_nested_in_running_loops(any_loop: Loop) -> None:
    async def nested(depth: int) -> list[int]:
        await any_loop.sleep(0)
        below: list[int] = block(nested, depth - 1) if depth else []
        return [threading.get_ident(), *below]

    threads = any_loop.run(nested, 3)
    assert len(threads) == len(set(threads)) == 4


def test_blocking_functions_are_called_right_there(any_loop: Loop) -> None:
    async def main() -> int:
        return block(threading.get_ident)

    assert any_loop.run(main) == threading.get_ident()


def test_the_detector_names_the_line(loop: Loop) -> None:
    reports: list[Any] = []

    async def takes_long() -> None:
        await loop.sleep(0.3)

    async def main() -> None:
        with detect_blocking(0.1, reports.append):
            block(takes_long)  # the line
            for _ in range(100):
                if reports:
                    break
                await loop.sleep(0.01)

    loop.run(main)
    assert [report.line for report in reports] == ["block(takes_long)  # the line"]


# --- in threads that work for a loop -----------------------------------------


def test_in_a_thread_of_to_async_on_the_hosts_library(any_loop: Loop) -> None:
    async def on_the_library() -> str:
        await any_loop.sleep(0)
        return "there"

    async def main() -> str:
        return await to_async(block)(on_the_library)

    assert any_loop.run(main) == "there"
    # And the thread is one of asyncio's again.
    assert queue_background_thread(double, 2).result(30) == 4


def test_in_a_thread_of_to_async_on_trio_it_is_the_run_that_waits(trio_loop: TrioLoop) -> None:
    def body(asks: Any) -> Any:
        return to_async(block)(asks)

    assert others_go_on(trio_loop, body) == "answered"

    async def main() -> bool:
        async def where() -> int:
            return threading.get_ident()

        return await to_async(block)(where) == threading.get_ident()

    assert trio_loop.run(main)


def test_in_threads_of_trio(trio_loop: TrioLoop) -> None:
    trio = trio_loop.trio

    def body(asks: Any) -> Any:
        return trio.to_thread.run_sync(block, asks)

    assert others_go_on(trio_loop, body) == "answered"


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_in_threads_of_anyio(backend: str) -> None:
    anyio: Any = pytest.importorskip("anyio")
    pytest.importorskip(backend)

    async def naps() -> str:
        await anyio.sleep(0)
        return "there"

    async def main() -> list[str]:
        return [await anyio.to_thread.run_sync(block, naps) for _ in range(2)]

    assert anyio.run(main, backend=backend) == ["there"] * 2


def test_in_threads_of_asyncio(aio: AsyncioLoop) -> None:
    async def main() -> int:
        return await asyncio.to_thread(block, double, 2)

    assert aio.run(main) == 4


def test_nested_through_threads_and_loops(any_loop: Loop) -> None:
    async def nested(depth: int) -> int:
        await any_loop.sleep(0)
        if not depth:
            return 0
        return 1 + await to_async(block)(nested, depth - 1)

    assert any_loop.run(nested, 3) == 3


@pytest.mark.parametrize("library", ["asyncio", "trio", "curio"])
def test_the_library_can_be_said(library: Any) -> None:
    kinds: dict[str, type[Loop]] = {"trio": TrioLoop, "curio": CurioLoop, "asyncio": AsyncioLoop}
    loop = kinds[library]()

    async def naps(number: int) -> int:
        await loop.sleep(0)
        return number

    made = to_blocking(naps, library=library)
    assert [made(1), in_a_thread(made, 2)] == [1, 2]


def test_on_curio_in_a_thread_of_curio() -> None:
    loop = CurioLoop()

    async def naps() -> str:
        await loop.sleep(0)
        return "there"

    async def main() -> Any:
        return await loop.curio.run_in_thread(to_blocking(naps, library="curio"))

    assert loop.run(main) == "there"


# --- in the background -------------------------------------------------------


def test_in_the_background() -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable")
    variable.set("given")

    async def look() -> tuple[str, int]:
        await asyncio.sleep(0)
        return variable.get(), threading.get_ident()

    seen, thread = queue_background_thread(look).result(30)
    assert seen == "given" and thread != threading.get_ident()
    assert queue_background_thread(variable.get).result(30) == "given"
    assert isinstance(queue_background_thread(int, "x").exception(30), ValueError)


def test_many_in_the_background_wait_for_each_other() -> None:
    everyone = threading.Barrier(20)
    futures = [queue_background_thread(everyone.wait, 30) for _ in range(20)]
    assert sorted(future.result(30) for future in futures) == list(range(20))


# --- Ctrl-C ------------------------------------------------------------------

CTRL_C = """
    import _thread, asyncio, os, signal, sys, threading, time
    from verdigris import block

    def interrupt():
        os.kill(os.getpid(), signal.SIGINT)

    async def waits(kind):
        loop = asyncio.get_running_loop()
        if kind == "waiting":
            loop.call_later(0.01, interrupt)
        try:
            if kind == "running":
                interrupt()
                for _ in range(1000):
                    pass
            await asyncio.sleep(1000)
        finally:
            await asyncio.sleep(0)
            print("finally", kind)

    async def swallows():
        try:
            interrupt()
            await asyncio.sleep(1000)
        except asyncio.CancelledError:
            pass
        await asyncio.sleep(0)
        print("swallowed")
        return 1

    async def never_ends():
        interrupt()
        try:
            await asyncio.sleep(1000)
        except asyncio.CancelledError:
            asyncio.get_running_loop().call_later(0.01, interrupt)
            await asyncio.sleep(3)

    calls = ((waits, "waiting"), (waits, "running"), (swallows,), (never_ends,))
    for fn, *args in calls:
        try:
            block(fn, *args)
        except KeyboardInterrupt:
            print("interrupted")
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
        print(block(asyncio.sleep, 0, "next"))

    # A handler of the program's own stays.
    signal.signal(signal.SIGINT, lambda *_: print("mine"))
    async def own():
        interrupt()
        await asyncio.sleep(0)
        return "own"
    print(block(own))
"""


def test_ctrl_c_in_the_main_thread(python: Any) -> None:
    done = python(CTRL_C, options=("-X", "dev", "-W", "error"))
    assert done.stdout.split("\n") == [
        "finally waiting", "interrupted", "next",
        "finally running", "interrupted", "next",
        "swallowed", "interrupted", "next",
        "interrupted", "next",
        "mine", "own", "",
    ]  # fmt: skip
    assert done.stderr == ""


def test_ctrl_c_while_another_thread_is_in_block(python: Any) -> None:
    done = python("""
        import asyncio, os, signal, threading, time
        from verdigris import block

        begun = threading.Event()
        async def waits():
            begun.set()
            await asyncio.sleep(0.05)
            return "undisturbed"
        results = []
        thread = threading.Thread(target=lambda: results.append(block(waits)))
        thread.start()
        begun.wait(30)
        try:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(30)
        except KeyboardInterrupt:
            print("interrupted")
        thread.join()
        print(*results)
        """)
    assert done.stdout.split() == ["interrupted", "undisturbed"]


def test_ctrl_c_in_a_running_loop_without_a_portal(python: Any) -> None:
    """The loop's own handling stands."""
    done = python("""
        import asyncio, os, signal, time
        from verdigris import block

        async def naps():
            os.kill(os.getpid(), signal.SIGINT)
            await asyncio.sleep(0.05)
            return "napped"
        async def main():
            print(block(naps))
            await asyncio.sleep(1000)
        try:
            asyncio.run(main())
        except KeyboardInterrupt:
            print("interrupted")
        """)
    assert done.stdout.split() == ["napped", "interrupted"]


def test_results_are_let_go_of() -> None:
    import weakref

    class Thing:
        pass

    async def makes(thing: Thing) -> Thing:
        return Thing()

    gc.disable()
    try:
        given = Thing()
        result = block(makes, given)
        references = [weakref.ref(given), weakref.ref(result)]
        del given, result
        block(asyncio.sleep, 0)
        assert [reference() for reference in references] == [None, None]
    finally:
        gc.enable()
