"""Very many workers that sleep a second, each below some frames: what waiting itself takes."""

from __future__ import annotations

from net.row import Row, Work

DEPTH, SECONDS = 20, 1.0


def _sync(address: str) -> Work:
    import time

    def sleep_below(depth: int) -> None:
        if depth > 1:
            sleep_below(depth - 1)
        else:
            time.sleep(SECONDS)

    def run(opened: None, count: int) -> None:
        for _ in range(count):
            sleep_below(DEPTH)

    return Work(run)


def _native(address: str) -> Work:
    import asyncio

    async def sleep_below(depth: int) -> None:
        if depth > 1:
            await sleep_below(depth - 1)
        else:
            await asyncio.sleep(SECONDS)

    async def run(opened: None, count: int) -> None:
        for _ in range(count):
            await sleep_below(DEPTH)

    return Work(run)


ROW = Row(
    name="sleep",
    title=f"time.sleep({SECONDS:g}) at stack depth {DEPTH}",
    server=None,
    count=5000,
    workers=5000,
    sync=_sync,
    native=_native,
    native_name="asyncio.sleep",
    shows="time",
)
