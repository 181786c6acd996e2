"""`spawn` starts a function in the background; its handle waits, joins and cancels."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import logging
import weakref
from typing import Any

import pytest
from conftest import needs_thread_state

import verdigris
from verdigris import async_def, await_, spawn
from verdigris.green import _wait

var: contextvars.ContextVar[str] = contextvars.ContextVar("var")


def test_awaited_from_async_code(loop: Any) -> None:
    def work(x: int, *, plus: int) -> int:
        await_(loop.checkpoint())
        return x + plus

    async def main() -> int:
        task = spawn(work, 1, plus=2)
        assert isinstance(task, verdigris.GreenTask)
        assert not task.done()
        result = await task
        assert task.done() and not task.cancelled()
        assert task.result() == result and task.exception() is None
        # A second waiter gets the same.
        assert await task == result
        return result

    assert loop.run(main) == 3


def test_joined_from_green_code(loop: Any) -> None:
    def work(x: int) -> int:
        await_(loop.checkpoint())
        return x

    def parent() -> list[int]:
        tasks = [spawn(work, x) for x in range(10)]
        return [task.join() for task in tasks]

    assert loop.run(async_def, parent) == list(range(10))


def test_runs_while_its_parent_goes_on(loop: Any) -> None:
    log: list[str] = []

    def work(event: Any) -> None:
        log.append("work")
        event.set()

    def parent() -> None:
        event = loop.event()
        task = spawn(work, event)
        log.append("parent")
        await_(event.wait())
        task.join()

    loop.run(async_def, parent)
    assert log == ["parent", "work"]


def test_join_with_a_timeout_leaves_the_task_alone(loop: Any) -> None:
    def work(event: Any) -> str:
        await_(event.wait())
        return "finished"

    def parent() -> str:
        event = loop.event()
        task = spawn(work, event)
        with pytest.raises(TimeoutError, match="work"):
            task.join(timeout=0.01)
        assert not task.done() and not task.cancelled()
        event.set()
        return task.join(timeout=10)

    assert loop.run(async_def, parent) == "finished"


def test_join_needs_a_green_function(loop: Any) -> None:
    async def main() -> None:
        task = spawn(lambda: await_(loop.checkpoint()))
        with pytest.raises(verdigris.NoAwaitContext):
            task.join()
        await task

    loop.run(main)


def test_cancelling_reaches_the_waiting_line(loop: Any) -> None:
    steps: list[str] = []

    def work(started: Any) -> None:
        try:
            started.set()
            await_(loop.event().wait())
        except loop.cancelled:
            steps.append("cancelled")
            raise
        finally:
            steps.append("finally")

    async def main() -> None:
        started = loop.event()
        task = spawn(work, started)
        await started.wait()
        await loop.checkpoint()
        assert task.cancel() is not False
        with pytest.raises((verdigris.TaskCancelled, loop.cancelled)):
            await task
        assert task.done() and task.cancelled()
        for ask in (task.result, task.exception):
            with pytest.raises((verdigris.TaskCancelled, loop.cancelled)):
                ask()
        assert task.cancel() is False

    loop.run(main)
    assert steps == ["cancelled", "finally"]


def test_an_error_is_raised_at_whoever_waits(loop: Any) -> None:
    error = KeyError("from the task")

    def work() -> None:
        await_(loop.checkpoint())
        raise error

    def parent() -> None:
        task = spawn(work)
        with pytest.raises(KeyError) as caught:
            task.join()
        assert caught.value is error
        assert task.exception() is error
        assert not task.cancelled()
        with pytest.raises(KeyError):
            task.result()

    loop.run(async_def, parent)


def test_one_failing_task_disturbs_no_other(loop: Any) -> None:
    def work(n: int) -> int:
        await_(loop.checkpoint())
        if n == 5:
            raise KeyError(n)
        await_(loop.checkpoint())
        return n

    async def main() -> list[object]:
        results: list[object] = []
        tasks = [spawn(work, n) for n in range(10)]
        for task in tasks:
            try:
                results.append(await task)
            except KeyError:
                results.append("failed")
        return results

    assert loop.run(main) == [0, 1, 2, 3, 4, "failed", 6, 7, 8, 9]


def test_cancelling_who_waits_leaves_the_task_alone(loop: Any) -> None:
    def work(event: Any) -> str:
        await_(event.wait())
        return "finished"

    async def main() -> object:
        event = loop.event()
        task = spawn(work, event)

        async def waiter() -> Any:
            return await task

        async with loop.tasks() as start:
            waiting = [start(waiter), start(async_def, lambda: task.join())]
            await loop.checkpoint()
            await loop.checkpoint()
            for background in waiting:
                background.cancel()
        for background in waiting:
            assert (await background.wait()).cancelled
        assert not task.done()
        event.set()
        return await task

    assert loop.run(main) == "finished"


def test_not_ended_yet(loop: Any) -> None:
    async def main() -> None:
        task = spawn(lambda: await_(loop.checkpoint()))
        for ask in (task.result, task.exception):
            with pytest.raises(RuntimeError, match="not ended"):
                ask()
        await task

    loop.run(main)


def test_goes_on_when_its_handle_is_dropped(loop: Any) -> None:
    done: list[str] = []

    def work(event: Any) -> None:
        await_(loop.sleep(0.001))
        gc.collect()
        await_(loop.sleep(0.001))
        done.append("done")
        event.set()

    async def main() -> None:
        event = loop.event()
        spawn(work, event)
        gc.collect()
        await event.wait()

    loop.run(main)
    assert done == ["done"]


@pytest.mark.parametrize(
    "wait",
    [
        pytest.param(_wait.sleep, id="reactor"),
        # The loop's timer holds the task: only the collector ends that circle.
        pytest.param(
            lambda seconds: await_(asyncio.sleep(seconds)), id="await_", marks=needs_thread_state
        ),
    ],
)
def test_goes_with_a_loop_that_was_closed(aio: Any, caplog: Any, wait: Any) -> None:
    steps = []

    def work() -> None:
        try:
            steps.append("begins")
            wait(3600)
        finally:
            steps.append("ends")

    async def main() -> None:
        spawn(work)
        await asyncio.sleep(0)

    loop = (aio.loop_factory or asyncio.new_event_loop)()
    loop.run_until_complete(main())
    loop.close()
    of_loop = weakref.ref(loop)
    del loop
    gc.collect()
    assert steps == ["begins", "ends"] and of_loop() is None
    assert "Task was destroyed but it is pending" in caplog.text  # asyncio's own words for it


def test_an_error_nobody_looked_at_is_reported(loop: Any, caplog: pytest.LogCaptureFixture) -> None:
    """asyncio's logger and ours are both loggers: either may report it."""

    def work(event: Any) -> None:
        event.set()
        raise KeyError("unseen")

    async def main() -> None:
        event = loop.event()
        task = spawn(work, event)
        await event.wait()
        await loop.sleep(0.001)
        del task
        gc.collect()
        await loop.sleep(0.001)

    with caplog.at_level(logging.ERROR):
        loop.run(main)
        gc.collect()
    assert "unseen" in caplog.text
    caplog.clear()


def test_the_context_is_a_copy_of_the_callers(loop: Any) -> None:
    def work() -> str:
        seen = var.get()
        var.set("task's own")
        return seen

    async def main() -> str:
        var.set("caller's")
        seen = await spawn(work)
        assert var.get() == "caller's"
        return seen

    assert loop.run(main) == "caller's"


def test_has_the_functions_name(loop: Any) -> None:
    def my_work() -> None: ...

    async def main() -> None:
        task = spawn(my_work)
        assert "my_work" in task.name
        assert "my_work" in repr(task)
        await task

    loop.run(main)


def test_needs_a_running_loop() -> None:
    with pytest.raises(RuntimeError, match="no running asyncio or Trio loop"):
        spawn(len, "x")


def test_refuses_what_it_cannot_start(loop: Any) -> None:
    async def already() -> None: ...

    async def main() -> None:
        with pytest.raises(TypeError, match="already"):
            spawn(already)
        with pytest.raises(TypeError, match="int"):
            spawn(3)  # type: ignore[call-overload]

    loop.run(main)


def test_a_task_that_joins_itself_is_told(loop: Any) -> None:
    def work(box: list[Any]) -> str:
        await_(loop.checkpoint())
        with pytest.raises(RuntimeError):
            box[0].join()
        return "told"

    async def main() -> object:
        box: list[Any] = []
        box.append(spawn(work, box))
        return await box[0]

    assert loop.run(main) == "told"
