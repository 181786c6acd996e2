"""`Parallel`: calls made together, their order, their errors, and how they are stopped."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextvars
import copy
import gc
import pickle
import sys
import threading
import traceback
import types
from collections.abc import Callable
from typing import Any

import pytest
from conftest import AsyncioLoop, Loop, TrioLoop

from verdigris import (
    CallCancelled,
    CallsFailed,
    CallsTimedOut,
    Parallel,
    async_def,
    await_,
    block,
    ensure_portal,
    queue_background_thread,
    spawn,
    to_async,
)
from verdigris.worlds import _pool


class Broken(Exception):
    pass


class Stop(BaseException):
    """About more than a call."""


def breaks(*args: object) -> None:
    raise Broken(*args)


async def breaks_async(*args: object) -> None:
    raise Broken(*args)


def notes(error: BaseException) -> list[str]:
    return list(error.__notes__)


async def run(loop: Loop, parallel: Parallel) -> list[Any]:
    return await parallel.run()


# --- results -----------------------------------------------------------------


def test_the_order_is_that_of_schedule(any_loop: Loop) -> None:
    second_ran = threading.Event()

    async def main() -> list[Any]:
        third_ran = any_loop.event()

        async def first() -> int:
            await third_ran.wait()
            return 1

        async def third() -> int:
            third_ran.set()
            return 3

        parallel = (
            Parallel()
            .schedule(first)
            .schedule(second_ran.wait, 30)
            .schedule(third)
            .schedule(lambda: second_ran.set() or 4)
            .schedule(lambda: third())
        )
        assert len(parallel) == 5
        results = await parallel.run()
        assert await parallel.run() == results  # it runs again
        return results

    assert any_loop.run(main) == [1, True, 3, 4, 3]


def test_nothing_to_do(any_loop: Loop) -> None:
    assert any_loop.run(Parallel().run) == []
    assert Parallel(timeout=1, limit=1, progress=lambda *_: None).block() == []
    assert list(Parallel().as_completed()) == []


def test_runs_on_one_loop_after_another(any_loop: Loop) -> None:
    parallel = Parallel().schedule(pow, 2, 5).schedule(lambda: any_loop.sleep(0))
    first = any_loop.run(parallel.run)
    assert first[0] == any_loop.run(parallel.run)[0] == 32
    assert Parallel().schedule(pow, 2, 5).block() == [32]


def test_calls_that_schedule_more() -> None:
    """They are of the next run: what runs is what was scheduled when it began."""
    parallel = Parallel()
    parallel.schedule(lambda: parallel.schedule(pow, 2, 3) and 1)
    assert parallel.block() == [1]
    parallel._calls = parallel._calls[1:]
    assert parallel.block() == [8]


def test_it_runs_twice_at_once(any_loop: Loop) -> None:
    everyone = threading.Barrier(4)
    parallel = Parallel().schedule(everyone.wait, 30).schedule(everyone.wait, 30)

    async def main() -> int:
        async with any_loop.tasks() as start:
            both = [start(parallel.run) for _ in range(2)]
            return sum([sum((await one.wait()).value) for one in both])

    assert any_loop.run(main) == 0 + 1 + 2 + 3


def test_many(any_loop: Loop) -> None:
    parallel = Parallel()
    for number in range(5_000):
        parallel.schedule(abs, -number)
    for number in range(5_000, 10_000):
        parallel.schedule(async_number, number)
    assert any_loop.run(parallel.run) == list(range(10_000))


async def async_number(number: int) -> int:
    return number


def test_context_variables(any_loop: Loop) -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable")

    async def change() -> str:
        seen = variable.get()
        variable.set("changed")
        return seen

    def change_blocking() -> str:
        seen = variable.get()
        variable.set("changed")
        return seen

    parallel = Parallel(limit=1)
    for _ in range(2):
        parallel.schedule(change).schedule(change_blocking)

    async def main() -> list[str]:
        variable.set("given")
        results: list[str] = await parallel.run()
        return [*results, variable.get()]

    assert any_loop.run(main) == ["given"] * 5


@pytest.mark.parametrize("limit", [1, 3])
def test_never_more_at_once_than_the_limit(any_loop: Loop, limit: int) -> None:
    lock, now, most = threading.Lock(), 0, 0

    def begin() -> None:
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)

    def end() -> None:
        nonlocal now
        with lock:
            now -= 1

    async def on_loop() -> None:
        begin()
        await any_loop.sleep(0.001)
        end()

    def on_thread() -> None:
        begin()
        threading.Event().wait(0.001)
        end()

    def wraps() -> Any:
        begin()
        end()
        return on_loop()

    parallel = Parallel(limit=limit)
    for _ in range(10):
        parallel.schedule(on_loop).schedule(on_thread).schedule(wraps)
    any_loop.run(parallel.run)
    assert most == limit and now == 0


def test_green(any_loop: Loop) -> None:
    def waits(number: int) -> tuple[int, int]:
        await_(any_loop.sleep(0.001))
        return number, threading.get_ident()

    parallel = Parallel(where="green").schedule(waits, 1).schedule(waits, 2)
    here = threading.get_ident()
    assert any_loop.run(parallel.run) == [(1, here), (2, here)]


@pytest.mark.parametrize(
    "arguments", [{"limit": 0}, {"limit": -1}, {"where": "process"}, {"where": ""}]
)
def test_bad_values(arguments: Any) -> None:
    with pytest.raises(ValueError, match="must be"):
        Parallel(**arguments)


def test_bad_calls() -> None:
    with concurrent.futures.ThreadPoolExecutor(1) as executor, pytest.raises(TypeError):
        Parallel(executor=executor, where="green")
    with pytest.raises(TypeError, match="Pass the function itself"):
        Parallel().schedule(3)
    coroutine = async_number(1)
    with pytest.raises(TypeError, match="without any"):
        Parallel().schedule(coroutine, 2)
    coroutine.close()
    with pytest.raises(TypeError, match="Pass the function itself"):
        Parallel().schedule(None)


# --- what is awaited as it is ------------------------------------------------


def test_awaitables(any_loop: Loop) -> None:
    class Gives:
        def __await__(self) -> Any:
            return async_number(2).__await__()

    done: concurrent.futures.Future[int] = concurrent.futures.Future()
    done.set_result(3)

    async def main() -> list[Any]:
        parallel = (
            Parallel()
            .schedule(async_number(1))
            .schedule(Gives())
            .schedule(done)
            .schedule(queue_background_thread(abs, -4))
            .schedule(async_def(lambda: 5))
        )
        if any_loop.name != "curio":
            parallel.schedule(spawn(lambda: 6))
        return await parallel.run()

    assert any_loop.run(main)[:5] == [1, 2, 3, 4, 5]


def test_futures_of_asyncio(aio: AsyncioLoop) -> None:
    async def main() -> list[Any]:
        future = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_soon(future.set_result, 1)
        task = asyncio.create_task(async_number(2))
        parallel = Parallel().schedule(future).schedule(task)
        return await parallel.run() + await parallel.run()

    assert aio.run(main) == [1, 2, 1, 2]


def test_a_coroutine_twice(any_loop: Loop) -> None:
    coroutine = async_number(1)
    parallel = Parallel().schedule(coroutine)

    async def main() -> None:
        assert await parallel.run() == [1]
        with pytest.raises(CallsFailed) as caught:
            await parallel.run()
        (error,) = caught.value.exceptions
        assert "already awaited coroutine" in str(error)
        assert notes(error) == ["in call 1 of 1: <coroutine async_number>"]

    any_loop.run(main)


def test_a_future_that_was_cancelled(any_loop: Loop) -> None:
    future: concurrent.futures.Future[int] = concurrent.futures.Future()
    future.cancel()
    (error,) = any_loop.run(Parallel(return_exceptions=True).schedule(future).run)
    assert isinstance(error, CallCancelled)


# --- errors ------------------------------------------------------------------


def test_all_errors_in_one_group_that_names_the_calls(any_loop: Loop) -> None:
    parallel = (
        Parallel()
        .schedule(breaks, "one", [1, 2])
        .schedule(pow, 2, 5)
        .schedule(breaks_async, "three")
        .schedule(divmod, 1, 0)
    )

    async def main() -> CallsFailed:
        with pytest.raises(CallsFailed, match="3 of 4 calls failed") as caught:
            await parallel.run()
        return caught.value

    failed = any_loop.run(main)
    first, third, fourth = failed.exceptions
    assert notes(first) == ["in call 1 of 4: breaks('one', [1, 2])"]
    assert notes(third) == ["in call 3 of 4: breaks_async('three')"]
    assert notes(fourth) == ["in call 4 of 4: divmod(1, 0)"]
    assert failed.results == [first, 32, third, fourth]
    # Each traceback begins where the call does.
    for error, name in ((first, "breaks"), (third, "breaks_async")):
        assert [frame.name for frame in traceback.extract_tb(error.__traceback__)] == [name]
    text = "".join(traceback.format_exception(failed))
    assert "in call 3 of 4: breaks_async('three')" in text


def test_except_star_and_splitting() -> None:
    parallel = Parallel().schedule(breaks).schedule(divmod, 1, 0).schedule(pow, 2, 5)
    seen = []
    try:
        parallel.block()
    except* Broken as group:
        assert isinstance(group, CallsFailed)
        seen.append((len(group.exceptions), group.results[2]))
    except* ZeroDivisionError as group:
        seen.append((len(group.exceptions), group.results[2]))  # type: ignore[attr-defined]
    assert seen == [(1, 32), (1, 32)]
    with pytest.raises(CallsFailed) as caught:
        parallel.block()
    matched, rest = caught.value.split(Broken)
    assert isinstance(matched, CallsFailed) and isinstance(rest, CallsFailed)
    assert caught.value.subgroup(KeyError) is None


def test_the_errors_can_be_copied_and_pickled() -> None:
    with pytest.raises(CallsFailed) as caught:
        Parallel().schedule(divmod, 1, 0).schedule(pow, 2, 5).block()
    late = CallsTimedOut("late", [1])
    for clone in (copy.copy, lambda one: pickle.loads(pickle.dumps(one))):
        failed: Any = clone(caught.value)
        assert failed.results[1] == 32 and "in call 1" in notes(failed.exceptions[0])[0]
        assert clone(late).results == [1]


def test_exceptions_among_the_results(any_loop: Loop) -> None:
    parallel = Parallel(return_exceptions=True).schedule(breaks, 1).schedule(pow, 2, 5)
    first, second = any_loop.run(parallel.run)
    assert isinstance(first, Broken) and second == 32


def test_one_error_object_of_two_calls(any_loop: Loop) -> None:
    error = Broken()

    def breaks_alike() -> None:
        raise error

    parallel = Parallel(return_exceptions=True).schedule(breaks_alike).schedule(breaks_alike)
    for _ in range(2):
        assert any_loop.run(parallel.run) == [error, error]
    assert sorted(notes(error)) == [
        f"in call {place} of 2: {breaks_alike.__qualname__}()" for place in (1, 2)
    ]


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit, Stop])
@pytest.mark.parametrize("how", ["thread", "async", "green"])
@pytest.mark.parametrize("limit", [None, 1])
def test_what_is_about_more_than_a_call(
    any_loop: Loop, kind: type[BaseException], how: str, limit: int | None
) -> None:
    """It is raised as it is, when all tasks have ended."""
    if how == "async" and kind is not Stop and any_loop.name == "curio":
        pytest.skip("curio's kernel ends")
    begun, ended = [], []

    def ends() -> None:
        raise kind("out")

    async def ends_async() -> None:
        raise kind("out")

    async def waits() -> None:
        begun.append(1)
        try:
            await any_loop.sleep(1000)
        finally:
            ended.append(1)

    parallel = Parallel(limit=limit, where="green" if how == "green" else "thread")
    if limit is None:
        parallel.schedule(waits)
    parallel.schedule(ends_async if how == "async" else ends).schedule(waits)

    async def main() -> None:
        try:
            await parallel.run()
        except kind as error:
            assert str(error) == "out"
        else:
            raise AssertionError
        assert ended == begun
        assert len(begun) <= (2 if limit is None else 1)

    any_loop.run(main)


def test_a_call_that_cancels_itself(aio: AsyncioLoop) -> None:
    async def cancels() -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await asyncio.sleep(0)

    async def main() -> None:
        with pytest.raises(CallsFailed) as caught:
            await Parallel().schedule(cancels).schedule(pow, 2, 5).run()
        (error,) = caught.value.exceptions
        assert isinstance(error, CallCancelled) and "cancels() was cancelled" in str(error)
        assert caught.value.results[1] == 32

    aio.run(main)


def test_cancellation_of_another_kind(any_loop: Loop) -> None:
    """asyncio's own, in whichever loop or thread: of that call only."""

    def cancelled() -> None:
        raise asyncio.CancelledError

    async def cancelled_async() -> None:
        raise asyncio.CancelledError

    parallel = Parallel(return_exceptions=True).schedule(cancelled).schedule(pow, 2, 5)
    if any_loop.name != "curio":
        parallel.schedule(cancelled_async)
    results = any_loop.run(parallel.run)
    assert results[1] == 32
    assert all(isinstance(error, CallCancelled) for error in results[::2])


def test_groups_of_trio_that_hold_its_cancellation(trio_loop: TrioLoop) -> None:
    trio = trio_loop.trio

    async def nursery() -> None:
        async with trio.open_nursery() as children:
            children.start_soon(trio.sleep_forever)
            await trio.lowlevel.checkpoint()
            raise Broken

    async def stubborn() -> None:
        try:
            await trio.sleep_forever()
        except trio.Cancelled as cancelled:
            raise BaseExceptionGroup("both", [cancelled, Broken()]) from None

    async def main() -> None:
        with pytest.raises(CallsFailed) as caught:
            await Parallel().schedule(nursery).run()
        assert isinstance(caught.value.exceptions[0], ExceptionGroup)
        with pytest.raises(CallsTimedOut):
            await Parallel(timeout=0.01).schedule(stubborn).run()

    trio_loop.run(main)


def test_no_error_is_reported_as_never_looked_at(
    any_loop: Loop, caplog: pytest.LogCaptureFixture
) -> None:
    parallel = Parallel(return_exceptions=True).schedule(breaks_async).schedule(breaks)
    any_loop.run(parallel.run)
    gc.collect()
    assert caplog.records == []


# --- time --------------------------------------------------------------------


def future_of(value: int) -> concurrent.futures.Future[int]:
    future: concurrent.futures.Future[int] = concurrent.futures.Future()
    future.set_result(value)
    return future


def test_the_time_is_over(any_loop: Loop) -> None:
    stop, ended = threading.Event(), []
    # One that has ended before the time can be over.
    done = future_of(32)

    async def waits() -> None:
        try:
            await any_loop.sleep(1000)
        finally:
            ended.append(1)

    parallel = Parallel(timeout=0.1).schedule(done).schedule(waits).schedule(stop.wait, 30)

    async def main() -> None:
        with pytest.raises(CallsTimedOut) as caught:
            await parallel.run()
        assert isinstance(caught.value, TimeoutError)
        text = str(caught.value)
        assert text.startswith("2 of 3 calls had not ended within 0.1 seconds: ")
        assert "waits()" in text and "wait(30)" in text
        first, second, third = caught.value.results
        assert first == 32
        assert isinstance(second, TimeoutError) and isinstance(third, TimeoutError)
        assert ended == [1]

    try:
        any_loop.run(main)
    finally:
        stop.set()


def test_the_time_is_over_and_errors_are_results(any_loop: Loop) -> None:
    async def waits() -> None:
        await any_loop.sleep(1000)

    parallel = (
        Parallel(timeout=0.05, return_exceptions=True).schedule(future_of(32)).schedule(waits)
    )
    first, second = any_loop.run(parallel.run)
    assert first == 32 and isinstance(second, TimeoutError) and "waits()" in str(second)


@pytest.mark.parametrize("seconds", [0, -1])
def test_no_time_at_all(any_loop: Loop, seconds: float) -> None:
    async def waits() -> None:
        await any_loop.sleep(1000)

    async def main() -> None:
        with pytest.raises(CallsTimedOut):
            await Parallel(timeout=seconds, limit=1).schedule(waits).schedule(waits).run()

    any_loop.run(main)


def test_a_call_that_times_out_by_itself(any_loop: Loop) -> None:
    def late() -> None:
        raise TimeoutError("mine")

    def tell(*_: object) -> None:
        raise TimeoutError("of the progress")

    async def main() -> None:
        with pytest.raises(CallsFailed):
            await Parallel(timeout=30).schedule(late).run()
        with pytest.raises(TimeoutError, match="of the progress") as caught:
            await Parallel(timeout=30, progress=tell).schedule(pow, 2, 5).run()
        assert not isinstance(caught.value, CallsTimedOut)

    any_loop.run(main)


def test_a_deadline_around_it(any_loop: Loop) -> None:
    ended = []

    async def waits() -> None:
        try:
            await any_loop.sleep(1000)
        finally:
            ended.append(1)

    async def main() -> None:
        with pytest.raises(any_loop.timed_out):
            async with any_loop.deadline(0.05):
                await Parallel(timeout=30).schedule(waits).run()
        assert ended == [1]

    any_loop.run(main)


# --- cancellation ------------------------------------------------------------


def test_cancelled_its_tasks_have_ended(any_loop: Loop) -> None:
    stop, ended, begun_on_thread = threading.Event(), [], threading.Event()

    async def waits(number: int) -> None:
        try:
            await any_loop.sleep(1000)
        finally:
            ended.append(number)

    def on_thread() -> None:
        begun_on_thread.set()
        stop.wait(30)

    parallel = Parallel().schedule(waits, 1).schedule(on_thread).schedule(waits, 2)

    async def main() -> None:
        seen = []

        async def runs() -> None:
            try:
                await parallel.run()
            finally:
                seen.append(sorted(ended))

        async with any_loop.tasks() as start:
            task = start(runs)
            while not begun_on_thread.is_set():
                await any_loop.sleep(0.001)
            task.cancel()
            assert (await task.wait()).cancelled
            assert seen == [[1, 2]] and not stop.is_set()
            stop.set()

    any_loop.run(main)


def test_cancelled_before_the_first_step(aio: AsyncioLoop) -> None:
    """asyncio never steps a task that was cancelled before its first step."""

    def tell(*_: object) -> None:
        raise Broken

    async def main() -> None:
        # The second call begins when the first has ended, and that is when this raises.
        parallel = Parallel(limit=1, progress=tell)
        parallel.schedule(pow, 2, 5).schedule(asyncio.sleep, 1000).schedule(async_number(1))
        with pytest.raises(Broken):
            async with asyncio.timeout(20):
                await parallel.run()
        parallel = Parallel(limit=1, progress=tell)
        parallel.schedule(pow, 2, 5).schedule(async_number(1))
        with pytest.raises(Broken):
            async with asyncio.timeout(20):
                await parallel.run()

    aio.run(main)


def test_a_task_that_takes_its_time_to_end(any_loop: Loop) -> None:
    """The cancellation comes twice meanwhile."""
    steps = []

    async def main() -> None:
        go = any_loop.event()

        async def slow() -> None:
            try:
                await any_loop.sleep(1000)
            finally:
                steps.append("cleans")
                if any_loop.name == "trio":
                    with any_loop.trio.CancelScope(shield=True):  # type: ignore[attr-defined]
                        await go.wait()
                else:
                    while not go.is_set():
                        try:
                            await go.wait()
                        except any_loop.cancelled:
                            steps.append("again")
                steps.append("clean")

        async def runs() -> None:
            try:
                await Parallel().schedule(slow).run()
            finally:
                steps.append("run ended")

        async with any_loop.tasks() as start:
            task = start(runs)
            for _ in range(20):
                await any_loop.sleep(0.001)
            task.cancel()
            while not steps:
                await any_loop.sleep(0.001)
            task.cancel()
            for _ in range(5):
                await any_loop.sleep(0.001)
            assert "run ended" not in steps
            go.set()
            assert (await task.wait()).cancelled

    any_loop.run(main)
    steps = [step for step in steps if step != "again"]
    assert steps == ["cleans", "clean", "run ended"]


def test_cancelled_queued_work_is_taken_back(any_loop: Loop) -> None:
    stop, begun, called = threading.Event(), threading.Event(), []

    def first() -> None:
        begun.set()
        stop.wait(30)

    async def main() -> None:
        with concurrent.futures.ThreadPoolExecutor(1) as executor:
            parallel = Parallel(executor=executor).schedule(first)
            for _ in range(5):
                parallel.schedule(called.append, 1)
            async with any_loop.tasks() as start:
                task = start(parallel.run)
                while not begun.is_set():
                    await any_loop.sleep(0.001)
                task.cancel()
                assert (await task.wait()).cancelled
            stop.set()

    any_loop.run(main)
    assert called == []


def test_coroutines_that_were_not_begun_are_closed(any_loop: Loop) -> None:
    async def main() -> None:
        parallel = Parallel(limit=1, timeout=0.01)
        parallel.schedule(lambda: any_loop.sleep(1000)).schedule(async_number(1))
        with pytest.raises(CallsTimedOut):
            await parallel.run()

    any_loop.run(main)
    gc.collect()  # a warning would fail this


def test_a_task_that_swallows_its_cancellation(any_loop: Loop) -> None:
    async def swallows() -> str:
        try:
            await any_loop.sleep(1000)
        except any_loop.cancelled:
            if any_loop.name == "trio":
                raise
        return "went on"

    async def main() -> None:
        with pytest.raises(CallsTimedOut):
            await Parallel(timeout=0.01).schedule(swallows).run()

    any_loop.run(main)


def test_green_calls_are_cancelled(any_loop: Loop) -> None:
    ended = []

    def waits() -> None:
        try:
            await_(any_loop.sleep(1000))
        finally:
            ended.append(1)

    async def main() -> None:
        with pytest.raises(CallsTimedOut):
            await Parallel(timeout=0.02, where="green").schedule(waits).schedule(waits).run()
        assert ended == [1, 1]

    any_loop.run(main)


# --- block -------------------------------------------------------------------


def test_block_everywhere(any_loop: Loop) -> None:
    async def on_loop() -> int:
        await any_loop.sleep(0)
        return threading.get_ident()

    parallel = Parallel().schedule(on_loop).schedule(pow, 2, 5)

    async def main() -> list[Any]:
        bare = parallel.block()
        green = await async_def(parallel.block)
        await ensure_portal()
        return [bare, green, parallel.block(), await to_async(parallel.block)()]

    bare, green, portal, thread = any_loop.run(main)
    here = threading.get_ident()
    assert bare[0] != here and green[0] == portal[0] == here
    assert [one[1] for one in (bare, green, portal, thread)] == [32] * 4


def test_block_in_plain_threads() -> None:
    parallel = Parallel().schedule(asyncio.sleep, 0, "async").schedule(pow, 2, 5)
    assert parallel.block() == ["async", 32]
    assert queue_background_thread(parallel.block).result(30) == ["async", 32]


@pytest.mark.parametrize("how", ["block", "run"])
def test_nested(any_loop: Loop, how: str) -> None:
    def below(depth: int) -> int:
        if not depth:
            return 1
        return sum(Parallel().schedule(below, depth - 1).schedule(below, depth - 1).block())

    async def below_async(depth: int) -> int:
        if not depth:
            return 1
        calls = Parallel().schedule(below_async, depth - 1).schedule(below_async, depth - 1)
        return sum(await calls.run())

    top = below if how == "block" else below_async
    assert any_loop.run(Parallel().schedule(top, 4).run) == [16]


# --- progress ----------------------------------------------------------------


def test_progress_is_told(any_loop: Loop) -> None:
    told: list[tuple[int, int, int]] = []

    def tell(ended: int, total: int) -> None:
        told.append((ended, total, threading.get_ident()))

    parallel = Parallel(progress=tell, return_exceptions=True, limit=2)
    for _ in range(5):
        parallel.schedule(pow, 2, 5).schedule(breaks)
    any_loop.run(parallel.run)
    assert told == [(ended, 10, threading.get_ident()) for ended in range(1, 11)]
    told.clear()
    list(parallel.as_completed())
    assert [one[:2] for one in told] == [(ended, 10) for ended in range(1, 11)]


class Bar:
    """Stands for tqdm's."""

    made: list[Bar] = []  # noqa: RUF012

    def __init__(self, total: int) -> None:
        self.total, self.n, self.closed = total, 0, False
        self.made.append(self)

    def __enter__(self) -> Bar:
        return self

    def __exit__(self, *_: object) -> None:
        self.closed = True

    def update(self, more: int) -> None:
        self.n += more


@pytest.mark.parametrize("way", ["run", "as_completed", "left early"])
def test_progress_as_a_bar(monkeypatch: pytest.MonkeyPatch, way: str) -> None:
    module: Any = types.ModuleType("tqdm")
    module.tqdm = Bar
    monkeypatch.setitem(sys.modules, "tqdm", module)
    Bar.made.clear()
    parallel = Parallel(progress=True).schedule(pow, 2, 5).schedule(pow, 2, 6)
    if way == "run":
        parallel.block()
    elif way == "as_completed":
        list(parallel.as_completed())
    else:
        with parallel.as_completed() as results:
            next(results)
    (bar,) = Bar.made
    assert (bar.total, bar.n, bar.closed) == (2, 1 if way == "left early" else 2, True)


def test_progress_as_a_real_bar(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("tqdm")
    Parallel(progress=True).schedule(pow, 2, 5).schedule(pow, 2, 6).block()
    assert "2/2" in capsys.readouterr().err


def test_progress_without_tqdm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tqdm", None)
    with pytest.raises(ImportError, match="pip install tqdm"):
        Parallel(progress=True).schedule(pow, 2, 5).block()
    with pytest.raises(ImportError, match="pip install tqdm"):
        list(Parallel(progress=True).schedule(pow, 2, 5).as_completed())


# --- references --------------------------------------------------------------


def test_what_was_made_is_let_go_of(any_loop: Loop) -> None:
    import weakref

    class Thing:
        pass

    async def main() -> list[weakref.ref[Any]]:
        async def makes(thing: Thing) -> Thing:
            return Thing()

        first, second = Thing(), Thing()
        results = await Parallel().schedule(makes, first).schedule(copy.copy, second).run()
        return [weakref.ref(one) for one in (first, second, *results)]

    gc.disable()
    try:
        references = any_loop.run(main)
        for _ in range(3_000):
            if not any(reference() for reference in references):
                break
            threading.Event().wait(0.001)
        assert [reference() for reference in references] == [None] * 4
    finally:
        gc.enable()


def in_pool(function: Callable[..., Any]) -> Any:
    return queue_background_thread(function).result(30)


def test_from_threads_of_the_pool() -> None:
    assert in_pool(lambda: block(Parallel().schedule(in_pool, lambda: 1).run)) == [1]


def test_calls_that_wait_for_calls_never_fill_the_pool(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that waits in `block` does not count to the limit: here there is but one."""
    monkeypatch.setattr(_pool, "_default", _pool.ThreadPool(max_workers=1))

    def below(depth: int) -> int:
        if not depth:
            return 1
        calls = Parallel().schedule(below, depth - 1).schedule(below, depth - 1)
        return sum(calls.block())

    assert Parallel().schedule(below, 4).block() == [16]
