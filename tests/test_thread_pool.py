"""`ThreadPool`: what an Executor does, when it grows and shrinks, and what it must not lose."""

from __future__ import annotations

import asyncio
import concurrent.futures
import gc
import io
import os
import queue
import signal
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import Any

import pytest
from conftest import Loop

from verdigris import async_def
from verdigris.worlds import _growth, _os_thread, _pool
from verdigris.worlds._growth import Growth
from verdigris.worlds._pool import PoolFull, ThreadPool, default_pool


@pytest.fixture
def pool() -> Iterator[ThreadPool]:
    with ThreadPool() as pool:
        yield pool


def until(condition: Callable[[], object]) -> None:
    """Waits for what another thread does. A test that waits in vain fails here, late."""
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end, "it never came"
        time.sleep(0.001)


class Busy:
    """Keeps `number` threads of a pool busy, in the block."""

    def __init__(self, pool: ThreadPool, number: int = 1) -> None:
        self.goes_on = threading.Event()
        began = [threading.Event() for _ in range(number)]
        self.futures = [pool.submit(self._wait, event) for event in began]
        for event in began:
            assert event.wait(60)

    def _wait(self, began: threading.Event) -> None:
        began.set()
        self.goes_on.wait()

    def __enter__(self) -> Busy:
        return self

    def __exit__(self, *_: object) -> None:
        self.goes_on.set()


# --- an executor ---


def test_a_call_gives_its_result(pool: ThreadPool) -> None:
    def function(*args: object, **kwargs: object) -> object:
        return args, kwargs, threading.get_ident()

    args, kwargs, ident = pool.submit(function, 1, fn=2, self=3).result()  # type: ignore[misc]
    assert (args, kwargs) == ((1,), {"fn": 2, "self": 3})
    assert ident != threading.get_ident()


@pytest.mark.parametrize("kind", [ValueError, SystemExit, KeyboardInterrupt, GeneratorExit])
def test_whatever_is_raised_goes_into_the_future(
    pool: ThreadPool, kind: type[BaseException]
) -> None:
    error = kind("of the call")

    def function() -> None:
        raise error

    assert pool.submit(function).exception() is error
    assert pool.submit(len, "goes on").result() == 7


def test_map_gives_results_in_order(pool: ThreadPool) -> None:
    assert list(pool.map(pow, range(100), [2] * 100)) == [n * n for n in range(100)]
    with pytest.raises(ZeroDivisionError):
        list(pool.map(divmod, [1, 1], [1, 0]))


def test_the_stdlib_waits_for_its_futures(pool: ThreadPool) -> None:
    calls = {pool.submit(abs, -n): n for n in range(10)}
    assert all(call.result() == calls[call] for call in concurrent.futures.as_completed(calls))
    assert isinstance(next(iter(calls)), concurrent.futures.Future)


def test_asyncio_uses_it(pool: ThreadPool) -> None:
    async def main() -> int:
        return await asyncio.get_running_loop().run_in_executor(pool, len, "four")

    assert asyncio.run(main()) == 4


def test_threads_are_named_and_listed_while_they_live() -> None:
    with ThreadPool(thread_name_prefix="mine") as pool:
        thread = pool.submit(threading.current_thread).result()
        assert thread.name == "mine_1"
        assert thread in threading.enumerate()
    assert thread not in threading.enumerate()


def test_pools_have_names_of_their_own() -> None:
    with ThreadPool() as one, ThreadPool() as other:
        names = {
            pool.submit(lambda: threading.current_thread().name).result() for pool in (one, other)
        }
    assert len(names) == 2 and all(name.startswith("ThreadPool-") for name in names)


@pytest.mark.parametrize(
    "arguments",
    [{"max_workers": 0}, {"max_workers": -1}, {"idle_seconds": -1}, {"idle_seconds": float("nan")}],
)
def test_senseless_limits_are_refused(arguments: Any) -> None:
    with pytest.raises(ValueError, match="must"):
        ThreadPool(**arguments)


def test_no_limit_of_time_is_too_long() -> None:
    with ThreadPool(idle_seconds=float("inf")) as pool:
        assert pool.submit(len, "1").result() == 1
        until(lambda: pool.stats().idle)


# --- the end ---


def test_the_end_of_the_block_waits_for_everything() -> None:
    done: list[int] = []
    with ThreadPool(max_workers=2) as pool:
        busy = Busy(pool, 2)
        for n in range(20):
            pool.submit(done.append, n)
        assert not done
        busy.goes_on.set()
    assert sorted(done) == list(range(20))
    assert pool.stats().workers == 0


def test_no_call_after_the_end() -> None:
    pool = ThreadPool()
    pool.shutdown()
    pool.shutdown()
    for submit in (pool.submit, pool.submit_now, pool.start):
        with pytest.raises(RuntimeError, match="was shut down"):
            submit(print)  # type: ignore[operator]


def test_shutdown_without_waiting_loses_nothing() -> None:
    pool = ThreadPool(max_workers=1)
    with Busy(pool):
        later = pool.submit(len, "1234")
        pool.shutdown(wait=False)
        assert not later.done()
    assert later.result(60) == 4


def test_a_call_may_shut_its_own_pool_down() -> None:
    pool = ThreadPool()
    pool.submit(pool.shutdown).result(60)
    until(lambda: pool.stats().workers == 0)


def test_a_cancelled_call_never_runs() -> None:
    done: list[int] = []
    with ThreadPool(max_workers=1) as pool, Busy(pool):
        call = pool.submit(done.append, 1)
        assert call.cancel()
    assert not done and call.cancelled()


def test_shutdown_cancels_what_is_queued() -> None:
    done: list[str] = []

    class Cancellable:
        def __call__(self) -> None:
            done.append("called")

        def cancel(self) -> None:
            done.append("cancelled")

    pool = ThreadPool(max_workers=1)
    with Busy(pool) as busy:
        queued = [pool.submit(done.append, "never") for _ in range(3)]
        assert queued[0].cancel()
        pool.start(Cancellable())
        pool.start(lambda: done.append("plain"))
        pool.shutdown(wait=False, cancel_futures=True)
        # Those who wait hear of it.
        assert concurrent.futures.wait(queued, 60).not_done == set()
    pool.shutdown()
    assert done == ["cancelled", "plain"]
    assert all(call.cancelled() for call in queued)
    assert busy.futures[0].result() is None


# --- plain work ---


def test_plain_work_is_done(pool: ThreadPool) -> None:
    results: queue.SimpleQueue[int] = queue.SimpleQueue()
    pool.start(lambda: results.put(threading.get_ident()))
    assert results.get(timeout=60) != threading.get_ident()


def test_what_plain_work_raises_is_reported(
    pool: ThreadPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    reports: queue.SimpleQueue[Any] = queue.SimpleQueue()
    monkeypatch.setattr(threading, "excepthook", lambda args: reports.put(tuple(args)))
    error = ValueError("of the work")

    def work() -> None:
        raise error

    def exits() -> None:
        raise SystemExit

    pool.start(exits)  # as in any thread, no report
    pool.start(work)
    kind, value, traceback, thread = reports.get(timeout=60)
    assert (kind, value) == (ValueError, error) and traceback is not None
    assert thread.name.startswith("ThreadPool-")
    pool.shutdown()
    assert reports.empty()
    error.__traceback__ = None


def test_a_hook_that_raises_ends_no_worker(
    pool: ThreadPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    reports: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def hook(args: Any) -> None:
        raise LookupError("of the hook")

    def work() -> None:
        raise ValueError("of the work")

    monkeypatch.setattr(threading, "excepthook", hook)
    monkeypatch.setattr(sys, "excepthook", lambda *args: reports.put(args[0]))
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    pool.start(work)
    assert reports.get(timeout=60) is LookupError
    assert sys.stderr.getvalue() == "Exception in threading.excepthook:\n"  # type: ignore
    pool.shutdown()  # which waits for each worker


# --- what is kept ---


class Thing:
    def method(self) -> Thing:
        return self


@pytest.mark.parametrize("raises", [False, True])
def test_nothing_of_a_call_is_kept(pool: ThreadPool, raises: bool) -> None:
    def function(thing: Thing) -> Thing:
        if raises:
            raise ValueError(thing)
        return thing.method()

    thing = Thing()
    call = pool.submit(function, thing)
    call.exception()
    until(lambda: pool.stats().idle)
    seen = weakref.ref(thing)
    gc.disable()
    try:
        del thing, call
        # The worker's last reference goes just after the future is done.
        until(lambda: seen() is None)
    finally:
        gc.enable()


def test_nothing_of_plain_work_is_kept(pool: ThreadPool) -> None:
    thing = Thing()
    pool.start(thing.method)
    seen = weakref.ref(thing)
    del thing
    until(lambda: seen() is None)


# --- at once or not at all ---


def test_submit_now_refuses_to_queue() -> None:
    with ThreadPool(max_workers=2) as pool:
        assert pool.submit_now(len, "1").result() == 1
        with Busy(pool, 2):
            assert pool.stats().is_full
            with pytest.raises(PoolFull, match=r"all 2 threads .*max_workers"):
                pool.submit_now(print, "never")
            assert pool.stats().queued == 0
        until(lambda: pool.stats().idle)
        assert not pool.stats().is_full
        assert pool.submit_now(len, "12").result() == 2


def test_submit_now_needs_no_free_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Growth, "look", lambda *_: 0)
    with ThreadPool(max_workers=40) as pool:
        with Busy(pool, pool._crew.quick):
            queued = pool.submit(len, "1")
            assert pool.submit_now(len, "12").result(60) == 2
        assert queued.result() == 1


def test_the_numbers_say_what_goes_on() -> None:
    with ThreadPool(max_workers=2) as pool:
        assert pool.stats() == _pool.PoolStats(0, 0, 0, 0, 2, 0, 0)
        with Busy(pool, 2):
            queued = pool.submit(len, "1")
            assert pool.stats() == _pool.PoolStats(2, 0, 2, 1, 2, 2, 0)
        queued.result()
        until(lambda: pool.stats() == _pool.PoolStats(2, 2, 0, 0, 2, 2, 0))
    assert pool.stats() == _pool.PoolStats(0, 0, 0, 0, 2, 2, 2)
    with pytest.raises(AttributeError):
        pool.stats().idle = 3  # type: ignore[misc]


# --- growing and shrinking ---


def test_calls_that_wait_soon_wait_at_once(pool: ThreadPool) -> None:
    # The barrier opens when 200 are there.
    barrier = threading.Barrier(200)
    assert sorted(pool.map(lambda _: barrier.wait(60), range(200))) == list(range(200))
    assert 200 <= pool.stats().started <= 500


def test_a_pool_whose_calls_wait_for_queued_calls_gets_on(pool: ThreadPool) -> None:
    def outer(n: int) -> int:
        return pool.submit(abs, -n).result(60)

    number = pool._crew.quick * 3
    assert list(pool.map(outer, range(number))) == list(range(number))


def test_calls_that_compute_start_few_threads(pool: ThreadPool) -> None:
    def compute(_: object) -> int:
        return sum(n * n for n in range(20_000))

    assert len(set(pool.map(compute, range(500)))) == 1
    assert pool.stats().started < 60


def test_the_limit_is_kept() -> None:
    # Each opening of the barrier takes all 20 at the same moment, however busy the machine is.
    barrier = threading.Barrier(20)
    with ThreadPool(max_workers=20) as pool:
        list(pool.map(lambda _: barrier.wait(60), range(500)))
        assert pool.stats().started == pool.stats().workers == 20


def test_nobody_watches_when_nothing_waits(pool: ThreadPool) -> None:
    barrier = threading.Barrier(50)
    list(pool.map(lambda _: barrier.wait(60), range(50)))
    until(lambda: not any(t.name.endswith("_growth") for t in threading.enumerate()))
    assert not pool._crew.watched


def test_threads_that_are_not_needed_end() -> None:
    with ThreadPool(idle_seconds=0.01) as pool:
        list(pool.map(abs, range(100)))
        until(lambda: pool.stats().workers == 0)
        assert pool.stats().started == pool.stats().ended
        assert pool.submit(len, "again").result() == 5


def test_the_last_to_lie_down_is_the_first_to_be_woken() -> None:
    with ThreadPool(max_workers=4) as pool:
        with Busy(pool, 4):
            pass
        until(lambda: pool.stats().idle == 4)
        idents = set()
        for _ in range(20):
            idents.add(pool.submit(threading.get_ident).result())
            until(lambda: pool.stats().idle == 4)
        assert len(idents) == 1


def pauses(growth: Growth, number: int, late: float, share: float) -> list[int]:
    added = []
    for n in range(number):
        elapsed = growth.pause + late
        added.append(growth.look(elapsed, share * elapsed, 10, n))
    return added


def test_growth_doubles_where_cpu_is_free() -> None:
    growth = Growth(cpus=4)
    assert pauses(growth, 6, 0, 0.2) == [0, 10] * 3
    assert growth.pause == _growth.FIRST


def test_no_growth_where_the_gil_is_not_free() -> None:
    growth = Growth(cpus=4)
    late = sys.getswitchinterval()
    # Also where others have the CPUs, and this process gets a small share.
    assert pauses(growth, 20, late, 1.0) == pauses(growth, 20, late, 0.1) == [0] * 20
    assert growth.pause == _growth.LONGEST


def test_no_growth_where_all_cpus_are_taken() -> None:
    assert pauses(Growth(cpus=4), 20, 0, 4.0) == [0] * 20
    assert pauses(Growth(cpus=1), 20, 0, 1.0) == [0] * 20


def test_slow_growth_where_one_cpu_is_taken() -> None:
    growth = Growth(cpus=4)
    assert sum(pauses(growth, 10, 0, 1.0)) == 2
    # What is late between the looks shows that Python code runs.
    late = sys.getswitchinterval()
    for _ in range(10):
        assert pauses(growth, 4, 0, 1.0) + pauses(growth, 1, late, 1.0) == [0] * 5


def test_a_stall_adds_one_and_then_waits_longer() -> None:
    growth = Growth(cpus=2)
    late = sys.getswitchinterval()
    added, elapsed = [], 0.0
    while elapsed < 16:
        pause = growth.pause + late
        elapsed += pause
        if growth.look(pause, pause * 2, 10, 7):
            added.append(round(elapsed))
    assert added == [1, 3, 7, 15]


def test_a_stall_that_is_over_is_forgotten() -> None:
    growth = Growth(cpus=2)
    late = sys.getswitchinterval()
    for head in range(4):
        added, elapsed = 0, 0.0
        while not added:
            pause = growth.pause + late
            elapsed += pause
            added = growth.look(pause, pause * 2, 10, head)
        assert round(elapsed) == 1


def test_no_stall_while_work_moves() -> None:
    growth = Growth(cpus=2)
    assert pauses(growth, 10_000, sys.getswitchinterval(), 2.0) == [0] * 10_000


# --- threads that can't be had ---


@pytest.fixture
def no_threads(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    def start(*_: object) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        name = "_start_new_thread" if sys.version_info < (3, 13) else "_start_joinable_thread"
        patch.setattr(
            _os_thread, name, start if name.endswith("new_thread") else lambda *_, **__: start()
        )
        yield patch


def test_without_any_thread_the_caller_hears_of_it(no_threads: pytest.MonkeyPatch) -> None:
    done: list[int] = []
    with ThreadPool() as pool:
        for submit in (pool.submit, pool.submit_now):
            with pytest.raises(RuntimeError, match="can't start new thread"):
                submit(done.append, 1)
        with pytest.raises(RuntimeError, match="can't start new thread"):
            pool.start(lambda: done.append(1))
        assert pool.stats() == _pool.PoolStats(0, 0, 0, 0, 500, 0, 0)
        no_threads.undo()
        pool.submit(done.append, 2).result()
        assert done == [2]


def test_with_some_threads_work_stays_queued(no_threads: pytest.MonkeyPatch) -> None:
    no_threads.undo()
    with ThreadPool() as pool:
        busy = Busy(pool)
        no_threads.setattr(_os_thread.OSThread, "start", start_fails)
        # Some find no thread at once, others when the watch looks.
        calls = [pool.submit(abs, -n) for n in range(50)]
        busy.goes_on.set()
        assert [call.result(60) for call in calls] == list(range(50))
        assert pool.stats().started == 1


def start_fails(*_: object) -> None:
    raise RuntimeError("can't start new thread")


# --- many at once ---


@pytest.mark.parametrize("idle_seconds", [0, 0.0001, 5])
def test_many_threads_use_it_at_once(idle_seconds: float) -> None:
    done: list[int] = []
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        with ThreadPool(max_workers=5, idle_seconds=idle_seconds) as pool:

            def use(first: int) -> None:
                for n in range(first, first + 300):
                    pool.start(lambda n=n: done.append(n))
                    if n % 10 == 0:
                        assert pool.submit(abs, -n).result(60) == n

            users = [threading.Thread(target=use, args=(n * 300,)) for n in range(8)]
            for user in users:
                user.start()
            for user in users:
                user.join()
    finally:
        sys.setswitchinterval(interval)
    assert sorted(done) == list(range(8 * 300))
    stats = pool.stats()
    assert stats.started == stats.ended and stats.workers == 0


def test_work_that_comes_while_a_worker_lies_down_is_seen() -> None:
    calls: list[Future[int]] = []

    class Idle(list[Any]):
        def append(self, lock: object) -> None:
            if not calls:
                # Another thread finds nobody idle, and the worker has found no work.
                calls.append(pool.submit(len, "123"))
            super().append(lock)

    with ThreadPool(max_workers=1, idle_seconds=3600) as pool:
        pool._crew.idle = Idle()
        pool.submit(abs, -1).result()
        until(lambda: calls)
        assert calls[0].result(30) == 3


def test_work_that_comes_while_a_worker_ends_is_seen() -> None:
    calls: list[Future[int]] = []

    class Guard:
        def __enter__(self) -> None:
            # The worker has given up waiting, and is counted still.
            if not calls and threading.current_thread().name == "ends_1":
                calls.append(pool.submit(len, "123"))

        def __exit__(self, *_: object) -> None: ...

    with ThreadPool(max_workers=1, thread_name_prefix="ends", idle_seconds=0) as pool:
        pool._crew.guard = Guard()
        pool.submit(abs, -1).result()
        until(lambda: calls)
        assert calls[0].result(30) == 3


def test_what_interrupts_a_submit_may_submit(pool: ThreadPool) -> None:
    # A finalizer or a signal handler in the thread that has the lock.
    with pool._crew.guard:
        assert pool.submit(len, "1").result(60) == 1


def test_a_finalizer_may_submit(pool: ThreadPool) -> None:
    done: list[int] = []

    class Submits:
        def __del__(self) -> None:
            pool.start(lambda: done.append(1))

    def cycle() -> None:
        one: Any = Submits()
        one.itself = one

    threshold = gc.get_threshold()
    gc.set_threshold(1)
    try:
        for _ in range(300):
            cycle()
            pool.submit(abs, 1)
    finally:
        gc.set_threshold(*threshold)
    gc.collect()
    until(lambda: len(done) == 300)


def test_a_signal_handler_may_submit(pool: ThreadPool) -> None:
    done: list[int] = []
    before = signal.signal(signal.SIGALRM, lambda *_: pool.start(lambda: done.append(1)))
    signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
    try:
        while len(done) < 50:
            pool.submit(abs, 1).result(60)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


# --- pools that nobody knows ---


def test_the_threads_of_a_dropped_pool_end() -> None:
    pool = ThreadPool(thread_name_prefix="dropped", idle_seconds=3600)
    crew = pool._crew
    pool.submit(abs, 1).result()
    until(lambda: crew.idle)
    seen = weakref.ref(pool)
    del pool
    assert seen() is None
    until(lambda: not crew.workers)
    until(lambda: not any(t.name.startswith("dropped") for t in threading.enumerate()))


def test_a_dropped_pool_does_what_was_submitted() -> None:
    pool = ThreadPool(max_workers=1)
    busy = Busy(pool)
    later = pool.submit(len, "123")
    del pool
    busy.goes_on.set()
    assert later.result(60) == 3


def test_one_pool_for_the_process() -> None:
    pool = default_pool()
    assert default_pool() is pool
    with ThreadPool() as other:
        assert set(other.map(lambda _: default_pool(), range(20))) == {pool}
    pool.shutdown()
    assert default_pool() is not pool
    assert default_pool().submit(len, "12").result() == 2


def test_threads_are_traced(pool: ThreadPool) -> None:
    names: list[str] = []

    def tracing(frame: Any, _event: str, _argument: object) -> None:
        names.append(frame.f_code.co_name)

    def traced() -> None: ...

    before = threading.gettrace()
    threading.settrace(tracing)
    try:
        pool.submit(traced).result()
    finally:
        threading.settrace(before)  # type: ignore[arg-type]
    assert "traced" in names


# --- green functions ---


def test_a_green_function_waits_without_blocking_its_loop(loop: Loop, pool: ThreadPool) -> None:
    waits = threading.Event()

    def green() -> str:
        call = pool.submit(lambda: (waits.wait(60), threading.current_thread().name)[1])
        return call.result()

    async def main() -> str:
        async with loop.tasks() as start:
            task = start(async_def, green)
            await loop.checkpoint()
            waits.set()  # the loop goes on while it waits
        return task.outcome.value

    assert loop.run(main).startswith("ThreadPool-")


def test_a_green_function_waits_for_the_end_of_a_pool(loop: Loop) -> None:
    pool = ThreadPool()
    busy = Busy(pool)

    async def main() -> None:
        async with loop.tasks() as start:
            start(async_def, pool.shutdown)
            await loop.checkpoint()
            busy.goes_on.set()

    loop.run(main)
    assert pool.stats().workers == 0


PATCHED = """
import sys
import verdigris
order, name = sys.argv[1:]
if order == "pool first":
    from verdigris.worlds._pool import ThreadPool
    verdigris.patch_all()
elif order == "patch first":
    verdigris.patch_all()
    from verdigris.worlds._pool import ThreadPool
else:
    with verdigris.patch_blocking():
        from verdigris.worlds._pool import ThreadPool
import _thread, threading, time
from conftest import LOOPS
loop = LOOPS[name]()
os_ident = verdigris.get_original("_thread", "get_ident")
sleep = verdigris.get_original("time", "sleep")
main_ident = os_ident()
pool = ThreadPool()
go = verdigris.get_original("_thread", "allocate_lock")()
go.acquire()

def blocks(_):
    assert not verdigris.can_await()
    with go:  # a lock of the interpreter's: it would block the loop
        pass
    sleep(0.01)
    return os_ident(), threading.current_thread().name

def green():
    assert os_ident() == main_ident
    return list(pool.map(blocks, range(100)))

async def main():
    async with loop.tasks() as start:
        task = start(verdigris.async_def, green)
        await loop.checkpoint()
        go.release()
    return task.outcome.value

results = loop.run(main)
assert main_ident not in dict(results), results
assert {name.partition("_")[0] for _, name in results} == {"ThreadPool-0"}
assert type(pool._crew.guard).__module__ == "_thread", type(pool._crew.guard)
pool.shutdown()
print("done")
"""


@pytest.mark.parametrize("order", ["pool first", "patch first", "in a block"])
def test_its_threads_are_os_threads_after_patching(python: Any, loop: Loop, order: str) -> None:
    assert python(PATCHED, order, loop.name).stdout == "done\n"


# --- forks, and the interpreter's exit ---

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")


@needs_fork
def test_in_the_child_of_a_fork_the_pool_is_empty_and_works(python: Any) -> None:
    done = python(
        """
        import os, sys, threading, time, warnings
        warnings.simplefilter("ignore", DeprecationWarning)  # of fork, where threads run
        from verdigris.worlds._pool import ThreadPool, default_pool
        pool = ThreadPool(max_workers=2)
        event = threading.Event()
        busy = [pool.submit(event.wait) for _ in range(2)]
        queued = pool.submit(print, "of the parent", flush=True)
        idle = default_pool()
        idle.submit(len, "").result()
        # As if another thread were in there.
        pool._crew.guard.acquire()
        child = os.fork()
        if not child:
            assert pool.stats().workers == pool.stats().queued == 0, pool.stats()
            results = pool.submit(len, "four").result(), idle.submit(len, "f").result()
            print("child", *results, flush=True)
            pool.shutdown()
            sys.exit()  # its exit waits for nothing of the parent's
        pool._crew.guard.release()
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        event.set()
        pool.shutdown()
        """
    )
    assert done.stdout == "child 4 1\nof the parent\n"


@needs_fork
def test_a_call_may_fork(python: Any) -> None:
    done = python(
        """
        import os, warnings
        warnings.simplefilter("ignore", DeprecationWarning)
        from verdigris.worlds._pool import ThreadPool
        pool = ThreadPool()
        def forks():
            child = os.fork()
            return child
        child = pool.submit(forks).result()
        # In the child the worker ends with its work, and with it the process.
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        print("done")
        """
    )
    assert done.stdout == "done\n"


def test_exit_waits_for_running_and_queued_work(python: Any) -> None:
    done = python(
        """
        import time
        from verdigris.worlds._pool import ThreadPool
        pool = ThreadPool(max_workers=1)
        pool.submit(time.sleep, 0.3)
        pool.submit(print, "of a pool")
        dropped = ThreadPool(max_workers=1)
        dropped.submit(time.sleep, 0.2)
        dropped.start(lambda: print("of a dropped pool"))
        del dropped
        idle = ThreadPool(idle_seconds=3600)
        idle.submit(print, "idle").result()
        """
    )
    assert sorted(done.stdout.splitlines()) == ["idle", "of a dropped pool", "of a pool"]
    assert done.stderr == ""


@pytest.mark.skipif(
    sys.version_info[:2] == (3, 12), reason="the interpreter starts no thread at its exit"
)
def test_exit_lets_the_pool_grow(python: Any) -> None:
    done = python(
        """
        import threading
        from verdigris.worlds._pool import ThreadPool
        barrier = threading.Barrier(100, action=lambda: print("all there"))
        pool = ThreadPool()
        for _ in range(100):
            pool.submit(barrier.wait)
        """
    )
    assert (done.stdout, done.stderr) == ("all there\n", "")


def test_no_call_while_the_interpreter_exits(python: Any) -> None:
    done = python(
        """
        import atexit, threading, time
        from verdigris.worlds import _crew
        from verdigris.worlds._pool import ThreadPool, default_pool
        pool = ThreadPool()
        def late(when):
            for submits in (pool, default_pool(), ThreadPool()):
                try:
                    submits.submit(print, "never")
                except RuntimeError as error:
                    print(when, error)
        def work():
            while not _crew._exits:
                time.sleep(0.01)
            time.sleep(0.1)
            late("work:")
        pool.submit(work)
        atexit.register(late, "atexit:")
        """
    )
    lines = done.stdout.splitlines()
    assert [line.partition(":")[0] for line in lines] == ["work"] * 3 + ["atexit"] * 3
    assert all("the interpreter exits" in line for line in lines), lines
    assert done.stderr == ""


def test_an_interrupt_at_exit_does_not_wait_on(python: Any) -> None:
    done = python(
        """
        import os, signal, threading, time
        from verdigris.worlds import _crew
        from verdigris.worlds._pool import ThreadPool
        def work():
            while not _crew._exits:
                time.sleep(0.01)
            time.sleep(0.1)
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(1000)
        ThreadPool().submit(work)
        """,
        check=False,
    )
    assert "KeyboardInterrupt" in done.stderr and "Fatal" not in done.stderr
