"""Wake-ups that came at the worst moment, each made to come just then."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import AsyncioLoop, Loop

from verdigris import async_def, await_
from verdigris.green import _fifos, _socket_methods, _wait, select, socket
from verdigris.green import os as green_os
from verdigris.green import threading as green_threading
from verdigris.green import time as green_time

from .together import cancelled


def in_a_thread(function: Callable[..., Any], *args: Any) -> None:
    """Calls it in an OS thread, and waits until it has returned."""
    thread = threading.Thread(target=function, args=args)
    thread.start()
    thread.join()


# --- a lock is freed while somebody is on the way into its queue -----------------


def test_a_lock_freed_while_a_function_makes_its_wait() -> None:
    lock: Any = green_threading.Lock()
    lock.acquire()
    is_next = False

    class Loop(asyncio.SelectorEventLoop):
        def time(self) -> float:
            nonlocal is_next
            if is_next:  # asked for the deadline, when the lock was seen to be taken
                is_next = False
                in_a_thread(lock.release)
            return super().time() + 1

    def acquires() -> bool:
        nonlocal is_next
        is_next = True
        return bool(lock.acquire(timeout=3600))

    async def main() -> bool:
        async with asyncio.timeout(10):
            return await async_def(acquires)

    with asyncio.Runner(loop_factory=Loop) as runner:
        assert runner.run(main())


def test_a_lock_freed_while_trio_is_on_its_way_to_sleep(monkeypatch: Any) -> None:
    """The wait is over before Trio's task sleeps: another wait of the task is not to end for it."""
    trio = pytest.importorskip("trio", reason="trio is not installed")
    from verdigris.loops._trio_reactor import TrioBackend

    lock: Any = green_threading.Lock()
    lock.acquire()
    arm, is_next = TrioBackend.arm, False

    def racing(self: Any, delay: float) -> None:
        nonlocal is_next
        arm(self, delay)
        if is_next:
            is_next = False
            in_a_thread(lock.release)

    monkeypatch.setattr(TrioBackend, "arm", racing)

    def function() -> bool:
        nonlocal is_next
        _wait.sleep(0.001)
        is_next = True
        assert lock.acquire(timeout=60)
        never = trio.Event()

        async def waits() -> bool:
            with trio.move_on_after(0.05):
                await never.wait()
                return False
            return True

        return bool(await_(waits()))

    assert trio.run(async_def, function)


# --- the one that is woken can't go on -------------------------------------------

HANGS = """
    import asyncio, faulthandler, sys, threading, time
    faulthandler.dump_traceback_later(30, exit=True)
    from verdigris import async_def, block
    from verdigris.green import threading as green

    lock = getattr(green, sys.argv[1])()
    may_release = threading.Event()

    def holder(holds):
        with lock:
            holds.set()
            may_release.wait()
            time.sleep(0.1)  # whoever is to wait for the lock does so by then

    def held():
        holds = threading.Event()
        thread = threading.Thread(target=holder, args=(holds,))
        thread.start()
        holds.wait()
        return thread

    def function():
        with lock:
            return "function"
"""
LOCKS = pytest.mark.parametrize("kind", ["Lock", "RLock"])


@LOCKS
def test_plain_code_of_the_loop_waits_for_a_lock_too(python: Any, kind: str) -> None:
    done = python(
        HANGS
        + """
    async def main():
        held()
        task = asyncio.ensure_future(async_def(function))
        await asyncio.sleep(0.02)  # it is first in the queue, and the loop's thread is second
        may_release.set()
        with lock:
            print("async code")
        print(await task)
    asyncio.run(main())
""",
        kind,
    )
    assert done.stdout == "async code\nfunction\n"


@LOCKS
def test_a_blocked_loop_waits_for_one_that_waits_for_the_lock(python: Any, kind: str) -> None:
    done = python(
        HANGS
        + """
    def other_loop():
        print(asyncio.run(async_def(function)), "of another loop")

    async def main():
        held()
        task = asyncio.ensure_future(async_def(function))
        await asyncio.sleep(0.02)
        thread = threading.Thread(target=other_loop)
        thread.start()
        may_release.set()
        thread.join()
        print(await task)
    asyncio.run(main())
""",
        kind,
    )
    assert done.stdout == "function of another loop\nfunction\n"


def test_everybody_logs(python: Any) -> None:
    done = python(
        """
        from verdigris import patch_all; patch_all()
        import asyncio, faulthandler, io, logging
        from verdigris import async_def, get_original, to_async
        faulthandler.dump_traceback_later(30, exit=True)
        sleep = get_original("time", "sleep")

        class Slow(io.StringIO):
            def write(self, text):
                if "thread" in text:
                    sleep(0.2)
                return super().write(text)

        output = Slow()
        logging.basicConfig(stream=output, format="%(message)s", level=logging.INFO)

        async def main():
            of_thread = asyncio.ensure_future(to_async(logging.info)("thread"))
            await asyncio.sleep(0.05)
            of_function = asyncio.ensure_future(async_def(logging.info, "function"))
            await asyncio.sleep(0.02)
            logging.info("async code")
            await asyncio.gather(of_thread, of_function)

        asyncio.run(main())
        print(sorted(output.getvalue().split("\\n")))
        """
    )
    assert done.stdout == "['', 'async code', 'function', 'thread']\n"


# --- the loop is asked for a turn -------------------------------------------------


class Alarm(Exception):
    pass


@pytest.fixture
def alarm() -> Iterator[None]:
    """SIGALRM raises in the main thread, wherever that is."""

    def handler(*_: object) -> None:
        raise Alarm

    before = signal.signal(signal.SIGALRM, handler)
    yield
    signal.signal(signal.SIGALRM, before)


def raise_alarm() -> None:
    signal.raise_signal(signal.SIGALRM)


@pytest.mark.usefixtures("alarm")
def test_a_handler_raises_while_the_timer_is_set(aio: AsyncioLoop, monkeypatch: Any) -> None:
    from verdigris.loops._asyncio_reactor import AsyncioBackend

    arm, is_next = AsyncioBackend.arm, True

    def racing(self: Any, delay: float) -> None:
        nonlocal is_next
        if is_next:
            is_next = False
            raise_alarm()
        arm(self, delay)

    monkeypatch.setattr(AsyncioBackend, "arm", racing)

    def first() -> str:
        with pytest.raises(Alarm):
            green_time.sleep(0.05)
        return "alarm"

    async def main() -> None:
        assert await async_def(first) == "alarm"
        async with asyncio.timeout(10):
            await async_def(green_time.sleep, 0.06)

    aio.run(main)
    assert not is_next


@pytest.mark.usefixtures("alarm")
def test_a_handler_raises_while_a_lock_is_released(aio: AsyncioLoop, monkeypatch: Any) -> None:
    from verdigris.loops._asyncio_reactor import AsyncioBackend

    lock: Any = green_threading.Lock()
    lock.acquire()
    soon, is_next = AsyncioBackend.soon, True

    def racing(self: Any) -> None:
        nonlocal is_next
        if is_next:
            is_next = False
            raise_alarm()
        soon(self)

    async def main() -> bool:
        task = asyncio.ensure_future(async_def(lock.acquire, True, 3600))
        await asyncio.sleep(0.01)
        monkeypatch.setattr(AsyncioBackend, "soon", racing)
        lock.release()
        async with asyncio.timeout(10):
            return bool(await task)

    assert aio.run(main) and not is_next


def test_control_c_while_a_lock_is_released(python: Any) -> None:
    done = python(
        """
        import asyncio, faulthandler, signal
        faulthandler.dump_traceback_later(30, exit=True)
        from verdigris import async_def
        from verdigris.green import threading
        from verdigris.loops._asyncio_reactor import AsyncioBackend

        lock = threading.Lock()
        lock.acquire()
        soon, calls = AsyncioBackend.soon, 0

        def racing(self):
            global calls
            calls += 1
            if calls == 1:
                signal.raise_signal(signal.SIGINT)
            soon(self)

        async def main():
            task = asyncio.ensure_future(async_def(lock.acquire))
            await asyncio.sleep(0.01)
            AsyncioBackend.soon = racing
            try:
                lock.release()
                await asyncio.sleep(0)
            except KeyboardInterrupt:
                print("Ctrl-C")
            print(await asyncio.wait_for(task, 10), calls < 5)

        loop = asyncio.new_event_loop()
        loop.run_until_complete(main())
        loop.close()
        """
    )
    assert done.stdout == "Ctrl-C\nTrue True\n"


def test_control_c_while_trio_is_asked_for_its_task(python: Any) -> None:
    pytest.importorskip("trio", reason="trio is not installed")
    done = python(
        """
        import signal, trio
        in_trio_task, is_next = trio.lowlevel.in_trio_task, False

        def racing():
            global is_next
            if is_next:
                is_next = False
                signal.raise_signal(signal.SIGINT)
            return in_trio_task()

        trio.lowlevel.in_trio_task = racing
        from verdigris import async_def, await_
        from verdigris.green import time

        def function():
            global is_next
            await_(trio.sleep(0.01))  # a wait of Trio's own: where it goes on is to be asked
            is_next = True
            try:
                time.sleep(10)
                print("it is lost")
            except KeyboardInterrupt:
                print("Ctrl-C")

        async def main():
            await async_def(function)

        trio.run(main)
        """
    )
    assert done.stdout == "Ctrl-C\n"


@pytest.mark.parametrize("kind", ["asyncio", "uvloop", "trio"])
def test_a_signal_handler_wakes_a_function(python: Any, kind: str) -> None:
    """It comes while the loop waits for the system, which the loop goes on with."""
    pytest.importorskip(kind, reason=f"{kind} is not installed")
    done = python(
        """
        import faulthandler, importlib, signal, sys
        faulthandler.dump_traceback_later(30, exit=True)
        from verdigris import async_def
        from verdigris.green import queue

        items = queue.SimpleQueue()
        signal.signal(signal.SIGALRM, lambda *_: items.put("item"))

        async def main():
            signal.setitimer(signal.ITIMER_REAL, 0.1)
            print(await async_def(items.get))

        loops = importlib.import_module(sys.argv[1])
        loops.run(*([main] if sys.argv[1] == "trio" else [main()]))
        """,
        kind,
    )
    assert done.stdout == "item\n"


def test_a_loop_that_has_moved_to_another_thread(aio: AsyncioLoop) -> None:
    lock: Any = green_threading.Lock()
    lock.acquire()
    outcome: list[bool] = []
    waits = threading.Event()

    def acquires() -> bool:
        asyncio.get_running_loop().call_later(0.02, waits.set)
        return bool(lock.acquire())

    def elsewhere() -> None:
        outcome.append(runner.get_loop().run_until_complete(async_def(acquires)))

    with asyncio.Runner(loop_factory=aio.loop_factory) as runner:
        runner.run(async_def(green_time.sleep, 0.001))
        thread = threading.Thread(target=elsewhere)
        thread.start()
        waits.wait()
        time.sleep(0.02)
        lock.release()
        thread.join(10)
        in_time = list(outcome)
        runner.get_loop().call_soon_threadsafe(int)  # from the fault that this is a test of
        thread.join()
    assert in_time == [True]


def test_a_loop_that_is_run_again_inside_of_a_turn() -> None:
    """As nest_asyncio does it, in a function that a turn let go on: that turn has not ended."""
    lock: Any = green_threading.Lock()

    def nested(loop: Any, task: asyncio.Task[Any]) -> bool:
        current = asyncio.current_task()
        asyncio.tasks._leave_task(loop, current)  # type: ignore[arg-type]
        end = time.monotonic() + 10
        try:
            while not task.done() and time.monotonic() < end:
                loop._run_once()
        finally:
            asyncio.tasks._enter_task(loop, current)  # type: ignore[arg-type]
        return task.done()

    def sleeps_and_takes() -> None:
        green_time.sleep(0.02)
        lock.acquire()

    async def main() -> list[bool]:
        loop = asyncio.get_running_loop()
        alarm = loop.call_later(11, int)  # the loop of the fault would sleep for ever

        def function() -> list[bool]:
            _wait.sleep(0.01)
            lock.acquire()
            task = loop.create_task(async_def(sleeps_and_takes))
            loop.call_later(0.05, lock.release)
            first = nested(loop, task)
            task = loop.create_task(async_def(lock.acquire))
            loop.call_soon(lambda: loop.create_task(async_def(lock.release)))
            return [first, nested(loop, task)]

        try:
            return await async_def(function)
        finally:
            alarm.cancel()

    assert asyncio.run(main()) == [True, True]


# --- a descriptor is closed by another thread ------------------------------------


def close_socket(ours: Any, forget: Callable[[int], None]) -> None:
    _socket_methods._real_close(ours, _forget=forget)


def close_number(ours: Any, forget: Callable[[int], None]) -> None:
    green_os.close(ours)


def close_file(ours: Any, forget: Callable[[int], None]) -> None:
    ours.close()


@pytest.mark.parametrize("kind", ["socket", "number", "file", "epoll"])
def test_closed_by_another_thread(loop: Loop, kind: str, monkeypatch: Any) -> None:
    """Who waited is woken just before it is closed, and waits again."""
    ends: list[Any] = list(socket.socketpair()) if kind == "socket" else list(os.pipe())
    reads: Callable[[], object]
    if kind == "socket":
        ours, close, reads = ends[0], close_socket, lambda: ours.recv(1)
    elif kind == "number":
        ours, close, reads = ends[0], close_number, lambda: green_os.read(ours, 1)
    elif kind == "file":
        ours, close = green_os.fdopen(ends[0], "rb", 0), close_file
        reads = lambda: ours.read(1)  # noqa: E731
    else:
        ours, close = select.epoll(), close_file
        ours.register(ends[0], select.EPOLLIN)
        reads = lambda: ours.poll(3600)  # noqa: E731
    forget = _wait.forget

    def slow(number: int) -> None:
        forget(number)
        time.sleep(0.03)

    monkeypatch.setattr(_wait, "forget", slow)

    def closes() -> None:
        time.sleep(0.03)
        close(ours, slow)

    def reader() -> str:
        with pytest.raises((OSError, ValueError)):
            reads()
        return "told"

    async def main() -> str:
        thread = threading.Thread(target=closes)
        thread.start()
        try:
            async with loop.deadline(10):
                return await async_def(reader)
        finally:
            thread.join()

    assert loop.run(main) == "told"
    monkeypatch.undo()
    for end in ends[1:] if kind != "epoll" else ends:
        os.close(end if isinstance(end, int) else end.detach())


@pytest.mark.parametrize("flags", [os.O_RDONLY, os.O_WRONLY])
def test_a_fifo_given_up_before_its_thread_has_come_to_it(
    loop: Loop, tmp_path: Path, flags: int, monkeypatch: Any
) -> None:
    path = tmp_path / "fifo"
    os.mkfifo(path)
    may_open, is_back = threading.Event(), threading.Event()
    here: list[int] = []
    opens = _fifos._open

    def slow(path: Any, flags: int, *args: Any, **options: Any) -> int:
        if flags & os.O_NONBLOCK:
            return opens(path, flags, *args, **options)
        here.append(1)
        may_open.wait()
        try:
            return opens(path, flags, *args, **options)
        finally:
            is_back.set()

    monkeypatch.setattr(_fifos, "_open", slow)
    threading.Timer(0.2, may_open.set).start()

    def rescue() -> None:  # from the fault that this is a test of
        if not is_back.wait(10):
            failed.append(1)
            os.close(os.open(path, os.O_RDWR))

    failed: list[int] = []
    rescuer = threading.Thread(target=rescue)
    rescuer.start()
    assert cancelled(loop, lambda: green_os.open(path, flags), lambda: bool(here))
    rescuer.join()
    assert not failed
    # Nothing is left open, at either end.
    for _ in range(500):
        if not (left := opened(path)):
            break
        time.sleep(0.01)
    assert not left


def opened(path: Path) -> list[str]:
    numbers = []
    for number in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):  # the directory's own
            if os.readlink(f"/proc/self/fd/{number}") == str(path):
                numbers.append(number)
    return numbers


@pytest.mark.parametrize("kind", ["asyncio", "uvloop", "trio"])
def test_a_fifo_that_is_gone_when_it_is_given_up(python: Any, tmp_path: Path, kind: str) -> None:
    """Nothing can reach its thread any more, and nobody waits for that."""
    pytest.importorskip(kind, reason=f"{kind} is not installed")
    done = python(
        """
        import faulthandler, os, sys, time
        faulthandler.dump_traceback_later(30, exit=True)
        from conftest import LOOPS
        from verdigris import async_def
        from verdigris.green import os as green_os

        kind, path = sys.argv[1:]
        os.mkfifo(path)
        loop = LOOPS[kind]()

        async def main():
            async with loop.tasks() as start:
                opening = start(async_def, green_os.open, path, os.O_RDONLY)
                await loop.sleep(0.1)
                os.unlink(path)
                opening.cancel()
            print("cancelled" if opening.outcome.cancelled else opening.outcome)

        loop.run(main)
        """,
        kind,
        tmp_path / "fifo",
    )
    assert done.stdout == "cancelled\n"
