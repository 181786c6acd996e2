"""Tasks on Trio.

Trio has no tasks without a nursery, except system tasks: they live as long as the run, and are
cancelled when the main task has ended. An exception that leaves one ends the whole run with
`TrioInternalError`, so every outcome is kept here, and only Trio's own cancellation passes.
"""

import contextvars
import logging
import types
from collections.abc import Coroutine, Generator
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any, TypeVar, cast

import trio

from verdigris._engine import leave_behind
from verdigris.loops._task import (
    LoopTask,
    TaskCancelled,
    waits_for_itself,
    was_cancelled,
    wrong_loop,
)

T = TypeVar("T")

_log = logging.getLogger("verdigris")


# A task that waits again is cancelled again. How often, when the run ends.
_MOST_CANCELLATIONS = 10


@types.coroutine
def _step_daemon(coroutine: Coroutine[Any, Any, T]) -> Generator[Any, Any, T]:
    """Steps a daemon thread, and leaves it behind if it goes on when its run ends.

    A thread may swallow its cancellation and wait again: the run would wait for ever.
    """
    step: Any = coroutine.send
    outcome: Any = None
    cancellations = 0
    while True:
        try:
            waited_for = step(outcome)
        except StopIteration as end:
            result: T = end.value
            return result
        outcome = None  # not kept while it waits
        try:
            step, outcome = coroutine.send, (yield waited_for)
        except BaseException as error:  # what was awaited is nothing of Trio's
            step, outcome = coroutine.throw, error
            continue
        # Who waited unwraps it.
        cancelled = getattr(outcome, "error", None)
        if isinstance(cancelled, trio.Cancelled) and _run_ends():
            cancellations += 1
            if cancellations > _MOST_CANCELLATIONS:
                leave_behind(coroutine)
                raise cancelled
        cancelled = None


def _run_ends() -> bool:
    """Tells whether the run cancels its system tasks. In one of them."""
    nursery = trio.lowlevel.current_task().parent_nursery
    return nursery is not None and nursery.cancel_scope.cancel_called


class TrioTask(LoopTask[T]):
    """A system task of the running Trio run, with a cancel scope and an outcome of its own."""

    def __init__(self, coroutine: Coroutine[Any, Any, T], name: str, daemon: bool = False) -> None:
        self._name = name
        self._token = trio.lowlevel.current_trio_token()
        self._scope = trio.CancelScope()
        self._finished = trio.Event()
        self._value: T | None = None
        self._exception: BaseException | None = None
        self._traceback: TracebackType | None = None
        self._cancelled = False
        self._looked_at = False
        if daemon:
            coroutine = _step_daemon(coroutine)
        self._task = trio.lowlevel.spawn_system_task(
            self._run, coroutine, name=name, context=contextvars.copy_context()
        )

    async def _run(self, coroutine: Coroutine[Any, Any, T]) -> None:
        try:
            with self._scope:
                self._value = await coroutine
            self._cancelled = self._scope.cancelled_caught
        except trio.Cancelled:
            # Not by `cancel`, whose cancellation ends at the scope: the run itself is ending.
            self._cancelled = True
            raise
        except BaseException as error:
            # Everything else, `SystemExit` included: see the head of this file.
            # Without the entry of this frame, which is ours and tells the user nothing.
            self._exception = error
            self._traceback = error.__traceback__ and error.__traceback__.tb_next
            error.__traceback__ = self._traceback
        finally:
            self._finished.set()
            # The traceback's frames keep the frames that called them, this one too (3.12 and
            # later). With `self` in it the circle would put off the report in `__del__` until the
            # collector runs.
            del self

    @classmethod
    def any_in(cls, nursery: trio.Nursery | None) -> bool:
        """Tells whether a task of this kind goes on in a nursery."""
        code = cls._run.__code__
        tasks = () if nursery is None else nursery.child_tasks
        return any(getattr(task.coro, "cr_code", None) is code for task in tasks)

    async def wait(self, timeout: float | None) -> bool:
        if self._finished.is_set():
            await trio.lowlevel.checkpoint()
            return True
        # A task driven by another loop is no Trio task, and has no token to compare.
        if (
            not trio.lowlevel.in_trio_task()
            or trio.lowlevel.current_trio_token() is not self._token
        ):
            raise wrong_loop(self._name)
        if trio.lowlevel.current_task() is self._task:
            raise waits_for_itself(self._name)
        if timeout is None:
            await self._finished.wait()
        else:
            with trio.move_on_after(max(timeout, 0)):
                await self._finished.wait()
        return self._finished.is_set()

    @staticmethod
    def shield() -> AbstractContextManager[object]:
        return trio.CancelScope(shield=True)

    def cancel(self) -> bool:
        if self._finished.is_set():
            return False
        self._scope.cancel()
        return True

    def done(self) -> bool:
        return self._finished.is_set()

    def cancelled(self) -> bool:
        return self._cancelled

    def failed(self) -> bool:
        self._looked_at = True
        return self._cancelled or self._exception is not None

    def error(self) -> BaseException:
        if self._cancelled:
            return TaskCancelled(was_cancelled(self._name))
        return cast(BaseException, self._exception).with_traceback(self._traceback)

    def value(self) -> T:
        return cast(T, self._value)

    def __del__(self) -> None:
        # Missing when the constructor failed before it got there.
        error = getattr(self, "_exception", None)
        if error is not None and not self._looked_at:
            _log.error(
                "The exception of task %r was never looked at. Await or join the task, or ask "
                "its result() or exception().",
                self._name,
                exc_info=(type(error), error, self._traceback),
            )
