"""Calls made together on curio."""

from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import curio

from verdigris.loops._group import Group


class CurioGroup(Group):
    """Daemonic tasks of the kernel."""

    def __init__(self) -> None:
        self._tasks: list[Any] = []

    async def start(self, coroutine: Coroutine[Any, Any, None]) -> None:
        self._tasks = [task for task in self._tasks if not task.terminated]
        self._tasks.append(await curio.spawn(_run, coroutine, daemon=True))

    async def cancel(self) -> None:
        for task in self._tasks:
            await task.cancel(blocking=False)

    def drop(self) -> None:
        return  # curio cancels from tasks only

    async def within(self, seconds: float, wait: Callable[[], Awaitable[None]]) -> bool:
        try:
            async with curio.timeout_after(max(seconds, 0)):
                await wait()
        except curio.TaskTimeout:
            return False
        return True

    async def shielded(self, wait: Callable[[], Awaitable[None]]) -> None:
        async with curio.disable_cancellation():
            await wait()


async def _run(coroutine: Coroutine[Any, Any, None]) -> None:
    await coroutine
