"""`concurrent.futures`: pools whose workers are green threads, or OS threads."""

from __future__ import annotations

import asyncio
import concurrent.futures as stdlib
import threading as stdlib_threading
from collections.abc import Callable
from typing import Any

import pytest

from verdigris import async_def, await_, spawn
from verdigris.green import _wait
from verdigris.green import threading as green_threading
from verdigris.green.concurrent import futures as green_futures

futures: Any = green_futures
threading: Any = green_threading
os_thread = stdlib_threading.get_ident


def green(loop: Any, function: Callable[..., Any], *args: Any) -> Any:
    return loop.run(async_def, function, *args)


def work(number: int) -> tuple[int, bool]:
    _wait.sleep(0.002)
    return number, os_thread() == HOME


HOME = os_thread()


@pytest.fixture
def logged(caplog: pytest.LogCaptureFixture) -> Any:
    yield
    assert not caplog.records, "a pool logged something"


pytestmark = pytest.mark.usefixtures("logged")


# --- where calls run ---------------------------------------------------------


def test_green_code_gets_green_workers(loop: Any) -> None:
    def main() -> None:
        with futures.ThreadPoolExecutor(3, thread_name_prefix="pool") as pool:
            assert list(pool.map(work, range(7))) == [(n, True) for n in range(7)]
            name = pool.submit(lambda: threading.current_thread().name).result()
            assert name.startswith("pool_")

    green(loop, main)


def test_everybody_else_gets_os_threads(loop: Any) -> None:
    def main() -> list[Any]:
        with futures.ThreadPoolExecutor(3) as pool:
            return list(pool.map(work, range(7)))

    async def plain() -> list[Any]:
        return main()

    assert main() == loop.run(plain) == [(n, False) for n in range(7)]


def test_one_pool_for_functions_threads_and_loops(loop: Any) -> None:
    pool = futures.ThreadPoolExecutor(2)

    def calls() -> list[Any]:
        return [pool.submit(work, n).result(timeout=20)[1] for n in range(3)]

    async def main() -> None:
        assert await async_def(calls) == [True] * 3
        # A plain coroutine blocks the loop, so a worker of the loop could not serve it.
        assert calls() == [False] * 3

    for _ in range(2):
        loop.run(main)
        assert calls() == [False] * 3
    pool.shutdown()


def test_max_workers(loop: Any) -> None:
    inside = most = 0

    def counts() -> None:
        nonlocal inside, most
        inside += 1
        most = max(most, inside)
        _wait.sleep(0.002)
        inside -= 1

    def main() -> None:
        with futures.ThreadPoolExecutor(3) as pool:
            for _ in range(9):
                pool.submit(counts)

    green(loop, main)
    assert most == 3


def test_several_functions_submit_to_one_pool(loop: Any) -> None:
    def main() -> None:
        with futures.ThreadPoolExecutor(4) as pool:

            def submits() -> int:
                return len([future.result() for future in [pool.submit(work, n) for n in range(5)]])

            assert [task.join() for task in [spawn(submits) for _ in range(4)]] == [5] * 4

    green(loop, main)


def test_a_call_may_submit(loop: Any) -> None:
    def main() -> None:
        with futures.ThreadPoolExecutor(2) as pool:
            outer = pool.submit(lambda: pool.submit(work, 1).result(timeout=20))
            assert outer.result(timeout=20) == (1, True)

    green(loop, main)


# --- futures -----------------------------------------------------------------


def test_classes_are_the_stdlibs_too(loop: Any) -> None:
    assert set(stdlib.__all__) <= set(dir(green_futures))
    assert issubclass(futures.Future, stdlib.Future)
    assert issubclass(futures.ThreadPoolExecutor, stdlib.ThreadPoolExecutor)
    assert issubclass(futures.ThreadPoolExecutor, futures.Executor)
    assert futures.ProcessPoolExecutor is stdlib.ProcessPoolExecutor
    assert futures.CancelledError is stdlib.CancelledError


def test_result_and_exception(loop: Any) -> None:
    def main() -> None:
        with futures.ThreadPoolExecutor(1) as pool:
            future = pool.submit(lambda: 1 / 0)
            assert isinstance(future.exception(), ZeroDivisionError)
            with pytest.raises(ZeroDivisionError):
                future.result()
            runs, go_on = threading.Event(), threading.Event()
            slow = pool.submit(lambda: (runs.set(), go_on.wait()))
            waiting = pool.submit(work, 1)
            runs.wait()
            with pytest.raises(TimeoutError):
                slow.result(timeout=0.001)
            assert slow.running() and not slow.cancel()
            assert waiting.cancel() and waiting.cancelled()
            with pytest.raises(stdlib.CancelledError):
                waiting.result()
            go_on.set()

    green(loop, main)


def test_wait_and_as_completed(loop: Any) -> None:
    def main() -> None:
        with futures.ThreadPoolExecutor(3) as pool:
            events = [threading.Event() for _ in range(3)]
            started = [pool.submit(event.wait) for event in events]
            done, rest = futures.wait(started, timeout=0.001)
            assert not done and len(rest) == 3
            completed = futures.as_completed(started)
            for number in (2, 0):
                events[number].set()
                assert next(completed) is started[number]
            done, rest = futures.wait(started, return_when=futures.FIRST_COMPLETED)
            assert rest == {started[1]}
            with pytest.raises(TimeoutError):
                list(futures.as_completed(started, timeout=0.001))
            events[1].set()
            assert list(completed) == [started[1]]

    green(loop, main)


def test_waiting_for_a_future_of_an_os_thread(loop: Any) -> None:
    async def main() -> None:
        pool = futures.ThreadPoolExecutor(1)
        go_on = stdlib_threading.Event()
        future = pool.submit(go_on.wait)
        async with loop.tasks() as start:
            task = start(async_def, future.result)
            for _ in range(10):
                await loop.sleep(0.001)
            assert not task.ended.is_set()
            go_on.set()
        assert task.outcome.value is True
        pool.shutdown()

    loop.run(main)


def test_asyncio_takes_pool_and_future(aio: Any) -> None:
    pool = futures.ThreadPoolExecutor(1)

    async def wrapped(future: Any) -> Any:
        return await asyncio.wrap_future(future)

    async def main() -> None:
        assert await async_def(lambda: await_(wrapped(pool.submit(work, 1)))) == (1, True)
        running = asyncio.get_running_loop()
        assert await running.run_in_executor(pool, work, 2) == (2, False)
        running.set_default_executor(pool)
        assert await asyncio.to_thread(work, 3) == (3, False)

    aio.run(main)


# --- starting and ending -----------------------------------------------------


def test_initializer(loop: Any) -> None:
    local = threading.local()

    def main() -> None:
        with futures.ThreadPoolExecutor(2, initializer=setattr, initargs=(local, "x", 1)) as pool:
            assert [pool.submit(lambda: local.x).result() for _ in range(4)] == [1] * 4

    green(loop, main)


def test_a_failing_initializer_breaks_the_pool(loop: Any, caplog: pytest.LogCaptureFixture) -> None:
    def main() -> None:
        with futures.ThreadPoolExecutor(1, initializer=lambda: 1 / 0) as pool:
            with pytest.raises(stdlib.BrokenExecutor):
                pool.submit(work, 1).result(timeout=20)
            with pytest.raises(stdlib.BrokenExecutor):
                pool.submit(work, 1)
        assert "Exception in initializer" in caplog.text
        caplog.clear()

    green(loop, main)


def test_shutdown(loop: Any) -> None:
    def main() -> None:
        pool = futures.ThreadPoolExecutor(1)
        event = threading.Event()
        running, waiting = pool.submit(event.wait), pool.submit(work, 2)
        pool.shutdown(wait=False, cancel_futures=True)
        assert waiting.cancelled() and not running.done()
        event.set()
        pool.shutdown(wait=True)
        assert running.done()
        for _ in range(2):
            with pytest.raises(RuntimeError, match="after shutdown"):
                pool.submit(work, 3)

    before = set(stdlib_threading.enumerate())
    green(loop, main)
    started = set(stdlib_threading.enumerate()) - before
    assert not [thread for thread in started if "ThreadPool" in thread.name]


def test_a_pool_that_is_dropped_ends_its_workers(loop: Any) -> None:
    async def main() -> None:
        def submits() -> Any:
            pool = futures.ThreadPoolExecutor(2, thread_name_prefix="Left")
            return pool.submit(work, 1).result()

        await async_def(submits)
        for _ in range(200):
            if not any(t.name.startswith("Left") for t in stdlib_threading.enumerate()):
                return
            await loop.sleep(0.01)
        pytest.fail("a worker outlived its pool")

    loop.run(main)


def test_the_end_of_the_run_ends_workers_and_calls(loop: Any, capfd: Any) -> None:
    pool = futures.ThreadPoolExecutor(1)
    submitted: list[Any] = []

    def main() -> None:
        submitted.extend([pool.submit(_wait.sleep, 3600), pool.submit(work, 1)])
        _wait.sleep(0.001)

    green(loop, main)
    running, waiting = submitted
    assert isinstance(running.exception(timeout=5), stdlib.CancelledError)
    assert waiting.cancelled()
    assert green(loop, lambda: pool.submit(work, 1).result(timeout=20)) == (1, True)
    pool.shutdown()
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("end", ["asyncio.run(main())", "loop = asyncio.new_event_loop(); "
    "loop.run_until_complete(main()); loop.close()"])  # fmt: skip
@pytest.mark.parametrize("task", ["work", "idle"])
def test_the_interpreter_ends_with_workers_left(python: Any, end: str, task: str) -> None:
    done = python(
        f"""
        import asyncio
        from verdigris import async_def
        from verdigris.green import _wait
        from verdigris.green.concurrent import futures
        pool = futures.ThreadPoolExecutor(2)
        def submits():
            pool.submit(_wait.sleep, 3600 if {task!r} == "work" else 0)
            _wait.sleep(0.01)
        async def main():
            await async_def(submits)
        {end}
        """,
        options=("-W", "error"),
    )
    assert (done.stdout, done.stderr) == ("", "")


@pytest.mark.parametrize("name", ["asyncio", "trio"])
def test_patched_in_place(python: Any, name: str) -> None:
    done = python(
        f"""
        import asyncio, concurrent.futures, concurrent.futures.thread, queue, threading
        import _thread
        from verdigris import async_def, loops
        from verdigris.green import _thread as g1, _twin, _wait, queue as g3, threading as g2
        from verdigris.green.concurrent.futures import thread as g4
        before = concurrent.futures.ThreadPoolExecutor(2)

        def work(number):
            _wait.sleep(0.001)
            return number, threading.get_native_id() == native

        native = threading.get_native_id()

        def main():
            loops.current()
            _twin.patch(_thread, g1.REPLACED)
            _twin.patch(threading, g2.REPLACED, g2.METHODS)
            _twin.patch(queue, g3.REPLACED)
            _twin.patch(concurrent.futures.thread, g4.REPLACED, g4.METHODS)
            after = concurrent.futures.ThreadPoolExecutor(2)
            for pool in (before, after):
                print(list(pool.map(work, range(3))))
            after.shutdown()

        async def run():
            await async_def(main)
        if "{name}" == "trio":
            import trio
            trio.run(run)
        else:
            asyncio.run(run())
        print(before.submit(work, 1).result())
        """,
        options=("-W", "error"),
    )
    line = "[(0, True), (1, True), (2, True)]\n"
    assert (done.stdout, done.stderr) == (2 * line + "(1, False)\n", "")
