"""Nothing is kept from call to call, for each kind of call that benchmarks/flat.py measures.

Counted, not weighed: allocated blocks and stacks (references, where the interpreter counts them).
`tests/test_memory.py` does the same for the engine's own paths, driven by hand.
"""

from __future__ import annotations

import asyncio
import gc
import sys
from pathlib import Path
from typing import Any

import pytest
from conftest import ON_NATIVE_STACKS

from verdigris import _engine

sys.path.insert(0, str(Path(__file__).parent.parent / "benchmarks"))
import flat

sys.path.pop(0)

CALLS = 1_000
# What caches and free lists do in a round. A block that is kept of every call makes 1,000.
SLACK = 300


def counted() -> int:
    gc.collect()
    total = getattr(sys, "gettotalrefcount", sys.getallocatedblocks)
    return int(total())


@pytest.mark.parametrize("kind", flat.KINDS)
def test_nothing_is_kept(kind: str) -> None:
    if kind == "abandoned_in_cycles" and not _engine.knows_thread_state:
        pytest.skip("needs a build that knows the interpreter's thread state")

    async def main() -> tuple[list[int], Any]:
        calls = flat.KINDS[kind]
        await calls(CALLS)
        growth = []
        for _ in range(3):
            before = counted()
            await calls(CALLS)
            growth.append(counted() - before)
        return growth, _engine.stats()

    # Other tests of this thread leave theirs.
    pooled_before = _engine.stats()["stacks_pooled"]
    growth, stats = asyncio.run(main())
    assert min(growth) < SLACK, f"grew by {growth} in {CALLS} calls each"
    assert stats["stacks_in_use"] == 0
    if ON_NATIVE_STACKS:
        # As many as were in use at once, which a collection ends, and not one for each call.
        assert stats["stacks_pooled"] - pooled_before < CALLS / 2
