"""Memory after a burst: very many functions at once, then none, and what the process keeps.

A small crowd goes before the level is taken, so that it is the level of a program at work.
Afterwards the program only sleeps: memory that comes back comes back by itself.

Two scenes. As asyncio tasks, native coroutines too stay above the level: asyncio keeps its tasks
in a set, and the table of a set never shrinks. Driven by hand, only the functions are seen.
"""

from __future__ import annotations

import asyncio
import gc
from dataclasses import dataclass
from time import perf_counter

import memory
from crowd import BareCrowd, TaskCrowd

LIMIT = 1.2
PATIENCE_SECONDS = 5.0
SMALL_CROWD = 100
# Scene by name: how it drives the functions.
SCENES = {"burst-of-functions": "driven by hand", "burst-of-tasks": "as asyncio tasks"}


async def of_tasks(contender: str, count: int) -> memory.Figures:
    return await _burst(TaskCrowd, contender, count)


async def of_functions(contender: str, count: int) -> memory.Figures:
    return await _burst(BareCrowd, contender, count)


async def _burst(
    crowd_of: type[TaskCrowd | BareCrowd], contender: str, count: int
) -> memory.Figures:
    first = crowd_of(contender)
    await first.start(SMALL_CROWD)
    await first.finish()
    crowd = crowd_of(contender)
    gc.collect()
    before = memory.read().resident

    await crowd.start(count)
    peak = memory.read().resident
    await crowd.finish()

    finished = perf_counter()
    after = memory.read().resident
    while after > LIMIT * before and perf_counter() - finished < PATIENCE_SECONDS:
        await asyncio.sleep(0.1)
        after = memory.read().resident
    return {
        "before_bytes": before,
        "peak_bytes": peak,
        "after_bytes": after,
        "ratio": after / before,
        "seconds": perf_counter() - finished,
    }


@dataclass(frozen=True)
class Bursts:
    """Figures and failures by scene and contender."""

    count: int
    figures: dict[str, dict[str, memory.Figures]]
    failures: dict[str, dict[str, str]]


def measure(contenders: list[str], count: int, loop: str) -> Bursts:
    """One process for each scene and contender: what is kept varies little from run to run."""
    bursts = Bursts(count, {scene: {} for scene in SCENES}, {scene: {} for scene in SCENES})
    for scene in SCENES:
        for name in contenders:
            try:
                figures = memory.in_fresh_process(scene, name, count, loop)
            except memory.SceneFailed as failed:
                bursts.failures[scene][name] = str(failed)
            else:
                bursts.figures[scene][name] = figures
    return bursts
