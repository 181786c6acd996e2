"""The reactor: descriptors, deadlines and wake-ups, one loop at a time and several."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import socket
import threading
import time
import warnings
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from conftest import AsyncioLoop, Loop

from verdigris import _engine, async_def, await_, ensure_portal
from verdigris.green import _wait
from verdigris.green import time as green_time
from verdigris.loops import _reactors

READ, WRITE, PRIORITY = _wait.READ, _wait.WRITE, _wait.PRIORITY


class GreenSocket(socket.socket):
    """The stdlib's class with the engine's methods, and no other."""

    def close(self) -> None:
        if self.fileno() >= 0:
            _wait.forget(self.fileno())
        super().close()


for name, method in _wait.SOCKET_METHODS.items():
    setattr(GreenSocket, name, method)


@contextlib.contextmanager
def tcp_pair() -> Iterator[tuple[GreenSocket, socket.socket]]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        other = socket.create_connection(listener.getsockname())
        accepted, _ = listener.accept()
    mine = GreenSocket(fileno=accepted.detach())
    with contextlib.closing(mine), other:
        yield mine, other


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    ends = os.pipe()
    yield ends
    for end in ends:
        with contextlib.suppress(OSError):
            os.close(end)


def stats() -> dict[str, int]:
    reactor = _reactors.of_running_loop()
    assert reactor is not None
    return reactor.stats()


def together(loop: Loop, *functions: Callable[[], Any]) -> list[Any]:
    """Runs green functions side by side: their results, in the order given."""

    async def main() -> list[Any]:
        async with loop.tasks() as start:
            started = [start(async_def, function) for function in functions]
        for background in started:
            if background.outcome.error is not None:
                raise background.outcome.error
        left = stats() if any(b.outcome.value is not None for b in started) else None
        assert left is None or (left["waiters"], left["timers"], left["ready"]) == (0, 0, 0)
        return [background.outcome.value for background in started]

    return loop.run(main)


# --- descriptors -------------------------------------------------------------


def test_a_descriptor_wakes_who_waits_for_it(loop: Loop, pipe: tuple[int, int]) -> None:
    order = []

    def reader() -> int:
        order.append("waits")
        events = _wait.fd(pipe[0], READ)
        order.append("woke")
        return events

    def writer() -> bool:
        _wait.sleep(0.01)
        order.append("writes")
        return os.write(pipe[1], b"x") == 1

    assert together(loop, reader, writer) == [READ, True]
    assert order == ["waits", "writes", "woke"]


def test_a_wait_ends_with_its_timeout(loop: Loop, pipe: tuple[int, int]) -> None:
    assert together(loop, lambda: _wait.fd(pipe[0], READ, 0.01)) == [0]
    assert together(loop, lambda: _wait.fds([(pipe[0], READ)], 0.01)) == [False]


def test_a_descriptor_that_is_ready_is_ready_again(loop: Loop, pipe: tuple[int, int]) -> None:
    os.write(pipe[1], b"x")
    assert together(loop, lambda: [_wait.fd(pipe[0], READ, 5) for _ in range(3)]) == [[READ] * 3]


def test_one_of_several_descriptors_wakes(loop: Loop, pipe: tuple[int, int]) -> None:
    other = os.pipe()
    try:

        def writer() -> int:
            _wait.sleep(0.005)
            return os.write(other[1], b"x")

        pairs = [(pipe[0], READ), (other[0], READ)]
        assert together(loop, lambda: _wait.fds(pairs, 5), writer) == [True, 1]
    finally:
        os.close(other[0])
        os.close(other[1])


def test_two_wait_for_one_descriptor(loop: Loop) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:

        def writer() -> int:
            _wait.sleep(0.005)
            return theirs.send(b"x")

        both = [lambda: _wait.fd(ours.fileno(), READ, 5)] * 2
        writes = [lambda: _wait.fd(ours.fileno(), READ | WRITE, 5)]
        results = together(loop, *both, writer, *writes)
    assert results[:3] == [READ, READ, 1] and results[3] & WRITE


def test_a_number_that_was_closed_and_opened_again(loop: Loop) -> None:
    """The kernel forgets a closed file; a reactor that did not notice would wait for ever."""

    def waits() -> list[int]:
        seen = []
        for _ in range(3):
            read, write = os.pipe()
            os.write(write, b"x")
            seen.append(_wait.fd(read, READ, 5))
            os.close(read)
            os.close(write)
        return seen

    assert together(loop, waits) == [[READ] * 3]


def test_a_socket_on_the_number_of_one_that_was_dropped(loop: Loop) -> None:
    """Dropped without close(): only the collector knew."""

    def waits() -> list[bytes]:
        seen = []
        for _ in range(3):
            ours, theirs = socket.socketpair()
            mine = GreenSocket(fileno=ours.detach())
            mine.settimeout(5)
            number = mine.fileno()

            def send(to: socket.socket = theirs) -> None:
                to.send(b"x")

            timer = threading.Timer(0.005, send)
            timer.start()
            seen.append(mine.recv(10))
            timer.join()
            theirs.close()
            duplicate = os.dup(number)  # the file goes on without the socket
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ResourceWarning)
                del mine
                gc.collect()
            os.close(duplicate)
        return seen

    assert together(loop, waits) == [[b"x"] * 3]


def test_a_regular_file_is_always_ready(loop: Loop, tmp_path: Any) -> None:
    with (tmp_path / "file").open("w") as file:
        assert together(loop, lambda: _wait.fd(file.fileno(), READ | WRITE)) == [READ | WRITE]


def test_a_closed_descriptor_is_an_error(loop: Loop) -> None:
    with pytest.raises(OSError, match="Bad file descriptor"):
        together(loop, lambda: _wait.fd(9999, READ))


@pytest.mark.parametrize("events", [0, 8, -1])
def test_unknown_events_are_refused(loop: Loop, pipe: tuple[int, int], events: int) -> None:
    with pytest.raises(ValueError, match="READ"):
        together(loop, lambda: _wait.fd(pipe[0], events))


def test_urgent_data_is_an_event_of_its_own(loop: Loop) -> None:
    with tcp_pair() as (mine, other):
        other.send(b"!", socket.MSG_OOB)
        assert together(loop, lambda: _wait.fd(mine.fileno(), PRIORITY, 5)) == [PRIORITY]


def test_outside_green_code_a_wait_is_refused(pipe: tuple[int, int]) -> None:
    with pytest.raises(RuntimeError, match="is_green"):
        _wait.fd(pipe[0], READ)


# --- sockets -----------------------------------------------------------------


def test_the_end_that_comes_with_the_data(loop: Loop) -> None:
    """Data and end in one event: a short read must not make the next one wait."""

    def reads() -> list[bytes]:
        with tcp_pair() as (mine, other):
            seen = []
            for text in (b"one", b"two"):
                other.sendall(text)
                seen.append(mine.recv(100))
            _wait.sleep(0.005)
            other.sendall(b"three")
            other.close()
            _wait.sleep(0.005)
            mine.settimeout(5)
            return [*seen, mine.recv(100), mine.recv(100)]

    assert together(loop, reads) == [[b"one", b"two", b"three", b""]]


def test_many_messages_one_at_a_time(loop: Loop) -> None:
    with tcp_pair() as (mine, other):
        peer = GreenSocket(fileno=other.detach())

        def asks() -> int:
            for number in range(200):
                mine.sendall(number.to_bytes(4, "big"))
                assert mine.recv(4) == number.to_bytes(4, "big")
            mine.shutdown(socket.SHUT_WR)
            return 200

        def answers() -> int:
            count = 0
            buffer = bytearray(4)
            while peer.recv_into(buffer):
                count += 1
                peer.sendall(buffer)
            peer.close()
            return count

        assert together(loop, asks, answers) == [200, 200]


def test_more_than_the_buffers_hold(loop: Loop) -> None:
    payload = os.urandom(3_000_000)
    with tcp_pair() as (mine, other):
        peer = GreenSocket(fileno=other.detach())

        def sends() -> bool:
            mine.sendall(payload)
            mine.shutdown(socket.SHUT_WR)
            return True

        def receives() -> bytes:
            parts = []
            while part := peer.recv(65536):
                parts.append(part)
            peer.close()
            return b"".join(parts)

        assert together(loop, sends, receives) == [True, payload]


def test_a_timeout_raises_what_the_stdlib_raises(loop: Loop) -> None:
    with tcp_pair() as (mine, _):
        mine.settimeout(0.01)
        with pytest.raises(TimeoutError, match=r"^timed out$"):
            together(loop, lambda: mine.recv(1))
        assert stats_are_clean(loop)


def stats_are_clean(loop: Loop) -> bool:
    return together(loop, lambda: stats()["waiters"]) == [0]


def test_a_socket_that_does_not_block_never_waits(loop: Loop) -> None:
    with tcp_pair() as (mine, _):
        mine.setblocking(False)
        with pytest.raises(BlockingIOError):
            together(loop, lambda: mine.recv(1))


def test_closing_wakes_who_waits(loop: Loop) -> None:
    with tcp_pair() as (mine, _):

        def reader() -> str:
            with pytest.raises(OSError, match="Bad file descriptor"):
                mine.recv(1)
            return "woken"

        def closer() -> None:
            _wait.sleep(0.005)
            mine.close()

        assert together(loop, reader, closer)[0] == "woken"


def test_a_socket_elsewhere_is_the_stdlibs() -> None:
    with tcp_pair() as (mine, other):
        mine.sendall(b"x")
        other.sendall(b"y")
        assert (other.recv(9), mine.recv(9)) == (b"x", b"y")
        assert mine.recv_into(bytearray(4), 0, socket.MSG_DONTWAIT) if other.send(b"z") else 0
        mine.settimeout(0.01)
        with pytest.raises(TimeoutError):
            mine.recv(1)


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda s: s.recv(), TypeError),
        (lambda s: s.recv("4"), TypeError),
        (lambda s: s.recv(-1), ValueError),
        (lambda s: s.recv_into(b"1234"), BufferError),
        (lambda s: s.recv_into(bytearray(2), 4), ValueError),
        (lambda s: s.recv_into(bytearray(2), -4), ValueError),
        (lambda s: s.send("text"), TypeError),
        (lambda s: s.sendall(5), TypeError),
        (lambda s: s.recv(1, 2**40), OverflowError),
    ],
)
def test_wrong_arguments_are_the_stdlibs_errors(
    loop: Loop, call: Callable[[socket.socket], Any], error: type[Exception]
) -> None:
    with tcp_pair() as (mine, other):
        with pytest.raises((error, TypeError)) as native:
            call(other)
        with pytest.raises(type(native.value)):
            together(loop, lambda: call(mine))


# --- time --------------------------------------------------------------------


def test_sleepers_wake_in_order(loop: Loop) -> None:
    order: list[int] = []

    def sleeper(number: int) -> None:
        _wait.sleep(number / 100)
        order.append(number)

    together(loop, *(lambda n=n: sleeper(n) for n in (3, 1, 2)))
    assert order == [1, 2, 3]


@pytest.mark.parametrize(
    ("length", "error"),
    [(-1, ValueError), (float("nan"), ValueError), (1e30, OverflowError), ("1", TypeError)],
)
def test_sleep_refuses_what_the_stdlib_refuses(
    loop: Loop, length: Any, error: type[Exception]
) -> None:
    with pytest.raises(error):
        time.sleep(length)
    with pytest.raises(error):
        together(loop, lambda: _wait.sleep(length))


def test_a_loop_with_a_clock_of_its_own() -> None:
    class Clock(asyncio.SelectorEventLoop):
        offset = 0.0

        def time(self) -> float:
            return super().time() + self.offset

    async def main() -> list[str]:
        order: list[str] = []

        def sleeper() -> None:
            _wait.sleep(1000)
            order.append("woke")

        task = asyncio.create_task(async_def(sleeper))
        await asyncio.sleep(0.01)
        Clock.offset = 2000
        await asyncio.wait_for(task, None)
        return order

    with asyncio.Runner(loop_factory=Clock) as runner:
        assert runner.run(main()) == ["woke"]


def test_trios_clock_jumps() -> None:
    trio = pytest.importorskip("trio")
    testing = pytest.importorskip("trio.testing")

    async def main() -> float:
        before = trio.current_time()
        await async_def(_wait.sleep, 1000)
        return trio.current_time() - before

    clock = testing.MockClock(autojump_threshold=0)
    assert trio.run(main, clock=clock) == pytest.approx(1000, abs=1)


# --- who goes on, and when ---------------------------------------------------


def test_cancelling_ends_a_wait_and_leaves_nothing(loop: Loop, pipe: tuple[int, int]) -> None:
    async def main() -> list[Any]:
        outcomes = []
        waits = [
            lambda: _wait.sleep(1000),
            lambda: _wait.fd(pipe[0], READ, 1000),
            lambda: _wait.fds([(pipe[0], READ)], None),
            lambda: lock.acquire(),
            lambda: lock.acquire(timeout=1000),
        ]
        lock = _engine.Lock()
        lock.acquire()
        async with loop.tasks() as start:
            started = [start(async_def, wait) for wait in waits]
            await loop.sleep(0.01)
            for background in started:
                background.cancel()
                outcomes.append((await background.wait()).cancelled)
        assert stats()["waiters"] == stats()["timers"] == 0
        lock.release()
        return [*outcomes, lock.acquire(blocking=False)]

    assert loop.run(main) == [True] * 6


def test_a_cancellation_keeps_its_message(aio: AsyncioLoop) -> None:
    async def main() -> tuple[Any, ...]:
        task = asyncio.create_task(async_def(_wait.sleep, 1000))
        await asyncio.sleep(0.005)
        task.cancel("enough")
        with pytest.raises(asyncio.CancelledError) as caught:
            await task
        return caught.value.args

    assert aio.run(main) == ("enough",)


def test_a_task_written_in_python(aio: AsyncioLoop) -> None:
    async def main() -> str:
        loop = asyncio.get_running_loop()
        task: Any = asyncio.tasks._PyTask(async_def(_wait.sleep, 0.001), loop=loop)  # type: ignore[attr-defined]
        await task
        return "done"

    assert aio.run(main) == "done"


def test_a_wait_below_asyncios_own_constructs(aio: AsyncioLoop) -> None:
    async def main() -> list[Any]:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await async_def(_wait.sleep, 1000)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(async_def(_wait.sleep, 1000), 0.01)
        first = asyncio.shield(async_def(_wait.sleep, 0.001))
        return [await first, *await asyncio.gather(*(async_def(_wait.sleep, 0) for _ in range(3)))]

    assert aio.run(main) == [None] * 4


def test_a_wait_in_a_portal(loop: Loop) -> None:
    async def main() -> tuple[bool, bool]:
        before = _wait.is_green()
        await ensure_portal()
        _wait.sleep(0.001)
        return before, _wait.is_green()

    assert loop.run(main) == (False, True)


def test_an_interrupt_in_one_does_not_lose_the_others(aio: AsyncioLoop) -> None:
    woke: list[int] = []

    def sleeper(number: int) -> None:
        _wait.sleep(0.01)
        woke.append(number)
        if number == 0:
            raise KeyboardInterrupt

    async def main() -> None:
        await asyncio.gather(*(async_def(sleeper, number) for number in range(5)))

    loop = (aio.loop_factory or asyncio.new_event_loop)()
    try:
        task = loop.create_task(main())
        with pytest.raises(KeyboardInterrupt):
            loop.run_until_complete(task)
        with contextlib.suppress(KeyboardInterrupt, asyncio.CancelledError):
            loop.run_until_complete(task)
        loop.run_until_complete(asyncio.sleep(0.01))
    finally:
        loop.close()
    assert sorted(woke) == [0, 1, 2, 3, 4]


def test_threads_that_async_code_starts_are_real(loop: Loop) -> None:
    def direct() -> tuple[bool, bool]:
        async def awaited() -> bool:
            return _wait.starts_green_threads()

        async def back() -> bool:
            return await async_def(_wait.starts_green_threads)

        return await_(awaited()), await_(back())

    async def portal() -> tuple[bool, bool, bool, bool]:
        await ensure_portal()
        here = _wait.starts_green_threads
        # A function that is run inside is not the task's code, also where it shares its stack.
        return here(), await_(async_def(here)), await async_def(here), here()

    assert together(loop, _wait.starts_green_threads, direct) == [True, (False, True)]
    assert loop.run(portal) == (False, True, True, False)
    assert _wait.starts_green_threads() is False


def test_a_name_for_each_function(loop: Loop) -> None:
    def names() -> tuple[int, int, object]:
        before = _wait.get_ident()
        _wait.sleep(0.001)
        return before, _wait.get_ident(), _wait.current()

    (first, again, one), (second, _, other) = together(loop, names, names)
    assert first == again != second and one is not other
    assert _wait.get_ident() == threading.get_ident() and _wait.current() is None


# --- loops that come and go --------------------------------------------------


def test_one_loop_after_another(loop: Loop) -> None:
    """A new loop may get the address of the last one."""
    for _ in range(20):
        assert together(loop, lambda: _wait.sleep(0.0001), _wait.is_green) == [None, True]


def test_two_loops_in_two_threads(loop: Loop) -> None:
    lock = _engine.Lock()
    count = 0

    def adds() -> bool:
        nonlocal count
        for _ in range(50):
            with lock:
                before = count
                _wait.sleep(0)
                count = before + 1
        return True

    done: list[Any] = []
    other = threading.Thread(target=lambda: done.append(together(loop, adds, adds)))
    other.start()
    assert together(loop, adds, adds) == [True, True]
    other.join(30)
    assert done == [[True, True]] and count == 200


def test_a_loop_is_let_go(aio: AsyncioLoop) -> None:
    dead: list[weakref.ref[Any]] = []
    descriptors = len(os.listdir("/proc/self/fd"))

    async def main() -> None:
        await async_def(_wait.sleep, 0.001)
        dead.append(weakref.ref(asyncio.get_running_loop()))

    for _ in range(10):
        aio.run(main)
    gc.collect()
    assert [reference() for reference in dead] == [None] * 10
    assert len(os.listdir("/proc/self/fd")) <= descriptors + 1


def test_tasks_that_nobody_waits_for_any_more_are_collected() -> None:
    loop = asyncio.new_event_loop()
    task = loop.create_task(async_def(_wait.sleep, 1000))
    loop.run_until_complete(asyncio.sleep(0.005))
    loop.set_exception_handler(lambda *_: None)  # "Task was destroyed but it is pending!"
    coroutine = weakref.ref(task.get_coro())
    loop.close()
    del task, loop
    gc.collect()
    assert coroutine() is None


def test_a_fork_leaves_the_parents_waits_alone(python: Callable[..., Any]) -> None:
    done = python(
        """
        import asyncio, os, socket, sys, warnings
        from verdigris import async_def, _engine
        from verdigris.green import _wait
        warnings.simplefilter("ignore", DeprecationWarning)  # fork with threads

        ours, theirs = socket.socketpair()
        ours.settimeout(20)
        recv = _wait.SOCKET_METHODS["recv"]

        def parent():
            theirs.send(b"1")
            assert recv(ours, 1) == b"1"
            return recv(ours, 10)

        def forks():
            _wait.sleep(0.01)
            child = os.fork()
            if not child:
                # Nothing of the loop works here any more, and nothing green.
                ok = not _wait.is_green()
                _wait.forget(ours.fileno())
                ours.close()
                _wait.sleep(0.001)
                os._exit(0 if ok else 3)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
            theirs.send(b"after")

        async def main():
            print((await asyncio.gather(async_def(parent), async_def(forks)))[0])

        asyncio.run(main())
        """
    )
    assert done.stdout == "b'after'\n"


def test_a_function_that_never_has_to_wait_gives_way(loop: Loop) -> None:
    with tcp_pair() as (mine, other):
        beats = 0
        over = False

        async def heart() -> None:
            nonlocal beats
            while not over:
                await loop.sleep(0.001)
                beats += 1

        def greedy() -> None:
            nonlocal over
            end = time.monotonic() + 0.5
            try:
                while time.monotonic() < end:
                    other.send(b"x")
                    mine.recv(1)
            finally:
                over = True

        async def main() -> int:
            async with loop.tasks() as start:
                start(heart)
                start(async_def, greedy)
            return beats

        assert loop.run(main) >= 5


def test_a_function_that_is_unwound_without_its_loop_is_not_green() -> None:
    seen: list[bool] = []

    def waits() -> None:
        try:
            _wait.sleep(0.001)
            _wait.sleep(1000)
        finally:
            seen.append(_wait.is_green())
            _wait.sleep(0.001)

    loop = asyncio.new_event_loop()
    task = loop.create_task(async_def(waits))
    loop.run_until_complete(asyncio.sleep(0.02))
    loop.set_exception_handler(lambda *_: None)  # "Task was destroyed but it is pending!"
    loop.close()
    del task  # and not the loop: its reactor lives
    gc.collect()
    assert seen == [False]


def test_a_loop_that_has_ended_leaves_no_descriptors(loop: Loop) -> None:
    """Nor do they wait for the collector: those of the loop itself don't."""

    def run() -> None:
        loop.run(async_def, green_time.sleep, 0)
        thread = threading.Thread(target=loop.run, args=(async_def, green_time.sleep, 0.001))
        thread.start()
        thread.join()

    run()
    gc.collect()
    gc.disable()
    try:
        before = len(os.listdir("/proc/self/fd"))
        for _ in range(3):
            run()
        assert len(os.listdir("/proc/self/fd")) <= before
    finally:
        gc.enable()
