"""The event loops that the rows can run on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

Result = TypeVar("Result")

ASYNCIO, UVLOOP = "asyncio", "uvloop"
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
    """asyncio.run on the named loop.

    Raises:
        ImportError: uvloop was asked for and is not installed.
    """
    with asyncio.Runner(loop_factory=_factory(name)) as runner:
        return runner.run(main)
