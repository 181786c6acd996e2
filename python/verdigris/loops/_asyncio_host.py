"""Where tasks of asyncio (and uvloop) keep their coroutine.

`asyncio.Task` is written in C and lets nobody change its coroutine. The field is found once, on
throw-away tasks, and changed by the engine, which checks that it holds what the task says it
holds. Tasks written in Python keep it in an attribute.
"""

import asyncio
import types
from collections.abc import Generator
from typing import Any, cast

from verdigris import _engine
from verdigris.loops._host import AnyCoroutine, PortalHost

try:
    # Not `asyncio.Task`, which a program may have replaced.
    from _asyncio import Task as _CTask
except ImportError:  # an interpreter without the accelerator module
    _CTask = None  # type: ignore[assignment, misc]


@types.coroutine
def _step() -> Generator[None, None, None]:
    yield


def _current_task() -> Any:
    task = asyncio.current_task()
    if task is None:
        # From 3.14 on tasks that are written in Python are known to asyncio's Python half only.
        in_python = getattr(asyncio.tasks, "_py_current_task", None)
        if in_python is not None:
            return in_python()
    return task


class AsyncioHost(PortalHost):
    """The tasks of asyncio, written in C or in Python."""

    name = "asyncio"

    def __init__(self) -> None:
        self.checkpoint = _step
        self._field: int | None = None

    def is_task(self, candidate: object) -> bool:
        # Tasks written in Python from scratch count too: asyncio knows a future by this attribute.
        return isinstance(candidate, asyncio.Task) or (
            asyncio.isfuture(candidate) and hasattr(candidate, "_coro")
        )

    async def current_task(self) -> Any:
        task = _current_task()
        if task is None:
            raise RuntimeError(
                "No asyncio task is running: this is a callback of the loop, which can't wait. "
                "Start a task from it: asyncio.create_task(...)."
            )
        return task

    def is_current(self, task: Any) -> bool:
        return asyncio._get_running_loop() is not None and _current_task() is task

    def has_ended(self, task: Any) -> bool:
        return bool(task.done())

    def is_reachable(self, task: Any) -> bool:
        loop = task.get_loop()
        return loop is asyncio._get_running_loop() or not loop.is_running()

    def coroutine(self, task: Any) -> AnyCoroutine:
        if _CTask is not None and isinstance(task, _CTask):
            coroutine = _CTask.get_coro(task)
        else:
            coroutine = task._coro
        return cast(AnyCoroutine, coroutine)

    def replace(self, task: Any, old: AnyCoroutine, new: AnyCoroutine) -> None:
        if _CTask is None or not isinstance(task, _CTask):
            if task._coro is not old:
                raise RuntimeError(f"{task!r} has another coroutine than it had a moment ago.")
            task._coro = new
            return
        if self._field is None:
            self._field = _find_field()
        if not _engine.swap_field(_CTask, task, self._field, old, new):
            raise RuntimeError(
                f"The coroutine of {task!r} is not where this Python's asyncio keeps it. Use "
                f"with_portal_run(), which needs no access to the task."
            )

    async def shielded_checkpoint(self) -> None:
        try:
            await _step()
        except asyncio.CancelledError as cancellation:
            # Delivered again where the task waits next.
            task = _current_task()
            assert task is not None
            task.uncancel()
            task.cancel(*cancellation.args)


class _NoLoop:
    """As much of an event loop as a task needs that is never run."""

    def get_debug(self) -> bool:
        return False

    def call_soon(self, *args: Any, **kwargs: Any) -> None:
        pass

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        pass

    def is_running(self) -> bool:
        return False


async def _nothing() -> None:
    pass


def _find_field() -> int:
    """Finds where tasks written in C keep their coroutine.

    Returns:
        The index of the word.

    Raises:
        RuntimeError: It can't be told with certainty.
    """
    found = set()
    # Two, so that a word that happens to hold the right address is found out.
    for name in ("first", "second"):
        coroutine = _nothing()
        try:
            task = _CTask(coroutine, loop=_NoLoop(), name=name)  # type: ignore[arg-type]
            # It never runs, and shall not be reported for that.
            setattr(task, "_log_destroy_pending", False)  # noqa: B010 (not in the type stubs)
            found.add(_engine.find_field(_CTask, task, coroutine))
        finally:
            coroutine.close()
    (field,) = found if len(found) == 1 else (None,)
    if field is None:
        raise RuntimeError(
            "Could not find where this Python's asyncio.Task keeps its coroutine, so a running "
            "task can't be given a portal. Use with_portal_run(), which needs no access to the "
            "task."
        )
    return field
