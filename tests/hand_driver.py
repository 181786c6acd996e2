"""Driving a coroutine by hand, with no event loop at all.

Only the coroutine protocol is promised to whoever drives a green function, so
most tests need no loop: `suspend(tag)` is the smallest awaitable that really
suspends, and `finish(coro)` runs a coroutine to its end.
"""

from __future__ import annotations

import types
from collections.abc import Callable, Coroutine, Generator
from typing import Any


@types.coroutine
def suspend(tag: object = None) -> Generator[object, Any, Any]:
    """Yield `tag` to the driver; what the driver sends is the result."""
    return (yield tag)


async def value(result: object) -> Any:
    """A coroutine that never suspends."""
    return result


def finish(
    coro: Coroutine[Any, Any, Any], answer: Callable[[Any], object] = lambda tag: None
) -> Any:
    """Drive `coro` to its end, sending `answer(tag)` for every tag it yields."""
    reply: object = None
    while True:
        try:
            tag = coro.send(reply)
        except StopIteration as end:
            return end.value
        reply = answer(tag)
