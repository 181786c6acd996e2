"""`ThreadExecutor`: a thread for each call, which may be abandoned."""

from __future__ import annotations

import contextvars
import gc
import os
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import Any

import pytest
from conftest import Loop

from verdigris import async_def
from verdigris.worlds import _os_thread
from verdigris.worlds._thread_executor import ExitOption, ThreadExecutor, ThreadFuture


class Waits:
    """A function that waits until it may end. The end of the test lets all go."""

    def __init__(self) -> None:
        self.began = threading.Event()
        self.goes_on = threading.Event()

    def __call__(self) -> str:
        self.began.set()
        self.goes_on.wait()
        return "done"


@pytest.fixture
def waits() -> Iterator[Waits]:
    function = Waits()
    yield function
    function.goes_on.set()


def until(condition: Callable[[], object]) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end, "it never came"
        time.sleep(0.001)


def test_a_call_gives_its_result() -> None:
    executor = ThreadExecutor()
    call = executor.submit(lambda *args, **kwargs: (args, kwargs), 1, fn=2, self=3)
    assert call.result() == ((1,), {"fn": 2, "self": 3})
    assert isinstance(call, ThreadFuture) and isinstance(call, Future)
    assert not call.is_abandoned()


@pytest.mark.parametrize("kind", [ValueError, SystemExit, KeyboardInterrupt, GeneratorExit])
def test_whatever_is_raised_goes_into_the_future(kind: type[BaseException]) -> None:
    error = kind("of the call")

    def function() -> None:
        raise error

    assert ThreadExecutor().submit(function).exception() is error


def test_each_call_has_a_thread_without_limit() -> None:
    executor = ThreadExecutor(ExitOption.WAIT)
    barrier = threading.Barrier(100)
    with executor:
        names = executor.map(
            lambda _: (barrier.wait(60), threading.current_thread().name)[1], range(100)
        )
        assert len(set(names)) == 100


def test_map_gives_results_in_order() -> None:
    with ThreadExecutor() as executor:
        results = executor.map(pow, range(20), [2] * 20)
    # Also of what was abandoned.
    assert list(results) == [n * n for n in range(20)]


def test_a_call_has_the_context_of_its_caller() -> None:
    variable = contextvars.ContextVar("variable", default="none")
    variable.set("of the caller")

    def change() -> str:
        before = variable.get()
        variable.set("of the call")
        return before

    assert ThreadExecutor().submit(change).result() == "of the caller"
    assert variable.get() == "of the caller"


# --- what the end of the block does ---


def test_a_block_abandons_by_default(waits: Waits) -> None:
    with ThreadExecutor() as executor:
        call, done = executor.submit(waits), executor.submit(len, "1")
        done.result()
        until(lambda: done not in executor._unsettled)
    assert call.is_abandoned() and not call.done() and not done.is_abandoned()
    seen: list[object] = []
    call.add_done_callback(seen.append)
    waits.goes_on.set()
    # The thread goes on, and so do its result and its callbacks.
    assert call.result() == "done"
    until(lambda: seen == [call])
    assert call.is_abandoned()


def test_a_block_may_leave_its_calls(waits: Waits) -> None:
    with ThreadExecutor(ExitOption.NO_WAIT) as executor:
        call = executor.submit(waits)
    assert not call.is_abandoned() and not call.done()
    waits.goes_on.set()
    executor.shutdown(wait=True)
    assert call.done()


def test_a_block_may_wait(waits: Waits) -> None:
    with ThreadExecutor(ExitOption.WAIT) as executor:
        call = executor.submit(waits)
        threading.Timer(0.05, waits.goes_on.set).start()
    assert call.done() and not call.is_abandoned()


@pytest.mark.parametrize("option", ExitOption)
def test_an_exception_leaves_the_block(option: ExitOption) -> None:
    executor = ThreadExecutor(on_exit=option)
    with pytest.raises(ValueError, match="of the block"), executor:
        raise ValueError("of the block")
    with pytest.raises(RuntimeError, match="was shut down"):
        executor.submit(print)


def test_what_an_option_may_be() -> None:
    assert [(option.name, option.value) for option in ExitOption] == [
        ("ABANDON", 1),
        ("NO_WAIT", 2),
        ("WAIT", 3),
    ]
    with pytest.raises(ValueError, match="not a valid ExitOption"):
        ThreadExecutor("wait")  # type: ignore[arg-type]


# --- shutting down and abandoning ---


@pytest.mark.parametrize("way", ["shutdown", "abandon"])
def test_the_end_may_be_repeated(way: str) -> None:
    executor = ThreadExecutor()
    executor.submit(len, "1").result()
    getattr(executor, way)()
    executor.shutdown()
    executor.abandon()
    getattr(executor, way)()
    with pytest.raises(RuntimeError, match="was shut down"):
        executor.submit(print)


def test_a_future_may_be_abandoned_again() -> None:
    future: ThreadFuture[int] = ThreadFuture()
    assert not future.is_abandoned()
    future.abandon()
    future.abandon()
    assert future.is_abandoned()


@pytest.mark.parametrize("who", ["executor", "future"])
def test_who_waits_goes_on_when_calls_are_abandoned(waits: Waits, who: str) -> None:
    executor = ThreadExecutor()
    call = executor.submit(waits)
    waiter = threading.Thread(target=executor.shutdown)
    waiter.start()
    until(lambda: executor._is_shut_down)
    (executor if who == "executor" else call).abandon()
    waiter.join(60)
    assert not waiter.is_alive() and not call.done() and call.is_abandoned()


def test_a_call_may_shut_its_own_executor_down() -> None:
    executor = ThreadExecutor()
    assert executor.submit(executor.shutdown).exception(60) is None


def test_nothing_submitted_while_it_is_abandoned_is_missed() -> None:
    for _ in range(10):
        executor, calls = ThreadExecutor(), []
        began = threading.Event()

        def submit(
            executor: ThreadExecutor = executor,
            calls: list[ThreadFuture[None]] = calls,
            began: threading.Event = began,
        ) -> None:
            while True:
                try:
                    calls.append(executor.submit(began.wait))  # type: ignore[arg-type]
                except RuntimeError:
                    return
                began.set()

        began_later = threading.Thread(target=submit)
        began_later.start()
        began.wait()
        executor.abandon()
        began_later.join()
        assert not executor._unsettled
        assert all(call.is_abandoned() or call.result(60) for call in calls)


def test_a_call_comes_before_the_end_or_is_refused() -> None:
    executor, ended = ThreadExecutor(), threading.Event()
    results: list[object] = []

    def submit() -> None:
        try:
            results.append(executor.submit(print))
        except RuntimeError as error:
            results.append(error)
        ended.set()

    with executor._guard:  # as `shutdown` takes it
        threading.Thread(target=submit).start()
        assert not ended.wait(0.1)
        executor.shutdown(wait=False)
    assert ended.wait(60)
    assert "was shut down" in str(results[0])


def test_a_thread_that_can_not_be_had(monkeypatch: pytest.MonkeyPatch) -> None:
    def start(*_: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(_os_thread.OSThread, "start", start)
    executor = ThreadExecutor()
    with pytest.raises(RuntimeError, match="can't start new thread"):
        executor.submit(print)
    executor.shutdown(wait=True)  # there is nothing to wait for


def test_nothing_of_a_call_is_kept() -> None:
    class Thing:
        pass

    thing, executor = Thing(), ThreadExecutor()
    call = executor.submit(lambda thing: thing, thing)
    call.result()
    seen = weakref.ref(thing)
    gc.disable()
    try:
        del thing, call
        until(lambda: seen() is None)
    finally:
        gc.enable()


def test_no_thread_looks_after_the_others(waits: Waits) -> None:
    before = set(threading.enumerate())
    executor = ThreadExecutor()
    call = executor.submit(waits)
    assert waits.began.wait(60)
    (new,) = set(threading.enumerate()) - before
    assert new.daemon and new.name.startswith("ThreadExecutor-")
    waits.goes_on.set()
    call.result()
    until(lambda: new not in threading.enumerate())


def test_what_a_callback_raises_is_reported(monkeypatch: pytest.MonkeyPatch, waits: Waits) -> None:
    reports: list[Any] = []
    monkeypatch.setattr(threading, "excepthook", lambda args: reports.append(args.exc_type))

    def callback(_: object) -> None:
        raise KeyboardInterrupt

    executor = ThreadExecutor()
    executor.submit(waits).add_done_callback(callback)
    waits.goes_on.set()
    executor.shutdown()
    assert reports == [KeyboardInterrupt]


# --- green functions ---


def test_a_green_function_waits_without_blocking_its_loop(loop: Loop, waits: Waits) -> None:
    def green() -> str:
        with ThreadExecutor(ExitOption.WAIT) as executor:
            call = executor.submit(waits)
        assert call.done()
        return call.result()

    async def main() -> Any:
        async with loop.tasks() as start:
            task = start(async_def, green)
            await loop.checkpoint()
            waits.goes_on.set()
        return task.outcome.value

    assert loop.run(main) == "done"


def test_its_threads_are_os_threads_after_patching(python: Any, loop: Loop) -> None:
    done = python(
        """
        import sys, verdigris
        verdigris.patch_all()
        import threading, time
        from conftest import LOOPS
        from verdigris.worlds._thread_executor import ThreadExecutor
        os_ident = verdigris.get_original("_thread", "get_ident")
        def green():
            with ThreadExecutor() as executor:
                return list(executor.map(lambda _: os_ident(), range(3)))
        async def main():
            return await verdigris.async_def(green)
        assert os_ident() not in LOOPS[sys.argv[1]]().run(main)
        print("done")
        """,
        loop.name,
    )
    assert done.stdout == "done\n"


# --- forks, and the interpreter's exit ---


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
def test_in_the_child_of_a_fork_nothing_is_waited_for(python: Any) -> None:
    done = python(
        """
        import os, sys, threading, warnings
        warnings.simplefilter("ignore", DeprecationWarning)  # of fork, where threads run
        from verdigris.worlds._thread_executor import ThreadExecutor
        executor = ThreadExecutor()
        event = threading.Event()
        executor.submit(event.wait)
        executor._guard.acquire()  # as if another thread were in there
        child = os.fork()
        if not child:
            print("child", executor.submit(len, "four").result(), flush=True)
            executor.shutdown(wait=True)
            sys.exit()
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        event.set()
        """
    )
    assert done.stdout == "child 4\n"


@pytest.mark.parametrize("option", ["ABANDON", "NO_WAIT"])
def test_exit_does_not_wait(python: Any, option: str) -> None:
    done = python(
        """
        import sys, time
        from verdigris.worlds._thread_executor import ExitOption, ThreadExecutor
        def computes():
            while True:
                [str(n) for n in range(100)]
        with ThreadExecutor(ExitOption[sys.argv[1]]) as executor:
            executor.submit(time.sleep, 3600)
            executor.submit(computes)
            for _ in range(20):
                executor.submit(time.sleep, 0.001)
        print("out")
        """,
        option,
    )
    assert (done.stdout, done.stderr) == ("out\n", "")


def test_a_block_that_waits_does_so_before_the_exit(python: Any) -> None:
    done = python(
        """
        import os, time
        from verdigris.worlds._thread_executor import ExitOption, ThreadExecutor
        with ThreadExecutor(ExitOption.WAIT) as executor:
            for n in range(5):
                executor.submit(lambda: (time.sleep(0.1), os.write(1, b"done\\n")))
        print("out")
        """
    )
    assert done.stdout == "done\n" * 5 + "out\n"
    assert done.stderr == ""


def test_exit_without_a_block_does_not_wait(python: Any) -> None:
    done = python(
        """
        import time
        from verdigris.worlds._thread_executor import ExitOption, ThreadExecutor
        ThreadExecutor(ExitOption.WAIT).submit(time.sleep, 3600)
        """
    )
    assert done.stderr == ""
