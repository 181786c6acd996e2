"""Calls made together on asyncio, and on every loop that keeps its interface (uvloop)."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from verdigris.loops._group import Group


class AsyncioGroup(Group):
    """Tasks of the running loop."""

    cancelled = asyncio.CancelledError

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._tasks: set[asyncio.Task[None]] = set()

    def is_here(self) -> bool:
        return asyncio._get_running_loop() is self._loop

    async def start(self, coroutine: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(coroutine)
        if not task.done():  # as an eager one may be
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def end(self) -> None:
        self._cancel()
        # asyncio delivers a cancellation once. Further ones are put off, and passed on to tasks
        # that did not end at the first.
        again = False
        while self._tasks:
            try:
                await asyncio.wait(self._tasks)
            except asyncio.CancelledError:
                again = True
                self._cancel()
        if again:
            raise asyncio.CancelledError

    def _cancel(self) -> None:
        for task in tuple(self._tasks):
            task.cancel()

    def drop(self) -> None:
        if self._tasks:
            # A loop that is closed has no tasks to end.
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._cancel)

    async def within(self, seconds: float, wait: Callable[[], Awaitable[None]]) -> bool:
        scope = asyncio.timeout(seconds)
        try:
            async with scope:
                await wait()
        except TimeoutError:
            if not scope.expired():
                raise
            return False
        return True
