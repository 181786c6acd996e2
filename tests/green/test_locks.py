"""Locks, conditions, events and the rest: between green functions, loops and OS threads."""

from __future__ import annotations

import gc
import threading as stdlib
import time
from collections.abc import Callable
from typing import Any

import pytest

from verdigris import async_def, spawn
from verdigris.green import _wait
from verdigris.green import threading as green_threading

threading: Any = green_threading


def green(loop: Any, function: Callable[..., Any], *args: Any) -> Any:
    return loop.run(async_def, function, *args)


def run_all(*functions: Callable[[], Any]) -> list[Any]:
    """Runs functions beside each other, in green code, and waits for all."""
    return [task.join(timeout=20) for task in [spawn(function) for function in functions]]


def in_os_thread(function: Callable[[], Any]) -> Callable[[], Any]:
    """Starts an OS thread; gives what waits for its result, in green code."""
    results: list[Any] = []
    thread = stdlib.Thread(target=lambda: results.append(function()))
    thread.start()

    def result() -> Any:
        _wait.offload(thread.join)
        return results[0]

    return result


KINDS = pytest.mark.parametrize("kind", ["Lock", "RLock", "Condition", "Semaphore"])


# --- mutual exclusion --------------------------------------------------------


@KINDS
def test_excludes_green_functions(loop: Any, kind: str) -> None:
    def main() -> None:
        lock = getattr(threading, kind)()
        inside = most = 0

        def work() -> None:
            nonlocal inside, most
            for _ in range(5):
                with lock:
                    inside += 1
                    most = max(most, inside)
                    _wait.sleep(0.001)
                    inside -= 1

        run_all(work, work, work)
        assert most == 1

    green(loop, main)


@KINDS
def test_excludes_green_functions_and_os_threads(loop: Any, kind: str) -> None:
    def main() -> None:
        lock = getattr(threading, kind)()
        inside = most = 0

        def work(sleep: Callable[[float], Any]) -> None:
            nonlocal inside, most
            for _ in range(10):
                with lock:
                    inside += 1
                    most = max(most, inside)
                    sleep(0.001)
                    inside -= 1

        of_thread = in_os_thread(lambda: work(time.sleep))
        run_all(*[lambda: work(_wait.sleep)] * 2)
        of_thread()
        assert most == 1

    green(loop, main)


def test_excludes_functions_of_two_loops(loop: Any) -> None:
    lock = threading.Lock()
    count = 0

    def work() -> None:
        nonlocal count
        for _ in range(20):
            with lock:
                seen = count
                _wait.sleep(0.0005)
                count = seen + 1

    other = stdlib.Thread(target=green, args=(loop, lambda: run_all(work, work)))
    other.start()
    green(loop, lambda: run_all(work, work))
    other.join()
    assert count == 80


def test_an_os_thread_waits_for_a_green_function(loop: Any) -> None:
    def main() -> None:
        lock = threading.Lock()
        lock.acquire()
        order: list[str] = []

        def takes() -> None:
            with lock:
                order.append("thread")

        done = in_os_thread(takes)
        _wait.sleep(0.02)
        order.append("function")
        lock.release()
        done()
        assert order == ["function", "thread"]

    green(loop, main)


def test_waiting_for_an_os_thread_leaves_the_loop_free(loop: Any) -> None:
    async def main() -> None:
        lock, taken, free = threading.Lock(), stdlib.Event(), stdlib.Event()

        def holds() -> None:
            with lock:
                taken.set()
                free.wait()

        thread = stdlib.Thread(target=holds)
        thread.start()
        taken.wait()
        async with loop.tasks() as start:
            task = start(async_def, lock.acquire)
            for _ in range(10):
                await loop.sleep(0.001)
            assert not task.ended.is_set()
            free.set()
            assert (await task.wait()).value is True
        thread.join()

    loop.run(main)


# --- acquiring ---------------------------------------------------------------


@KINDS
def test_does_not_wait_when_it_shall_not(loop: Any, kind: str) -> None:
    def main() -> None:
        lock = getattr(threading, kind)()
        lock.acquire()
        assert run_all(lambda: lock.acquire(False)) == [False]
        assert run_all(lambda: lock.acquire(timeout=0.01)) == [False]
        lock.release()
        assert run_all(lambda: (lock.acquire(timeout=10), lock.release())) == [(True, None)]

    green(loop, main)


def test_a_cancelled_waiter_loses_nothing_for_others(loop: Any) -> None:
    async def main() -> None:
        lock = threading.Lock()
        assert lock.acquire()
        async with loop.tasks() as start:
            waiters = [start(async_def, lock.acquire) for _ in range(3)]
            await loop.sleep(0.01)
            waiters[0].cancel()
            lock.release()
            await waiters[0].wait()
            # Whoever of the two others has it hands it on.
            while not any(waiter.ended.is_set() for waiter in waiters[1:]):
                await loop.sleep(0.001)
            if not waiters[0].outcome.cancelled:
                lock.release()
            lock.release()
        assert [waiter.outcome.value for waiter in waiters[1:]] == [True, True]

    loop.run(main)


def test_rlock_belongs_to_one_function(loop: Any) -> None:
    def main() -> None:
        lock = threading.RLock()
        with lock, lock:
            assert run_all(lambda: lock.acquire(False)) == [False]

            def releases() -> None:
                with pytest.raises(RuntimeError, match="un-acquired"):
                    lock.release()

            run_all(releases)
            assert in_os_thread(lambda: lock.acquire(False))() is False
        assert run_all(lambda: (lock.acquire(False), lock.release())) == [(True, None)]

    green(loop, main)


def test_one_that_is_free_never_touches_the_loop(loop: Any) -> None:
    steps: list[str] = []

    def work(name: str) -> None:
        for _ in range(3):
            steps.append(name)
            with threading.Lock(), threading.RLock(), threading.Condition():
                threading.Event().is_set()

    green(loop, lambda: run_all(lambda: work("a"), lambda: work("b")))
    assert steps in (["a"] * 3 + ["b"] * 3, ["b"] * 3 + ["a"] * 3)


def test_made_outside_of_any_loop_and_used_in_two(loop: Any) -> None:
    lock, event = threading.Lock(), threading.Event()

    def work() -> None:
        with lock:
            event.wait(0.001)

    green(loop, lambda: run_all(work, work))
    work()
    green(loop, lambda: run_all(work, work))
    assert not lock.locked()


# --- what is made of locks ---------------------------------------------------


@pytest.mark.parametrize("of_thread", [False, True])
def test_event(loop: Any, of_thread: bool) -> None:
    def main() -> None:
        event = threading.Event()
        assert event.wait(0.01) is False
        done = in_os_thread(event.set) if of_thread else spawn(event.set).join
        assert event.wait(20) is True
        done()

    green(loop, main)


def test_event_from_green_code_to_an_os_thread(loop: Any) -> None:
    def main() -> None:
        event = threading.Event()
        result = in_os_thread(lambda: event.wait(20))
        _wait.sleep(0.01)
        event.set()
        assert result() is True

    green(loop, main)


@pytest.mark.parametrize("lock", [None, "Lock", "RLock"])
def test_condition_wait_for(loop: Any, lock: str | None) -> None:
    def main() -> None:
        condition = threading.Condition(None if lock is None else getattr(threading, lock)())
        items: list[int] = []

        def puts() -> None:
            for n in range(3):
                _wait.sleep(0.001)
                with condition:
                    items.append(n)
                    condition.notify_all()

        def waits() -> bool:
            with condition:
                return bool(condition.wait_for(lambda: len(items) == 3, timeout=20))

        assert run_all(waits, waits, puts) == [True, True, None]
        with condition:
            assert condition.wait_for(lambda: False, timeout=0.01) is False
            assert condition.wait(0.01) is False

    green(loop, main)


@pytest.mark.parametrize("kind", ["Lock", "RLock"])
def test_a_cancelled_wait_ends_when_the_lock_is_its_again(loop: Any, kind: str) -> None:
    """Which another function has meanwhile, and Trio cancels each attempt to take it."""
    condition = threading.Condition(getattr(threading, kind)())
    steps: list[str] = []

    def waits() -> None:
        with condition:
            try:
                condition.wait()
            finally:
                steps.append("has it again")
                assert condition._is_owned()

    def holds() -> None:
        with condition:
            _wait.sleep(0.05)
            steps.append("gives it away")

    async def main() -> Any:
        async with loop.tasks() as start:
            waiting = start(async_def, waits)
            while not condition._waiters:
                await loop.checkpoint()
            start(async_def, holds)
            while condition.acquire(False):
                condition.release()
                await loop.checkpoint()
            waiting.cancel()
            await loop.sleep(0.002)
            waiting.cancel()
        return waiting.outcome

    outcome = loop.run(main)
    assert steps == ["gives it away", "has it again"]
    assert outcome.cancelled, outcome
    assert condition.acquire(False)


@pytest.mark.parametrize("kind", ["Lock", "RLock"])
def test_who_is_notified_and_cancelled_hands_it_on(loop: Any, kind: str) -> None:
    condition = threading.Condition(getattr(threading, kind)())

    def waits() -> None:
        with condition:
            condition.wait()

    def notifies() -> None:
        with condition:
            condition.notify()

    async def main() -> list[Any]:
        async with loop.tasks() as start:
            first, second = start(async_def, waits), start(async_def, waits)
            await loop.sleep(0.01)
            notifies()
            first.cancel()
            await first.wait()
            if not first.outcome.cancelled:  # it was faster
                notifies()
            for _ in range(500):
                if second.ended.is_set():
                    break
                await loop.sleep(0.01)
            second.cancel()
        return [first.outcome, second.outcome]

    _, second = loop.run(main)
    assert not second.cancelled and second.error is None


def test_an_error_of_the_lock_passes(loop: Any) -> None:
    """A lock of a program's own, which raises, is asked once."""

    class Once:
        calls = 0

        def acquire(self, *args: Any) -> bool:
            self.calls += 1
            if self.calls > 2:
                raise ValueError("asked again")
            return args != (False,)

        def release(self) -> None: ...

        def locked(self) -> None: ...  # asked for by 3.14

    def main() -> None:
        condition = threading.Condition(Once())
        condition.acquire()
        with pytest.raises(ValueError, match="asked again"):
            condition.wait(0.001)

    green(loop, main)


def test_condition_keeps_its_owner_through_a_wait(loop: Any) -> None:
    def main() -> None:
        condition = threading.Condition()

        def waits() -> None:
            with condition, condition:
                assert condition.wait(20)
                assert condition._is_owned()

        def notifies() -> None:
            _wait.sleep(0.001)
            with condition:
                condition.notify()

        run_all(waits, notifies)
        with pytest.raises(RuntimeError, match="un-acquired"):
            condition.notify()

    green(loop, main)


def test_barrier(loop: Any) -> None:
    def main() -> None:
        barrier = threading.Barrier(3)
        assert sorted(run_all(*[barrier.wait] * 3)) == [0, 1, 2]
        with pytest.raises(threading.BrokenBarrierError):
            barrier.wait(0.01)
        assert barrier.broken and threading.BrokenBarrierError is stdlib.BrokenBarrierError

    green(loop, main)


def test_bounded_semaphore(loop: Any) -> None:
    def main() -> None:
        semaphore = threading.BoundedSemaphore(2)
        inside = most = 0

        def work() -> None:
            nonlocal inside, most
            with semaphore:
                inside += 1
                most = max(most, inside)
                _wait.sleep(0.001)
                inside -= 1

        run_all(*[work] * 6)
        assert most == 2
        with pytest.raises(ValueError, match="too many times"):
            semaphore.release()

    green(loop, main)


def test_green_classes_are_the_stdlibs_too() -> None:
    for name in ("Condition", "Event", "Semaphore", "BoundedSemaphore", "Barrier", "Thread"):
        assert issubclass(getattr(threading, name), getattr(stdlib, name))
    assert issubclass(threading.BoundedSemaphore, threading.Semaphore)
    assert issubclass(threading.Timer, threading.Thread)
    assert set(stdlib.__all__) <= set(vars(green_threading))


# --- made before the stdlib was patched --------------------------------------


def test_made_before_patching(python: Any) -> None:
    done = python(
        """
        import asyncio, threading
        lock, condition, event = threading.Lock(), threading.Condition(), threading.Event()
        from verdigris import async_def, loops, spawn
        from verdigris.green import _thread as g1, _twin, _wait, threading as g2

        def main():
            loops.current()
            _twin.patch(threading, g2.REPLACED, g2.METHODS)
            def waits():
                assert event.wait(20)
                with condition, lock:
                    condition.notify()
            waiter = spawn(waits)
            _wait.sleep(0.01)
            with condition:
                event.set()
                print(condition.wait(20))
            waiter.join()

        async def run():
            await async_def(main)
        asyncio.run(run())
        """,
        options=("-W", "error"),
    )
    assert (done.stdout, done.stderr) == ("True\n", "")


def test_a_lock_is_free_again_when_its_function_was_cancelled(loop: Any) -> None:
    lock = threading.Lock()

    async def main() -> None:
        def holds() -> None:
            with lock:
                _wait.sleep(3600)

        async with loop.tasks() as start:
            task = start(async_def, holds)
            while not lock.locked():
                await loop.sleep(0.001)
            task.cancel()
        assert not lock.locked()

    loop.run(main)


def test_used_in_del(loop: Any) -> None:
    lock = threading.RLock()
    seen: list[bool] = []

    class Finalised:
        def __del__(self) -> None:
            with lock:
                seen.append(True)

    def main() -> None:
        for _ in range(10):
            circle: Any = Finalised()
            circle.itself = circle
            del circle
            with lock:
                gc.collect()

    green(loop, main)
    main()
    assert len(seen) == 20


def test_daemon_threads_that_wait_when_the_interpreter_ends(python: Callable[..., Any]) -> None:
    """Their waits end in the middle of the interpreter's end, with its frames gone."""
    done = python(
        """
        import sys, threading, time
        from verdigris._engine import Lock

        lock = Lock()
        lock.acquire()

        def waits(number):
            while True:
                lock.acquire(timeout=0.0005 * (1 + number % 5))

        class Slow:
            def __del__(self, now=time.monotonic):
                end = now() + 0.05
                while now() < end:
                    pass

        for number in range(20):
            threading.Thread(target=waits, args=(number,), daemon=True).start()
        sys.slow = Slow()
        time.sleep(0.02)
        print("over")
        """
    )
    assert done.stdout == "over\n" and done.stderr == ""
