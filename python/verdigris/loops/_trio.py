"""Tasks on Trio.

Trio has no tasks without a nursery, except system tasks: they live as long as the run, and are
cancelled when the main task has ended. An exception that leaves one ends the whole run with
`TrioInternalError`, so every outcome is kept here, and only Trio's own cancellation passes.
"""

import contextvars
import logging
from collections.abc import Coroutine
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any, TypeVar, cast

import trio

from verdigris.loops._task import (
    LoopTask,
    TaskCancelled,
    waits_for_itself,
    was_cancelled,
    wrong_loop,
)

T = TypeVar("T")

_log = logging.getLogger("verdigris")


class TrioTask(LoopTask[T]):
    """A system task of the running Trio run, with a cancel scope and an outcome of its own."""

    def __init__(self, coroutine: Coroutine[Any, Any, T], name: str) -> None:
        self._name = name
        self._token = trio.lowlevel.current_trio_token()
        self._scope = trio.CancelScope()
        self._finished = trio.Event()
        self._value: T | None = None
        self._exception: BaseException | None = None
        self._traceback: TracebackType | None = None
        self._cancelled = False
        self._looked_at = False
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
