"""Very many idle tasks, each with a portal: what a portal holds while its task waits by itself.

Each task gets its portal before its first step, so that it has run through it once. Without
portals they are the native tasks of the row "suspended".

Two figures, because each misses something. The resident set is counted in pages, and what was
free before the tasks came is used up first. What tracemalloc counts is exact, but only of memory
that is allocated by Python's means.
"""

from __future__ import annotations

import asyncio
import gc
import tracemalloc
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import memory
import peers
from measure import NATIVE

REPEATS = 3
BYTES_LIMIT = 200  # each, more than without a portal
TRACED_CROWD = 1_000  # tracing is slow, and exact with few


class _IdleCrowd:
    """Tasks that all wait for one future."""

    def __init__(self, bestow: Callable[[Any], None] | None) -> None:
        self._bestow = bestow
        self._waiting = 0
        self._gate: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def _wait(self) -> None:
        self._waiting += 1
        await self._gate

    async def start(self, count: int) -> None:
        """Returns when all `count` tasks wait."""
        bestow, loop = self._bestow, asyncio.get_running_loop()
        self._tasks = [loop.create_task(self._wait()) for _ in range(count)]
        if bestow is not None:
            for task in self._tasks:
                bestow(task)
        await asyncio.sleep(0)  # the loop takes its callbacks in order: all have had their turn
        if self._waiting != count:
            raise RuntimeError(f"{self._waiting} tasks wait, not {count}: one failed early")

    async def finish(self) -> None:
        """Opens the gate, and returns when all have ended."""
        self._gate.set_result(None)
        for task in self._tasks:
            await task
        self._tasks.clear()


async def scene(contender: str, count: int) -> memory.Figures:
    bestow = None if contender == NATIVE else _bestow_of(contender)
    first = _IdleCrowd(bestow)  # what a first portal alone costs is part of the level before
    await first.start(1)
    await first.finish()
    crowd = _IdleCrowd(bestow)
    gc.collect()
    before = memory.read()
    await crowd.start(count)
    waiting = memory.read()
    await crowd.finish()

    del first, crowd
    gc.collect()
    tracemalloc.start()
    traced_before, _ = tracemalloc.get_traced_memory()
    crowd = _IdleCrowd(bestow)
    await crowd.start(TRACED_CROWD)
    traced_waiting, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    await crowd.finish()
    return {
        "bytes_each": (waiting.resident - before.resident) / count,
        "traced_bytes_each": (traced_waiting - traced_before) / TRACED_CROWD,
        "page_table_bytes_each": (waiting.page_tables - before.page_tables) / count,
    }


def _bestow_of(contender: str) -> Callable[[Any], None]:
    portal = peers.load(contender).portal
    if portal is None:
        raise RuntimeError(f"{contender} has no portals")
    return portal.bestow


@dataclass(frozen=True)
class Idle:
    count: int
    figures: dict[str, memory.Figures]
    failures: dict[str, str]

    def more(self, contender: str, key: str) -> float | None:
        """What a task holds more than a native one; None if one of the two is missing."""
        if contender == NATIVE or contender not in self.figures or NATIVE not in self.figures:
            return None
        return self.figures[contender][key] - self.figures[NATIVE][key]


def measure(contenders: list[str], count: int, loop: str, repeats: int = REPEATS) -> Idle:
    """Medians over `repeats` processes for each contender, in turns."""
    medians, failures = memory.medians_in_turns("portal-idle", contenders, count, loop, repeats)
    return Idle(count, medians, failures)
