"""What ends in the middle: workers, executors, runs, loops. Results that are there are kept."""

from __future__ import annotations

import asyncio
import concurrent.futures
import os
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import BrokenExecutor, Executor
from pathlib import Path
from typing import Any

import pytest

from executors import calls, kinds
from verdigris import CallCancelled, CallsFailed, CallsTimedOut, Parallel, Serial, to_async

pytestmark = [kinds.forks, pytest.mark.usefixtures("quiet")]

# No forks: with the threads of these tests they deadlock now and then, as the interpreter warns.
NEW = ["threads", "spawn", "forkserver", "interpreters", "loky"]
BREAKABLE = ["spawn", "forkserver", "loky"]


@pytest.fixture
def quiet(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("CRITICAL", "distributed")


class Marks:
    """Files by which a call elsewhere and the test tell each other how far they are."""

    def __init__(self, directory: Path) -> None:
        self.begun = str(directory / "begun")
        self.go_on = str(directory / "go-on")

    def release(self) -> None:
        Path(self.go_on).touch()

    def how_many(self) -> int:
        return len(Path(self.begun).read_text().split()) if Path(self.begun).exists() else 0

    async def reached(self, loop: Any, number: int) -> None:
        while self.how_many() < number:
            await loop.sleep(0.005)


@pytest.fixture
def marks(tmp_path: Path) -> Iterator[Marks]:
    marks = Marks(tmp_path)
    yield marks
    marks.release()


# --- a worker dies -----------------------------------------------------------


@pytest.mark.parametrize("kind", BREAKABLE)
def test_a_worker_that_dies_leaves_what_was_done(
    loop: Any, kind: str, new: Callable[[str], Executor], marks: Marks
) -> None:
    executor = new(kind)

    async def main() -> None:
        several = Parallel(executor=executor)
        for number in range(4):
            several.schedule(calls.square, number)
        several.schedule(calls.dies_when, marks.go_on)
        several.schedule(calls.says_so_and_waits_for, marks.begun, "/nowhere", "under way")
        several.schedule(calls.square, 9)
        done = 0
        lost = []
        async for one in several.as_completed():
            if one.exception() is None:
                assert one.result() == one.index**2
                done += 1
            else:
                lost.append(one)
            if done == 4:
                marks.release()
        assert [one.index for one in sorted(lost, key=lambda one: one.index)] == [4, 5, 6]
        for one in lost:
            error = one.exception()
            assert isinstance(error, BrokenExecutor)
            # Of this call alone, though the pool gives all of them the same.
            assert error.__notes__ == [
                f"the call {one.call} was lost with it; it may have been made, or in part",
                f"in call {one.index + 1} of 7: {one.call}",
            ]

    loop.run(main)


@pytest.mark.parametrize("kind", BREAKABLE)
def test_an_error_for_each_call_that_was_lost(
    loop: Any, kind: str, new: Callable[[str], Executor], tmp_path: Path
) -> None:
    executor = new(kind)

    async def main() -> None:
        async def dies_at_last() -> None:
            while not (tmp_path / "first").exists():
                await loop.sleep(0.005)
            await to_async(calls.dies, executor=executor)()

        several = Parallel(executor=executor)
        several.schedule(calls.leaves_mark, str(tmp_path / "first"), "kept")
        several.schedule(calls.sleep, 50)
        several.schedule(dies_at_last)
        with pytest.raises(CallsFailed) as caught:
            await several.run()
        assert caught.value.results[0] == "kept"
        first, second = caught.value.exceptions
        assert isinstance(first, BrokenExecutor) and isinstance(second, BrokenExecutor)
        assert first is not second
        assert first.__notes__[-1] == "in call 2 of 3: sleep(50)"
        assert "the call dies() was lost with it" in second.__notes__[0]

    loop.run(main)


@pytest.mark.parametrize("kind", BREAKABLE)
def test_a_pool_that_is_broken_refuses_each_call_by_name(
    kind: str, new: Callable[[str], Executor]
) -> None:
    executor = new(kind)
    broken = Parallel(executor=executor, return_exceptions=True).schedule(calls.dies)
    assert isinstance(broken.block()[0], BrokenExecutor)
    several = Parallel(executor=executor, return_exceptions=True)
    several.schedule(calls.square, 1).schedule(calls.square, 2)
    for number, error in enumerate(several.block(), 1):
        assert isinstance(error, BrokenExecutor)
        notes = [note for note in error.__notes__ if "square" in note]
        assert all(f"square({number})" in note for note in notes) and notes
    with pytest.raises(BrokenExecutor) as caught:
        Serial(executor=executor).schedule(calls.square, 3).block()
    assert "in call 1 of 1: square(3)" in caught.value.__notes__


def test_to_async_names_the_call_that_was_lost(loop: Any, new: Callable[[str], Executor]) -> None:
    executor = new("spawn")

    async def main() -> None:
        with pytest.raises(BrokenExecutor) as caught:
            await to_async(calls.dies, executor=executor)("now")
        assert "the call dies('now') was lost" in caught.value.__notes__[0]
        assert caught.value.__cause__ is not None or caught.value.__context__ is None

    loop.run(main)


def test_a_dask_worker_that_dies_is_replaced_by_another(
    loop: Any, new_dask_client: Any, tmp_path: Path
) -> None:
    async def main() -> None:
        several = Parallel(executor=new_dask_client.get_executor())
        several.schedule(calls.dies_once, str(tmp_path / "died"), "made again")
        for number in range(6):
            several.schedule(calls.square, number)
        assert await several.run() == ["made again", *(n * n for n in range(6))]

    loop.run(main)
    assert len(new_dask_client.scheduler_info()["workers"]) == 2


def test_a_call_that_kills_dask_workers_is_given_up(loop: Any, new_dask_client: Any) -> None:
    executor = new_dask_client.get_executor()

    async def main() -> None:
        several = Parallel(executor=executor)
        for number in range(3):
            several.schedule(calls.square, number)
        several.schedule(calls.dies)
        with pytest.raises(CallsFailed) as caught:
            await several.run()
        assert caught.value.results[:3] == [0, 1, 4]
        (error,) = caught.value.exceptions
        assert type(error).__name__ == "KilledWorker"
        assert error.__notes__ == ["in the call dies()", "in call 4 of 4: dies()"]
        assert await to_async(calls.square, executor=executor)(5) == 25

    loop.run(main)


# --- an executor ends --------------------------------------------------------


@pytest.mark.parametrize("kind", kinds.ALL)
def test_an_executor_that_was_shut_down(kind: str, new: Callable[[str], Executor]) -> None:
    executor = new(kind)
    executor.shutdown()
    several = Parallel(executor=executor, return_exceptions=True)
    several.schedule(calls.square, 1).schedule(calls.square, 2).schedule(asyncio.sleep, 0, "here")
    first, second, here = several.block()
    assert here == "here"
    for number, error in [(1, first), (2, second)]:
        assert isinstance(error, RuntimeError) and "shutdown" in str(error)
        assert error.__notes__ == [
            f"the executor did not take the call square({number})",
            f"in call {number} of 3: square({number})",
        ]
    with pytest.raises(RuntimeError, match="shutdown"):
        Serial(executor=executor).schedule(calls.square, 1).block()


@pytest.mark.parametrize("kind", NEW)
def test_an_executor_that_is_shut_down_in_the_middle(
    loop: Any, kind: str, new: Callable[[str], Executor], marks: Marks
) -> None:
    executor = new(kind)
    ours = 2 + 1  # what a pool of processes has sent out already can't be taken back

    async def main() -> None:
        several = Parallel(executor=executor, return_exceptions=True, limit=8)
        for number in range(9):
            several.schedule(calls.says_so_and_waits_for, marks.begun, marks.go_on, number)

        async def shut_down() -> None:
            await marks.reached(loop, 2)
            if kind == "loky":
                executor.shutdown(wait=False)
            else:
                executor.shutdown(wait=False, cancel_futures=True)
            marks.release()

        async with loop.tasks() as start:
            start(shut_down)
            results = await several.run()
        for number, result in enumerate(results):
            if isinstance(result, CallCancelled):
                assert kind != "loky" and "says_so_and_waits_for(" in str(result)
            elif isinstance(result, RuntimeError):  # it was beyond the limit
                assert number == 8 and "did not take the call" in result.__notes__[0]
            else:
                assert result == number
        done = [number for number, result in enumerate(results) if result == number]
        assert len(done) == 8 if kind == "loky" else 2 <= len(done) <= 2 + ours

    loop.run(main)


# --- a run ends --------------------------------------------------------------


@pytest.mark.parametrize("kind", NEW)
def test_a_cancelled_run_takes_queued_calls_back(
    loop: Any, kind: str, new: Callable[[str], Executor], marks: Marks
) -> None:
    executor = new(kind)

    async def main() -> None:
        several = Parallel(executor=executor)
        for number in range(40):
            several.schedule(calls.says_so_and_waits_for, marks.begun, marks.go_on, number)
        async with loop.tasks() as start:
            run = start(several.run)
            await marks.reached(loop, 2)
            run.cancel()
            assert (await run.wait()).cancelled
        marks.release()

    loop.run(main)
    executor.shutdown(wait=True)
    assert 2 <= marks.how_many() <= 8


@pytest.mark.parametrize("kind", ["threads", "spawn"])
def test_a_cancelled_to_async_is_taken_back(
    loop: Any, kind: str, new: Callable[[str], Executor], marks: Marks
) -> None:
    executor = new(kind)

    async def main() -> None:
        call = to_async(calls.says_so_and_waits_for, executor=executor)
        async with loop.tasks() as start:
            runs = [start(call, marks.begun, marks.go_on, number) for number in range(20)]
            await marks.reached(loop, 2)
            for run in runs:
                run.cancel()
            assert all([(await run.wait()).cancelled for run in runs])
        marks.release()

    loop.run(main)
    executor.shutdown(wait=True)
    assert 2 <= marks.how_many() <= 6


def test_a_cancelled_run_takes_queued_calls_back_from_dask(
    loop: Any, dask_client: Any, marks: Marks
) -> None:
    async def main() -> None:
        several = Parallel(executor=dask_client.get_executor())
        for number in range(40):
            several.schedule(calls.says_so_and_waits_for, marks.begun, marks.go_on, number)
        async with loop.tasks() as start:
            run = start(several.run)
            await marks.reached(loop, 2)
            run.cancel()
            assert (await run.wait()).cancelled

        def known(dask_scheduler: Any) -> int:
            tasks = dask_scheduler.tasks.values()
            return sum(task.state not in ("memory", "erred", "released") for task in tasks)

        while dask_client.run_on_scheduler(known):
            await loop.sleep(0.01)
        marks.release()

    loop.run(main)
    assert Parallel(executor=dask_client.get_executor()).schedule(calls.square, 3).block() == [9]
    # A worker may have begun some more before it heard of it.
    assert marks.how_many() < 20


@pytest.mark.parametrize("kind", ["threads", "spawn", "loky", "dask"])
def test_a_run_that_takes_too_long(
    loop: Any, kind: str, kept: Callable[[str], Executor], marks: Marks
) -> None:
    async def main() -> None:
        several = Parallel(executor=kept(kind), timeout=0.5)
        several.schedule(calls.square, 5)
        for number in range(6):
            several.schedule(calls.says_so_and_waits_for, marks.begun, marks.go_on, number)
        with pytest.raises(CallsTimedOut) as caught:
            await several.run()
        first, *late = caught.value.results
        assert first == 25 or "square(5)" in str(first)  # on a machine that is busy
        assert all(isinstance(error, TimeoutError) for error in late)
        assert "says_so_and_waits_for(" in str(late[0])

    loop.run(main)
    marks.release()


def test_results_that_nobody_wants_any_more(
    loop: Any, new: Callable[[str], Executor], marks: Marks
) -> None:
    executor = new("threads")

    async def main() -> None:
        several = Parallel(executor=executor).schedule(calls.square, 2)
        for number in range(20):
            several.schedule(calls.says_so_and_waits_for, marks.begun, marks.go_on, number)
        async with several.as_completed() as results:
            async for one in results:
                assert one.result() == 4
                break
        marks.release()

    loop.run(main)
    executor.shutdown(wait=True)
    assert marks.how_many() <= 4


def test_a_call_that_exits_ends_the_run(loop: Any, new: Callable[[str], Executor]) -> None:
    executor = new("threads")

    async def main() -> None:
        with pytest.raises(SystemExit):
            await Parallel(executor=executor).schedule(exits).run()

    loop.run(main)


def exits() -> None:
    raise SystemExit(3)


# --- a loop ends -------------------------------------------------------------


@pytest.mark.parametrize("kind", ["threads", "spawn"])
def test_a_loop_that_ends_under_a_runner(
    aio: Any, kind: str, new: Callable[[str], Executor], marks: Marks
) -> None:
    """The run is lost with its loop; the executor is not, and queued calls are taken back."""
    executor = new(kind)
    loop = asyncio.new_event_loop() if aio.loop_factory is None else aio.loop_factory()
    several = Parallel(executor=executor)
    for number in range(20):
        several.schedule(calls.says_so_and_waits_for, marks.begun, marks.go_on, number)
    running = several.run()

    async def begin() -> None:
        task = asyncio.ensure_future(running)
        await marks.reached(aio, 2)
        task.cancel()

    loop.run_until_complete(begin())
    loop.close()
    marks.release()
    assert Parallel(executor=executor).schedule(calls.square, 4).block() == [16]


# --- shared instances --------------------------------------------------------


class Shared(Executor):
    """Fails all of its calls with one error."""

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Any:
        future: concurrent.futures.Future[Any] = concurrent.futures.Future()
        future.set_exception(self.error)
        return future


class NeedsMore(BrokenExecutor):
    def __init__(self, message: str, more: int) -> None:
        super().__init__(message)
        self.more = more


def test_a_broken_executors_error_that_takes_more_to_make(loop: Any) -> None:
    async def main() -> None:
        several = Parallel(executor=Shared(NeedsMore("gone", 1)), return_exceptions=True)
        first, second = await several.schedule(calls.square, 1).schedule(calls.square, 2).run()
        assert type(first) is NeedsMore and str(first) == "gone" and first.more == 1
        assert first is not second
        assert [note for note in first.__notes__ if "square(2)" in note] == []

    loop.run(main)


def test_a_cancellation_of_some_loop_is_none_of_the_caller(loop: Any) -> None:
    executor = Shared(asyncio.CancelledError("over there"))

    async def main() -> None:
        with pytest.raises(CallCancelled, match=r"the call square\(1\) was cancelled"):
            await to_async(calls.square, executor=executor)(1)

    loop.run(main)


def test_the_executor_kills_a_worker_from_outside(
    loop: Any, new: Callable[[str], Executor], marks: Marks
) -> None:
    executor: Any = new("spawn")

    async def main() -> None:
        several = Parallel(executor=executor, return_exceptions=True)
        several.schedule(calls.process)
        several.schedule(calls.says_so_and_waits_for, marks.begun, marks.go_on)
        async with loop.tasks() as start:
            run = start(several.run)
            await marks.reached(loop, 1)
            for process in list(executor._processes):
                os.kill(process, signal.SIGKILL)
            outcome = await run.wait()
        assert isinstance(outcome.value[1], BrokenExecutor)

    loop.run(main)
