"""Tasks on asyncio, and on every loop that keeps its interface (uvloop).

asyncio itself reports an exception that nobody looked at: the outcome stays in the
`asyncio.Task`, and is only taken out of it when the user asks.
"""

import asyncio
from collections.abc import Coroutine
from types import TracebackType
from typing import Any, TypeVar, cast

from verdigris._engine import leave_behind
from verdigris.loops import _task
from verdigris.loops._task import LoopTask, waits_for_itself, was_cancelled, wrong_loop

T = TypeVar("T")

# asyncio keeps only weak references to its tasks. A task in the background must not vanish because
# its handle was dropped. So its loop holds it, in this attribute: with a loop that was closed over
# its tasks, they go. (They hold the loop. In a mapping of ours, even one with weak keys, both would
# stay for ever.)
_ON_LOOP = "_verdigris_tasks"


def _hold(task: asyncio.Task[Any]) -> None:
    """Has its loop hold a task until it is done. In the loop's own thread."""
    loop = task.get_loop()
    held: set[asyncio.Task[Any]] | None = getattr(loop, _ON_LOOP, None)
    if held is None:
        held = set()
        setattr(loop, _ON_LOOP, held)
    held.add(task)
    task.add_done_callback(held.discard)


class TaskCancelled(_task.TaskCancelled, asyncio.CancelledError):
    """The same, for those who catch `asyncio.CancelledError`."""

    __module__ = _task.TaskCancelled.__module__


class _DaemonTask(asyncio.Task[T]):
    """The task of a daemon thread, which nobody waits for when its loop ends.

    A thread may swallow its cancellation and wait again: its loop would wait for ever.
    """

    _was_cancelled = False

    def cancel(self, msg: Any = None) -> bool:
        if not self._was_cancelled and not self.done():
            self._was_cancelled = True
            self.get_loop().call_later(_task.SECONDS_TO_END, self._leave_behind)
        return super().cancel(msg)

    def _leave_behind(self) -> None:
        if not self.done():
            leave_behind(self.get_coro())
            # Done for those who wait for the task. `Task.cancel` only asks for it.
            asyncio.Future.cancel(self)


class AsyncioTask(LoopTask[T]):
    """A task of the running asyncio loop."""

    def __init__(self, coroutine: Coroutine[Any, Any, T], name: str, daemon: bool = False) -> None:
        self._name = name
        # Of the error, as it was at the first look.
        self._traceback: TracebackType | None = None
        # Not `get_running_loop`, which a program's sync code does not see the loop by.
        loop = asyncio._get_running_loop()
        assert loop is not None
        self._task: asyncio.Task[T]
        if daemon and loop.get_task_factory() is None:
            self._task = _DaemonTask(coroutine, loop=loop, name=name)
        else:
            self._task = loop.create_task(coroutine, name=name)
        _hold(self._task)

    async def wait(self, timeout: float | None) -> bool:
        if self._task.done():
            return True
        if self._task.get_loop() is not asyncio._get_running_loop():
            raise wrong_loop(self._name)
        if self._task is asyncio.current_task():
            raise waits_for_itself(self._name)
        # Not `await self._task`: that would cancel the task when the one who waits is cancelled.
        # Not `shield` either: on 3.11 it drops the task's later exception without a report.
        await asyncio.wait((self._task,), timeout=timeout)
        return self._task.done()

    def cancel(self) -> bool:
        return self._task.cancel()

    def may_be_left(self) -> None:
        self._task._log_destroy_pending = False  # type: ignore[attr-defined]

    def done(self) -> bool:
        return self._task.done()

    def cancelled(self) -> bool:
        return self._task.cancelled()

    def failed(self) -> bool:
        return self._task.cancelled() or self._task.exception() is not None

    def error(self) -> BaseException:
        try:
            error = cast(BaseException, self._task.exception())
        except asyncio.CancelledError as cancellation:
            cancelled = TaskCancelled(was_cancelled(self._name))
            cancelled.__cause__ = cancellation
            return cancelled
        if self._traceback is None:
            self._traceback = error.__traceback__
        return error.with_traceback(self._traceback)

    def value(self) -> T:
        return self._task.result()
