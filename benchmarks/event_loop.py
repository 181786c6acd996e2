"""The event loops that the rows can run on, and the two things that they do in their own way."""

from __future__ import annotations

import asyncio
import importlib.util
import sys
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

Result = TypeVar("Result")

ASYNCIO, UVLOOP, TRIO = "asyncio", "uvloop", "trio"
# Those that a whole run can be on. The peers know asyncio, and few of them Trio.
NAMES = (ASYNCIO, UVLOOP)


def _factory(name: str) -> Callable[[], asyncio.AbstractEventLoop]:
    if name == ASYNCIO:
        return asyncio.new_event_loop
    try:
        import uvloop
    except ImportError as error:
        raise ImportError(f"{error}: install uvloop, or leave out --loop uvloop") from error

    new_event_loop: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return new_event_loop


def run(main: Coroutine[Any, Any, Result], name: str) -> Result:
    """asyncio.run on the named loop, or trio.run.

    Raises:
        ImportError: the loop was asked for and is not installed.
    """
    if name == TRIO:
        import trio

        async def awaiting() -> Result:
            return await main

        return trio.run(awaiting)
    with asyncio.Runner(loop_factory=_factory(name)) as runner:
        return runner.run(main)


def has_trio() -> bool:
    """Tells whether Trio is installed, without importing it."""
    return importlib.util.find_spec(TRIO) is not None


async def in_new_task(function: Callable[..., Coroutine[Any, Any, Result]], *args: Any) -> Result:
    """Runs an async function in a task of its own, on whichever loop runs here."""
    trio = sys.modules.get(TRIO)
    if trio is None or not trio.lowlevel.in_trio_task():
        return await asyncio.create_task(function(*args))

    # A nursery has no place for a result, and would wrap an error in an ExceptionGroup.
    results: list[Result] = []
    errors: list[Exception] = []

    async def keep() -> None:
        try:
            results.append(await function(*args))
        except Exception as error:
            errors.append(error)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(keep)
    if errors:
        raise errors[0]
    return results[0]
