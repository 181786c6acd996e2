"""Calls made together on asyncio, and on every loop that keeps its interface (uvloop)."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from verdigris.loops._group import Group


class AsyncioGroup(Group):
    """Tasks of the running loop."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self, coroutine: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def cancel(self) -> None:
        self.drop()

    def drop(self) -> None:
        if not self._loop.is_closed():
            for task in tuple(self._tasks):
                task.cancel()

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

    async def shielded(self, wait: Callable[[], Awaitable[None]]) -> None:
        # asyncio delivers a cancellation once. Further ones are put off.
        again = 0
        while True:
            try:
                await wait()
                break
            except asyncio.CancelledError:
                again += 1
        if again:
            raise asyncio.CancelledError
