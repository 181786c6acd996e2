"""`multiprocessing` in green code: locks that are shared with other processes.

Each program is a file: the children of `spawn` and `forkserver` import it.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest
from conftest import CHOSEN

# How children begin makes a difference to them, and none to the loop.
FORKED = [(loop, "fork") for loop in CHOSEN]
BEGUN_ANEW = [(CHOSEN[0], "spawn"), (CHOSEN[0], "forkserver")]

Run = Callable[..., "CompletedProcess[str]"]

START = """
import sys
from verdigris import async_def, await_, patch_all
patch_all()
import faulthandler, multiprocessing, queue, threading, time, warnings
from conftest import LOOPS

warnings.simplefilter("ignore", DeprecationWarning)  # of fork, where threads run
context = multiprocessing.get_context(sys.argv[2])

def refused(error, function, *args, **kwargs):
    try:
        function(*args, **kwargs)
    except error as refusal:
        return refusal
    raise AssertionError("not refused")
"""

END = """
beats = 0

async def main():
    global beats
    async with loop.tasks() as start:
        started = start(async_def, work)
        while not started.ended.is_set():
            await loop.sleep(0.002)
            beats += 1
    if started.outcome.error is not None:
        raise started.outcome.error

if __name__ == "__main__":
    faulthandler.dump_traceback_later(60, exit=True)
    loop = LOOPS[sys.argv[1]]()
    loop.run(main)
    print("ended")
"""


@pytest.fixture
def run(loop: Any, python: Any, tmp_path: Path) -> Run:
    """Runs `work` of a program green on a loop, while the loop counts in `beats`."""

    def run(source: str, method: str = "fork") -> CompletedProcess[str]:
        program = tmp_path / "processes.py"
        program.write_text(START + textwrap.dedent(source) + END)
        done: CompletedProcess[str] = python(
            f"""
            import runpy, sys
            sys.path.insert(0, {str(tmp_path)!r})
            runpy.run_path({str(program)!r}, run_name="__main__")
            """,
            loop.name,
            method,
        )
        assert (done.stdout, done.stderr) == ("ended\n", "")
        return done

    return run


@pytest.mark.parametrize(("loop", "method"), [*FORKED, *BEGUN_ANEW], indirect=["loop"])
def test_a_pool(run: Run, method: str) -> None:
    run(
        """
        def slow(number):
            time.sleep(0.1)
            return number * 2

        def fails(number):
            raise LookupError(number)

        def work():
            with context.Pool(2) as pool:
                before = beats
                assert pool.map(slow, range(4)) == [0, 2, 4, 6]
                assert list(pool.imap_unordered(abs, [-1, -1])) == [1, 1]
                assert beats > before, beats
                result = pool.apply_async(slow, (5,))
                refused(multiprocessing.TimeoutError, result.get, timeout=0.01)
                assert result.get() == 10
                assert refused(LookupError, pool.apply, fails, ("key",)).args == ("key",)
            with context.Pool(2) as pool:
                pending = pool.map_async(slow, range(3))
                pool.close()
                pool.join()
                assert pending.get() == [0, 2, 4]
        """,
        method,
    )


@pytest.mark.parametrize(("loop", "method"), [*FORKED, BEGUN_ANEW[0]], indirect=["loop"])
def test_queues_and_managers(run: Run, method: str) -> None:
    run(
        """
        def doubles(numbers, results):
            for number in iter(numbers.get, None):
                results.put((number * 2, b"x" * 100_000))
            results.put(None)
            numbers.task_done()

        def work():
            numbers, results = context.JoinableQueue(), context.Queue(2)
            child = context.Process(target=doubles, args=(numbers, results))
            child.start()

            def put():
                for number in [*range(20), None]:
                    numbers.put(number)

            refused(queue.Empty, results.get, timeout=0)
            threading.Thread(target=put).start()
            assert [number for number, _ in iter(results.get, None)] == list(range(0, 40, 2))
            child.join()
            assert child.exitcode == 0
            refused(queue.Empty, results.get, timeout=0.02)
            with context.Manager() as manager:
                shared, lock = manager.dict(), manager.Lock()
                with lock:
                    assert not lock.acquire(False)
                    shared["key"] = 1
                assert dict(shared) == {"key": 1}
        """,
        method,
    )


def test_locks_are_waited_for_without_blocking(run: Run) -> None:
    run(
        """
        def holds(lock, taken, enough):
            with lock:
                taken.set()
                enough.wait()

        def work():
            for lock in (context.Lock(), context.RLock(), context.Semaphore(1)):
                taken, enough = context.Event(), context.Event()
                child = context.Process(target=holds, args=(lock, taken, enough))
                child.start()
                assert taken.wait(30)
                assert not lock.acquire(False)
                assert not lock.acquire(timeout=0.02)
                assert not lock.acquire(True, -1)
                before = beats
                threading.Timer(0.03, enough.set).start()
                with lock:
                    assert beats > before, lock
                child.join()
                assert lock.acquire(False) and lock.release() is None
            for wrong in ("soon", object()):
                with lock:
                    refused(TypeError, lock.acquire, True, wrong)
        """
    )


def test_a_recursive_lock_belongs_to_a_function(run: Run) -> None:
    """To the lock itself the functions of a thread are one, and it would let all of them in."""
    run(
        """
        def work():
            lock, order = context.RLock(), []

            def second():
                assert not lock.acquire(False)
                assert not lock._semlock._is_mine()
                order.append(str(refused(AssertionError, lock.release)))
                with lock, lock:
                    order.append("second")

            with lock:
                thread = threading.Thread(target=second)
                thread.start()
                with lock:
                    time.sleep(0.05)
                time.sleep(0.05)
                assert lock._semlock._is_mine() and lock._semlock._count() == 1
                order.append("first")
            thread.join()
            text = "attempt to release recursive lock not owned by thread"
            assert order == [text, "first", "second"], order

            async def plain():
                assert not lock.acquire(False)
                assert "async_def" in str(refused(RuntimeError, lock.acquire))

            async def beside():
                async with loop.tasks() as start:
                    started = start(plain)
                if started.outcome.error is not None:
                    raise started.outcome.error

            with lock:
                await_(beside())
            with lock:
                pass
        """
    )


def test_conditions_barriers_and_events(run: Run) -> None:
    run(
        """
        def meets(barrier, condition, ready, numbers):
            barrier.wait()
            with condition:
                ready.release()
                assert condition.wait_for(lambda: numbers[0] == 1, 30)
                numbers[1] += 1
                condition.notify_all()

        def work():
            condition, ready = context.Condition(), context.Semaphore(0)
            numbers, barrier = context.Array("i", 2, lock=False), context.Barrier(4)
            arguments = barrier, condition, ready, numbers
            child = context.Process(target=meets, args=arguments)
            threads = [threading.Thread(target=meets, args=arguments) for _ in range(2)]
            for one in (child, *threads):
                one.start()
            barrier.wait()
            for _ in range(3):
                ready.acquire()
            with condition:
                numbers[0] = 1
                condition.notify_all()
                assert condition.wait_for(lambda: numbers[1] == 3, 30)
            for one in (child, *threads):
                one.join()
            event = context.Event()
            assert not event.wait(0.01)
            threading.Timer(0.02, event.set).start()
            assert event.wait(30)
        """
    )


def test_a_wait_that_is_cancelled_takes_nothing(run: Run) -> None:
    run(
        """
        import asyncio

        def work():
            for lock in (context.Lock(), context.RLock()):
                def second():
                    try:
                        lock.acquire()
                    finally:
                        ended.append(lock)
                with lock:
                    ended = []
                    if loop.name == "trio":
                        import trio
                        with trio.move_on_after(0.05):
                            await_(async_def(second))
                    else:
                        try:
                            await_(asyncio.wait_for(async_def(second), 0.05))
                        except asyncio.TimeoutError:
                            pass
                    assert ended == [lock]
                time.sleep(0.05)
                assert lock.acquire(False)
        """
    )


def test_outside_of_green_code_they_are_the_stdlibs(python: Any) -> None:
    python(
        """
        import multiprocessing, pickle, sys, threading, time
        from verdigris import get_original, is_patched, patch_all
        patch_all(["_multiprocessing"])
        assert is_patched("_multiprocessing", "SemLock")
        context = multiprocessing.get_context("spawn")
        lock = context.RLock()
        assert isinstance(lock._semlock, get_original("_multiprocessing", "SemLock"))
        with lock:
            with lock:
                taken = []
                thread = threading.Thread(target=lambda: taken.append(lock.acquire(timeout=0.05)))
                thread.start()
                thread.join()
                assert taken == [False]
                assert lock._semlock._count() == 2
        handle = lock._semlock
        again = type(handle)._rebuild(handle.handle, handle.kind, handle.maxvalue, handle.name)
        assert type(again) is type(handle)
        with again:
            assert not lock._semlock._is_mine() and not lock.acquire(False)
        try:
            lock.release()
        except AssertionError:
            pass
        else:
            raise AssertionError("released, and nobody has it")
        try:
            context.BoundedSemaphore(1).release()
        except ValueError:
            pass
        else:
            raise AssertionError("released too often")
        """
    )
