"""What operations ask of a loop: asyncio, uvloop, Trio."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from verdigris import TaskCancelled


class AsyncioLoop:
    name = "asyncio"
    interruptions: tuple[type[BaseException], ...] = (asyncio.CancelledError, TaskCancelled)
    factory: Any = None

    def run(self, async_fn: Callable[..., Any], *args: Any) -> Any:
        with asyncio.Runner(loop_factory=self.factory) as runner:
            return runner.run(async_fn(*args))

    async def checkpoint(self, value: int) -> int:
        await asyncio.sleep(0)
        return value

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    def event(self) -> Any:
        return asyncio.Event()

    def soon(self, fn: Callable[[], object]) -> None:
        asyncio.get_running_loop().call_soon(fn)

    async def in_tasks(self, *async_fns: Callable[[], Awaitable[Any]]) -> list[Any]:
        """Each in a task of the loop's own, all at once."""

        async def call(async_fn: Callable[[], Awaitable[Any]]) -> Any:
            return await async_fn()

        tasks = [asyncio.create_task(call(async_fn)) for async_fn in async_fns]
        return [await task for task in tasks]

    @contextlib.asynccontextmanager
    async def deadline(self, seconds: float) -> AsyncIterator[None]:
        """Ends the block with `TimeoutError` when it takes longer."""
        async with asyncio.timeout(seconds):
            yield

    async def cancelled_after(self, async_fn: Callable[[], Awaitable[Any]], turns: int) -> Any:
        """Runs it in a task, which is cancelled after some turns of the loop."""

        async def call() -> Any:
            return await async_fn()

        task = asyncio.create_task(call())
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        return None if task.cancelled() else task.result()


class UvloopLoop(AsyncioLoop):
    name = "uvloop"

    def __init__(self) -> None:
        import uvloop

        self.factory = uvloop.new_event_loop


class TrioLoop:
    name = "trio"

    def __init__(self) -> None:
        import trio

        self.trio = trio
        self.interruptions: tuple[type[BaseException], ...] = (trio.Cancelled, TaskCancelled)

    def run(self, async_fn: Callable[..., Any], *args: Any) -> Any:
        return self.trio.run(async_fn, *args)

    async def checkpoint(self, value: int) -> int:
        await self.trio.lowlevel.checkpoint()
        return value

    async def sleep(self, seconds: float) -> None:
        await self.trio.sleep(seconds)

    def event(self) -> Any:
        return self.trio.Event()

    def soon(self, fn: Callable[[], object]) -> None:
        self.trio.lowlevel.current_trio_token().run_sync_soon(fn)

    async def in_tasks(self, *async_fns: Callable[[], Awaitable[Any]]) -> list[Any]:
        results: list[Any] = [None] * len(async_fns)

        async def call(index: int) -> None:
            results[index] = await async_fns[index]()

        async with self.trio.open_nursery() as nursery:
            for index in range(len(async_fns)):
                nursery.start_soon(call, index)
        return results

    @contextlib.asynccontextmanager
    async def deadline(self, seconds: float) -> AsyncIterator[None]:
        try:
            with self.trio.fail_after(seconds):
                yield
        except self.trio.TooSlowError:
            raise TimeoutError from None

    async def cancelled_after(self, async_fn: Callable[[], Awaitable[Any]], turns: int) -> Any:
        result = None

        async def call(scope: Any) -> None:
            nonlocal result
            with scope:
                result = await async_fn()

        async with self.trio.open_nursery() as nursery:
            scope = self.trio.CancelScope()
            nursery.start_soon(call, scope)
            for _ in range(turns):
                await self.trio.lowlevel.checkpoint()
            scope.cancel()
        return result


LOOPS: dict[str, type] = {"asyncio": AsyncioLoop, "uvloop": UvloopLoop, "trio": TrioLoop}
