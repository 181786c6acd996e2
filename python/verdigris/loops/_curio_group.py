"""Calls made together on curio."""

import contextvars
import threading
from collections.abc import Awaitable, Callable, Coroutine, Generator
from typing import Any

import curio

from verdigris.loops._group import Group


class CurioGroup(Group):
    """Daemonic tasks of the kernel."""

    cancelled = curio.CancelledError

    def __init__(self) -> None:
        self._tasks: list[Any] = []
        # At so many those that have ended are dropped.
        self._crowd = 32
        # curio tells its kernel to coroutines only. A thread runs one at a time.
        self._thread = threading.get_ident()

    def is_here(self) -> bool:
        return bool(curio.meta.curio_running()) and threading.get_ident() == self._thread

    async def start(self, coroutine: Coroutine[Any, Any, None]) -> None:
        if len(self._tasks) >= self._crowd:
            self._tasks = [task for task in self._tasks if not task.terminated]
            self._crowd = 2 * max(len(self._tasks), 16)
        self._tasks.append(
            await curio.spawn(_run, coroutine, contextvars.copy_context(), daemon=True)
        )

    async def end(self) -> None:
        async with curio.disable_cancellation():
            for task in self._tasks:
                await task.cancel(blocking=False)
            for task in self._tasks:
                await task.wait()

    def drop(self) -> None:
        return  # curio cancels from tasks only

    async def within(self, seconds: float, wait: Callable[[], Awaitable[None]]) -> bool:
        try:
            async with curio.timeout_after(max(seconds, 0)):
                await wait()
        except curio.TaskTimeout:
            return False
        return True


async def _run(coroutine: Coroutine[Any, Any, None], context: contextvars.Context) -> None:
    await _InContext(coroutine, context)


class _InContext:
    """Steps a coroutine in a context of its own: curio's tasks share that of the thread."""

    def __init__(self, coroutine: Coroutine[Any, Any, None], context: contextvars.Context) -> None:
        self._coroutine = coroutine
        self._context = context

    def __await__(self) -> Generator[Any, Any, None]:
        step: Callable[..., Any] = self._coroutine.send
        argument: Any = None
        while True:
            try:
                trap = self._context.run(step, argument)
            except StopIteration:
                return
            try:
                step, argument = self._coroutine.send, (yield trap)
            except BaseException as error:
                step, argument = self._coroutine.throw, error
