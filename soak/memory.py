"""What a process holds, sampled between batches, when nothing of the programs is left."""

from __future__ import annotations

import gc
import os
import statistics
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from world import GARBAGE

from verdigris import _engine

MIB = 1 << 20

#: The first part of a round fills pools, caches and the allocator's arenas.
WARM_UP = 0.35
#: By this much the resident memory may grow over the rest of a round.
MOST_GROWTH = 4 * MIB
#: In a round so short that all of it is warm-up: measured are 32 to 43 MiB over the first half
#: million operations, and from then on nothing.
SHORT = 600_000
MOST_GROWTH_SHORT = 12 * MIB
#: Objects that a collection finds, beyond those of the warm-up. (Of greenlets that die on another
#: thread greenlet leaks some, and says so.)
MOST_OBJECTS = 5000


@dataclass(frozen=True)
class Sample:
    """Counts of this process; `resident` is in bytes."""

    resident: int
    objects: int
    descriptors: int
    threads: int
    stacks_in_use: int
    stacks_leaked: int


def settle() -> None:
    """Waits until what was dropped has ended, and a collection finds nothing, if not for ever.

    A collection on a pool's thread may be under way. Then none begins here, and what the other
    finds of this thread's functions is handed to it.
    """
    idle = 0
    for _ in range(100):
        idle = 0 if gc.collect() else idle + 1
        if idle >= 2 and GARBAGE.ended == GARBAGE.dropped:
            break
        time.sleep(0.02)


def sample() -> Sample:
    """Takes one, after a collection."""
    settle()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    stats = _engine.stats()
    return Sample(
        resident=pages * os.sysconf("SC_PAGE_SIZE"),
        objects=len(gc.get_objects()),
        descriptors=len(os.listdir("/proc/self/fd")) - 1,
        threads=len(os.listdir("/proc/self/task")),
        stacks_in_use=stats["stacks_in_use"],
        stacks_leaked=stats["stacks_leaked"],
    )


def growth(samples: list[Sample]) -> dict[str, int]:
    """How much the last third has more than the first third, after the warm-up; medians."""
    rest = samples[int(len(samples) * WARM_UP) :]
    if len(rest) < 3:
        return {}
    third = len(rest) // 3
    return {
        name: int(
            statistics.median(getattr(sample, name) for sample in rest[-third:])
            - statistics.median(getattr(sample, name) for sample in rest[:third])
        )
        for name in asdict(rest[0])
    }


def complaints(samples: list[Sample], operations: int) -> list[str]:
    """What is not flat, or not given back."""
    found = []
    last = samples[-1]
    if last.stacks_in_use:
        found.append(f"{last.stacks_in_use} stacks were never given back")
    if last.stacks_leaked:
        found.append(f"{last.stacks_leaked} stacks were leaked")
    return found + grew(samples, operations)


def grew(samples: list[Sample], operations: int) -> list[str]:
    """What is not flat."""
    grown = growth(samples)
    if not grown:
        return []
    limits = {
        "resident": MOST_GROWTH_SHORT if operations < SHORT else MOST_GROWTH,
        "objects": MOST_OBJECTS,
        "descriptors": 2,  # of what ends at that moment
        # Threads of the pools come and go, as many as there are calls at once.
        "threads": 64,
    }
    return [
        f"{name} grew by {grown[name]:,}, more than {limit:,}, to {getattr(samples[-1], name):,}"
        for name, limit in limits.items()
        if grown[name] > limit
    ]
