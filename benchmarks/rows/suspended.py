"""Very many suspended functions: memory for each, time to start all and to finish all."""

from __future__ import annotations

import gc
from dataclasses import dataclass
from time import perf_counter

import memory
from crowd import TaskCrowd

REPEATS = 3
BYTES_LIMIT = 5.5 * 1024  # each
START_LIMIT = 2.0  # times as long as native coroutines


async def scene(contender: str, count: int) -> memory.Figures:
    first = TaskCrowd(contender)  # what a first function alone costs is part of the level before
    await first.start(1)
    await first.finish()
    crowd = TaskCrowd(contender)
    gc.collect()
    before = memory.read()

    moment = perf_counter()
    await crowd.start(count)
    started = perf_counter() - moment
    waiting = memory.read()

    moment = perf_counter()
    await crowd.finish()
    finished = perf_counter() - moment
    return {
        "bytes_each": (waiting.resident - before.resident) / count,
        "page_table_bytes_each": (waiting.page_tables - before.page_tables) / count,
        "start_seconds": started,
        "finish_seconds": finished,
    }


@dataclass(frozen=True)
class Suspended:
    count: int
    figures: dict[str, memory.Figures]
    failures: dict[str, str]


def measure(contenders: list[str], count: int, loop: str, repeats: int = REPEATS) -> Suspended:
    """Medians over `repeats` processes for each contender, in turns."""
    medians, failures = memory.medians_in_turns("suspended", contenders, count, loop, repeats)
    return Suspended(count, medians, failures)
