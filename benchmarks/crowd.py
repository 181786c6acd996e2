"""A crowd: very many functions of one contender that all wait for one future.

`TaskCrowd` runs each in an asyncio task, as programs do. `BareCrowd` drives them by hand with
`send`, which leaves out what asyncio itself keeps for its tasks.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import peers
from measure import NATIVE


class _Crowd:
    def __init__(self, contender: str) -> None:
        self._waiting = 0
        self._gate: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._begin = self._native() if contender == NATIVE else self._green(contender)

    def _native(self) -> Callable[[], Coroutine[Any, Any, None]]:
        async def wait() -> None:
            self._waiting += 1
            await self._gate

        return wait

    def _green(self, contender: str) -> Callable[[], Coroutine[Any, Any, None]]:
        peer = peers.load(contender)
        wait_for, enter = peer.wait, peer.enter

        def wait() -> None:
            self._waiting += 1
            wait_for(self._gate)

        if peer.decorate is not None:
            return peer.decorate(wait)
        return lambda: enter(wait)

    def _check_all_wait(self, count: int) -> None:
        if self._waiting != count:
            raise RuntimeError(f"{self._waiting} functions wait, not {count}: one failed early")


class TaskCrowd(_Crowd):
    """A task for each function."""

    async def start(self, count: int) -> None:
        """Returns when all `count` functions wait."""
        begin, loop = self._begin, asyncio.get_running_loop()
        self._tasks = [loop.create_task(begin()) for _ in range(count)]
        await asyncio.sleep(0)  # the loop takes its callbacks in order: all have had their turn
        self._check_all_wait(count)

    async def finish(self) -> None:
        """Opens the gate, and returns when all have ended."""
        self._gate.set_result(None)
        for task in self._tasks:
            await task
        self._tasks.clear()


class BareCrowd(_Crowd):
    """Driven by hand: what the functions themselves cost."""

    async def start(self, count: int) -> None:
        """Returns when all `count` functions wait."""
        begin = self._begin
        self._coroutines = [begin() for _ in range(count)]
        for coroutine in self._coroutines:
            # As asyncio.Task does with a future it was given: the mark says "someone waits with
            # await", and the next wait on the same future wants to set it anew.
            coroutine.send(None)._asyncio_future_blocking = False
        self._check_all_wait(count)

    async def finish(self) -> None:
        """Opens the gate, and drives each function to its end."""
        self._gate.set_result(None)
        for coroutine in self._coroutines:
            try:
                coroutine.send(None)
            except StopIteration:
                continue
            raise RuntimeError(f"{coroutine!r} waits again after its gate has opened")
        self._coroutines.clear()
