"""`verdigris.inspect`: every function that waits, with its stack and what it waits for."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import io
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import AsyncioLoop, Loop, TrioLoop

import verdigris
from verdigris import GreenCoroutine, _engine, async_def, await_, inspect, with_portal_run
from verdigris.green import socket as green_socket
from verdigris.green import threading as green_threading
from verdigris.green import time as green_time
from verdigris.inspect import Suspended


def found(name: str) -> Suspended:
    (only,) = [each for each in inspect.suspended() if each.name.endswith(name)]
    return only


def functions(of: Suspended) -> list[str]:
    return [frame.name for frame in of.stack]


async def until_it_waits(loop: Loop, name: str) -> Suspended:
    for _ in range(1000):
        if any(each.name.endswith(name) for each in inspect.suspended()):
            return found(name)
        await loop.sleep(0.001)
    raise AssertionError(f"{name} does not wait")


def seen_waiting(loop: Loop, fn: Callable[[], object], name: str | None = None) -> Suspended:
    """What is seen of a function that waits for ever; then it is cancelled."""

    async def main() -> Suspended:
        async with loop.tasks() as start:
            task = start(lambda: async_def(fn))
            seen = await until_it_waits(loop, name or fn.__qualname__)
            task.cancel()
        return seen

    seen: Suspended = loop.run(main)
    return seen


@pytest.fixture
def enabled() -> Iterator[None]:
    inspect.enable()
    yield
    inspect.disable()


# --- the stack ------------------------------------------------------------------


def test_the_stack_of_a_function_goes_down_to_what_it_awaits(loop: Loop) -> None:
    async def innermost() -> None:
        await loop.event().wait()

    async def awaited() -> None:
        await innermost()

    def inner() -> None:
        await_(awaited())

    def outer() -> None:
        inner()

    seen = seen_waiting(loop, outer)
    assert functions(seen)[:4] == ["outer", "inner", "awaited", "innermost"]
    assert seen.stack[0].filename == __file__
    assert seen.stack[3].line == "await loop.event().wait()"


def test_a_function_on_the_stack_of_another_is_part_of_it(loop: Loop) -> None:
    def inner() -> None:
        await_(loop.event().wait())

    async def between() -> None:
        await async_def(inner)

    def outer() -> None:
        await_(between())

    seen = seen_waiting(loop, outer)
    assert functions(seen)[:3] == ["outer", "between", "inner"]


def test_a_function_that_has_not_begun_or_has_ended_does_not_wait(loop: Loop) -> None:
    def fn() -> None: ...

    async def main() -> None:
        coroutine = async_def(fn)
        assert not [each for each in inspect.suspended() if each.coroutine is coroutine]
        await coroutine
        assert not [each for each in inspect.suspended() if each.coroutine is coroutine]

    loop.run(main)


def test_the_function_that_asks_runs(loop: Loop) -> None:
    def fn() -> list[Suspended]:
        await_(loop.checkpoint())
        return inspect.suspended()

    async def main() -> Any:
        return await async_def(fn)

    assert not [each for each in loop.run(main) if each.name.endswith("fn")]


def test_a_generator_and_an_async_generator_between(aio: AsyncioLoop) -> None:
    async def agen() -> Any:
        await asyncio.Event().wait()
        yield 1

    async def through() -> None:
        async for _ in agen():
            pass

    def fn() -> None:
        await_(through())

    assert functions(seen_waiting(aio, fn))[:4] == ["fn", "through", "agen", "wait"]


# --- which task, which thread ------------------------------------------------------


def test_its_task_and_its_thread(aio: AsyncioLoop) -> None:
    def fn() -> None:
        await_(asyncio.Event().wait())

    async def main() -> Suspended:
        task = asyncio.create_task(async_def(fn), name="a name")
        await asyncio.sleep(0)
        seen = found("fn")
        task.cancel()
        return seen

    seen = aio.run(main)
    assert (seen.task, seen.thread) == ("a name", threading.current_thread().name)
    assert isinstance(seen.coroutine, GreenCoroutine)


def test_the_task_further_out(aio: AsyncioLoop) -> None:
    def fn() -> None:
        await_(asyncio.Event().wait())

    async def inner() -> None:
        await async_def(fn)

    async def main() -> Suspended:
        task = asyncio.create_task(inner(), name="further out")
        await asyncio.sleep(0)
        seen = found("fn")
        task.cancel()
        return seen

    assert aio.run(main).task == "further out"


def test_the_task_of_trio(trio_loop: TrioLoop) -> None:
    import trio
    import trio.testing

    def fn() -> None:
        await_(trio.sleep_forever())

    async def main() -> Suspended:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(async_def, fn, name="a name")
            await trio.testing.wait_all_tasks_blocked()
            seen = found("fn")
            nursery.cancel_scope.cancel()
        return seen

    seen = trio_loop.run(main)
    assert (seen.task, seen.waits_for) == ("a name", "trio.sleep_forever()")


def test_functions_of_other_threads_are_seen() -> None:
    begun, over = threading.Event(), threading.Event()

    def elsewhere() -> None:
        await_(wait())

    async def wait() -> None:
        begun.set()
        while not over.is_set():
            await asyncio.sleep(0.001)

    thread = threading.Thread(target=lambda: asyncio.run(async_def(elsewhere)), name="another")
    thread.start()
    assert begun.wait(10)
    seen: list[Suspended] = []
    end = time.monotonic() + 60
    while not seen and time.monotonic() < end:  # it is woken now and then
        seen = [each for each in inspect.suspended() if each.name.endswith("elsewhere")]
    over.set()
    thread.join()
    assert seen[0].thread == "another"
    assert functions(seen[0])[:2] == ["elsewhere", "wait"]


def test_a_task_that_has_a_portal(loop: Loop) -> None:
    def waits_in_sync_code() -> None:
        await_(loop.event().wait())

    async def with_a_portal() -> None:
        waits_in_sync_code()

    async def main() -> Suspended:
        async with loop.tasks() as start:
            task = start(with_portal_run, with_a_portal)
            seen = await until_it_waits(loop, "with_a_portal")
            task.cancel()
        return seen

    seen = loop.run(main)
    assert isinstance(seen.coroutine, verdigris.PortalCoroutine)
    assert functions(seen)[:2] == ["with_a_portal", "waits_in_sync_code"]


def test_a_task_that_has_a_portal_and_waits_by_itself(loop: Loop) -> None:
    async def with_a_portal() -> None:
        await loop.event().wait()

    async def main() -> Suspended:
        async with loop.tasks() as start:
            task = start(with_portal_run, with_a_portal)
            seen = await until_it_waits(loop, "with_a_portal")
            task.cancel()
        return seen

    seen = loop.run(main)
    assert functions(seen)[:2] == ["with_a_portal", "wait"]
    assert "Event" in seen.waits_for


# --- what for, in words ----------------------------------------------------------


def test_a_descriptor(loop: Loop) -> None:
    ours, theirs = green_socket.socketpair()
    with ours, theirs:

        def reads() -> None:
            ours.recv(1)

        def reads_for_a_time() -> None:
            ours.settimeout(100)
            ours.recv(1)

        fd = ours.fileno()
        assert seen_waiting(loop, reads).waits_for == f"fd {fd} to be readable"
        limited = seen_waiting(loop, reads_for_a_time).waits_for
        assert re.fullmatch(rf"fd {fd} to be readable, for at most \d+\.\d+ s", limited)


def test_several_descriptors_and_both_directions(loop: Loop) -> None:
    ours, theirs = green_socket.socketpair()
    with ours, theirs, contextlib.suppress(BlockingIOError):
        ours.setblocking(False)
        while True:
            ours.send(bytes(1 << 16))
    pairs = list(green_socket.socketpair())

    def waits() -> None:
        _engine.wait_fds([(pair.fileno(), 1) for pair in pairs])

    first, second = (pair.fileno() for pair in pairs)
    seen = seen_waiting(loop, waits)
    for pair in pairs:
        pair.close()
    assert seen.waits_for == f"fd {first} to be readable or fd {second} to be readable"


def test_a_full_socket(loop: Loop) -> None:
    ours, theirs = green_socket.socketpair()
    with ours, theirs:

        def writes() -> None:
            ours.sendall(bytes(1 << 24))

        assert seen_waiting(loop, writes).waits_for == f"fd {ours.fileno()} to be writable"


def test_a_timer(loop: Loop) -> None:
    def sleeps() -> None:
        green_time.sleep(3600)

    assert re.fullmatch(r"a timer, due in 3[56]\d\d\.\d+ s", seen_waiting(loop, sleeps).waits_for)


@pytest.mark.parametrize("kind", ["Lock", "RLock"])
def test_a_lock(loop: Loop, kind: str) -> None:
    lock = getattr(green_threading, kind)()

    def takes() -> None:
        with lock:
            pass

    def holds() -> None:
        with lock:
            await_(loop.event().wait())

    async def main() -> str:
        async with loop.tasks() as start:
            holder = start(lambda: async_def(holds))
            await until_it_waits(loop, "holds")
            taker = start(lambda: async_def(takes))
            words = (await until_it_waits(loop, "takes")).waits_for
            for task in (taker, holder):
                task.cancel()
        return words

    assert re.fullmatch(rf"a lock: <locked _thread\.{kind}.* at 0x\w+>", loop.run(main), re.I)


def test_asyncio_in_words(aio: AsyncioLoop) -> None:
    pool = concurrent.futures.ThreadPoolExecutor(1)
    go = threading.Event()

    async def sleeper() -> None:
        await asyncio.sleep(3600)

    def waits_for(what: Callable[[], Any]) -> str:
        def fn() -> None:
            await_(what())

        return seen_waiting(aio, fn).waits_for

    assert waits_for(lambda: asyncio.sleep(3600)) == "asyncio.sleep(3600)"
    assert waits_for(lambda: asyncio.get_running_loop().create_future()) == "a future"
    assert "Event" in waits_for(asyncio.Event().wait)
    assert "Queue" in waits_for(lambda: asyncio.Queue[int]().get())
    words = waits_for(lambda: asyncio.create_task(sleeper(), name="a sleeper"))
    assert words == "task 'a sleeper'"
    assert waits_for(lambda: asyncio.gather(sleeper(), sleeper())) == "2 of 2 gathered tasks"
    assert waits_for(
        lambda: asyncio.get_running_loop().run_in_executor(pool, go.wait, 10)
    ).startswith("a thread or a process")
    go.set()
    pool.shutdown()


def test_a_future_written_in_python(aio: AsyncioLoop) -> None:
    def fn() -> None:
        await_(asyncio.futures._PyFuture())  # type: ignore[attr-defined]

    assert seen_waiting(aio, fn).waits_for == "a future"


def test_code_of_the_program_is_not_called_for_its_text(loop: Loop) -> None:
    class Loud(_engine.RLock):
        def __repr__(self) -> str:
            raise AssertionError("called")

    loud = Loud()
    loud.acquire()

    def takes() -> None:
        with loud:
            pass

    assert "Loud" in seen_waiting(loop, takes).waits_for
    loud.release()


# --- since when ------------------------------------------------------------------


def test_since_when_is_known_once_enabled(loop: Loop, enabled: None) -> None:
    def fn() -> None:
        await_(loop.event().wait())

    seen = seen_waiting(loop, fn)
    assert seen.since is not None and 0 <= seen.since < 60
    assert "s so far" in str(seen)


def test_since_when_is_unknown_before(loop: Loop) -> None:
    def fn() -> None:
        await_(loop.event().wait())

    assert seen_waiting(loop, fn).since is None


def test_a_later_wait_is_counted_anew(aio: AsyncioLoop, enabled: None) -> None:
    def fn() -> None:
        await_(asyncio.sleep(0.2))
        await_(asyncio.Event().wait())

    async def main() -> tuple[float | None, float | None]:
        task = asyncio.create_task(async_def(fn))
        await asyncio.sleep(0.1)
        first = found("fn").since
        while "Event" not in found("fn").waits_for:
            await asyncio.sleep(0)
        second = found("fn").since
        task.cancel()
        return first, second

    first, second = aio.run(main)
    assert first is not None and second is not None and second < first


# --- as text ---------------------------------------------------------------------


def test_the_text(loop: Loop) -> None:
    def fn() -> None:
        await_(loop.event().wait())

    seen = seen_waiting(loop, fn)
    text = inspect.format_suspended([seen])
    assert text.startswith("1 green function waits.\n\n")
    assert "fn, in task " in text
    assert f'File "{__file__}"' in text
    assert inspect.format_suspended([]) == "0 green functions wait.\n"


def test_it_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    inspect.print_suspended()
    assert "wait" in capsys.readouterr().err
    file = io.StringIO()
    inspect.print_suspended(file)
    assert file.getvalue().endswith("\n")


def test_a_signal_prints_it(python: Any) -> None:
    done = python(
        """
        import asyncio, os, signal
        from verdigris import async_def, await_, inspect

        def waits_here():
            await_(asyncio.Event().wait())

        async def main():
            inspect.install_signal()
            task = asyncio.create_task(async_def(waits_here))
            await asyncio.sleep(0.01)
            os.kill(os.getpid(), signal.SIGUSR2)
            await asyncio.sleep(0.01)
            task.cancel()

        asyncio.run(main())
        print("went on")
        """
    )
    assert done.stdout == "went on\n"
    assert (
        "waits_here, in task 'Task-2', in thread 'MainThread', waits for Event.wait" in done.stderr
    )
    assert "Thread 'MainThread' runs:" in done.stderr


def test_in_the_main_thread_only() -> None:
    errors = []

    def install() -> None:
        try:
            inspect.install_signal(signal.SIGUSR2)
        except ValueError as error:
            errors.append(error)

    thread = threading.Thread(target=install)
    thread.start()
    thread.join()
    assert len(errors) == 1


# --- what it costs, and does not disturb ---------------------------------------------


def test_it_is_loaded_when_it_is_asked_for(python: Any) -> None:
    done = python(
        """
        import sys
        import verdigris
        assert not [name for name in sys.modules if name.startswith("verdigris.inspect")]
        assert callable(verdigris.inspect.suspended)
        print("later")
        """
    )
    assert done.stdout == "later\n"


def test_looking_keeps_nothing_alive(loop: Loop) -> None:
    import gc
    import weakref

    class Thing: ...

    kept: list[weakref.ref[Thing]] = []

    def fn() -> None:
        thing = Thing()
        kept.append(weakref.ref(thing))
        await_(loop.event().wait())

    seen_waiting(loop, fn)
    gc.collect()
    assert kept[0]() is None


def test_in_a_program_that_is_patched(python: Any) -> None:
    done = python(
        """
        from verdigris import patch_all
        patch_all()
        import asyncio, threading, time
        from verdigris import async_def, inspect

        def sleeps():
            time.sleep(3600)

        def main():
            thread = threading.Thread(target=sleeps, name="green", daemon=True)
            thread.start()
            time.sleep(0.01)
            for each in inspect.suspended():
                print(each.task, each.thread, each.waits_for.partition(",")[0])
            inspect.listen()

        asyncio.run(async_def(main))
        """
    )
    assert done.stdout == "green MainThread a timer\n"


def test_the_engine_refuses_what_is_no_function() -> None:
    with pytest.raises(TypeError):
        _engine.wait_of("no coroutine")  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        _engine.watch(None)  # type: ignore[call-arg]


def test_an_error_of_the_watcher_is_reported_and_the_function_goes_on(python: Any) -> None:
    done = python(
        """
        import asyncio, sys
        from verdigris import _engine, async_def, await_
        reported = []
        sys.unraisablehook = lambda report: reported.append(report.exc_value)

        def fn():
            await_(asyncio.sleep(0))
            raise ValueError("its own")

        def fails(event, subject, awaited):
            raise KeyError(event)

        _engine.watch(fails, False)
        try:
            asyncio.run(async_def(fn))
        except ValueError as error:
            print(error)
        _engine.watch(None, False)
        print([error.args[0] for error in reported])
        """
    )
    assert done.stdout == "its own\n[0, 1, 0, 2]\n"


def test_ctrl_c_in_the_watcher_is_the_programs(python: Any) -> None:
    done = python(
        """
        from verdigris import _engine, async_def

        def interrupted(event, subject, awaited):
            _engine.watch(None, False)
            raise KeyboardInterrupt

        def fn():
            for _ in range(10):
                pass

        _engine.watch(interrupted, False)
        try:
            async_def(fn).send(None)
        except KeyboardInterrupt:
            print("interrupted")
        """
    )
    assert done.stdout == "interrupted\n"


def test_while_other_threads_go_on(python: Any) -> None:
    done = python("inspect_from_a_thread.py")
    assert done.stderr == ""
    assert done.stdout == "thread None ['waits_by_hand', '__await__']\nseen True\nover\n"


def test_every_public_name_is_documented() -> None:
    page = Path(__file__).parent.parent / "docs/reference.md"
    reference = page.read_text(encoding="utf-8")
    for name in inspect.__all__:
        assert getattr(inspect, name).__doc__
        assert f"`inspect.{name}`" in reference
