"""Runs `layers` without waits, or under a loop: `python run_layers.py LOOP WAY`.

LOOP is `none`, or one of the loops in tests/conftest.py. WAY is how functions come to wait there.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from conftest import LOOPS, Loop

from verdigris import async_def, await_, ensure_portal

if __package__:
    from . import layers
else:
    import layers

TASKS = range(1, 6)


def run_without_waits() -> list[int]:
    layers.wait = lambda: None
    results = [layers.top(n) for n in TASKS]
    for end in KeyboardInterrupt, GeneratorExit:

        def ends(end: type[BaseException] = end) -> object:
            raise end

        layers.wait_long = ends
        seen: list[str] = []
        try:
            layers.is_ended(end, seen)
        except end:
            seen.append("caught")
        assert seen == ["ended", "left", "caught"]
    return results


async def call(function: Callable[..., Any], *args: Any) -> Any:
    return await async_def(function, *args)


async def call_in_portal(function: Callable[..., Any], *args: Any) -> Any:
    await ensure_portal()
    return function(*args)


async def call_in_thread(function: Callable[..., Any], *args: Any) -> Any:
    from verdigris.green import threading

    def starts() -> Any:
        result: list[Any] = []
        thread = threading.Thread(target=lambda: result.append(function(*args)))
        thread.start()
        thread.join()
        return result[0]

    return await async_def(starts)


WAYS = {"async_def": call, "portal": call_in_portal, "thread": call_in_thread}


def run_on(loop: Loop, way: str) -> list[int]:
    call_it = WAYS[way]

    async def main() -> list[int]:
        layers.wait = lambda: await_(loop.checkpoint())
        layers.wait_long = lambda: await_(loop.event().wait())
        async with loop.tasks() as start:
            tasks = [start(call_it, layers.top, n) for n in TASKS]
        await is_cancelled()
        is_closed()
        for task in tasks:
            if task.outcome.error is not None:
                raise task.outcome.error
        return [task.outcome.value for task in tasks]

    async def is_cancelled() -> None:
        seen: list[str] = []
        async with loop.tasks() as start:
            function = call if way == "thread" else call_it
            task = start(function, layers.is_ended, loop.cancelled, seen)
            for _ in range(3):
                await loop.checkpoint()
            task.cancel()
        assert seen == ["ended", "left"], seen

    def is_closed() -> None:
        seen: list[str] = []

        # A step of no loop's.
        layers.wait = lambda: None
        layers.wait_long = lambda: await_(Once())
        coroutine = async_def(layers.is_ended, GeneratorExit, seen)
        coroutine.send(None)
        coroutine.close()
        assert seen == ["ended", "left"], seen

    return loop.run(main)


class Once:
    def __await__(self) -> Any:
        yield


def run(loop: str, way: str) -> list[int]:
    return run_without_waits() if loop == "none" else run_on(LOOPS[loop](), way)


if __name__ == "__main__":
    run(*sys.argv[1:])
