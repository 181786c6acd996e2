"""Sync functions run green side by side, for tests of things that wait."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from conftest import Loop

from verdigris import async_def


def together(loop: Loop, *functions: Callable[[], Any]) -> list[Any]:
    """Runs all on one loop, and returns what each returned, or raises what one raised."""

    async def main() -> list[Any]:
        async with loop.tasks() as start:
            started = [start(async_def, function) for function in functions]
        return [one.outcome for one in started]

    values = []
    for outcome in loop.run(main):
        if outcome.error is not None:
            raise outcome.error
        assert not outcome.cancelled
        values.append(outcome.value)
    return values


def beside(loop: Loop, function: Callable[[], Any], beats: int = 5) -> Any:
    """Runs one beside a task that counts. The count when it ended must have got to `beats`."""
    count = 0

    async def main() -> Any:
        nonlocal count

        async with loop.tasks() as start:
            one = start(async_def, function)
            while not one.ended.is_set():
                await loop.sleep(0.001)
                count += 1
        return one.outcome

    outcome = loop.run(main)
    if outcome.error is not None:
        raise outcome.error
    assert count >= beats, "the loop was blocked"
    return outcome.value


def cancelled(loop: Loop, function: Callable[[], Any], after: Callable[[], bool]) -> bool:
    """Starts one, cancels it when `after()` holds, and tells whether it ended so."""

    async def main() -> bool:
        async with loop.tasks() as start:
            one = start(async_def, function)
            while not after():
                await loop.sleep(0.001)
            await loop.sleep(0.02)
            one.cancel()
        assert one.outcome.cancelled, one.outcome
        return True

    return bool(loop.run(main))


def run(loop: Loop, *functions: Callable[[], Any]) -> list[Any]:
    """Runs functions green, side by side; what they return. Each waits before the next starts."""

    async def main() -> list[Any]:
        tasks = []
        async with loop.tasks() as start:
            for function in functions:
                tasks.append(start(async_def, function))
                await loop.checkpoint()
                await loop.checkpoint()
        return [task.outcome for task in tasks]

    outcomes = loop.run(main)
    for outcome in outcomes:
        if outcome.error is not None:
            raise outcome.error
    return [outcome.value for outcome in outcomes]


def run_one(loop: Loop, function: Callable[..., Any], *args: Any) -> Any:
    return loop.run(async_def, function, *args)
