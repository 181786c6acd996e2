"""The chain of what is awaited: from an awaitable down to what the loop was given."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from types import AsyncGeneratorType, CoroutineType, FrameType, GeneratorType
from typing import Any

from verdigris._engine import GreenCoroutine, PortalCoroutine

# Iterators that tell nobody what they step: the collector knows.
_OPAQUE = {
    "FutureIter",
    "anext_awaitable",
    "async_generator_asend",
    "async_generator_athrow",
    "coroutine_wrapper",
}

_NATIVE = (GreenCoroutine, PortalCoroutine, CoroutineType)


def chain(awaitable: object) -> Iterator[object]:
    """Gives an awaitable, what that awaits, and so on."""
    seen = set()
    while awaitable is not None and id(awaitable) not in seen:
        seen.add(id(awaitable))
        yield awaitable
        awaitable = _awaited_by(awaitable)


def _awaited_by(awaitable: Any) -> object:
    if isinstance(awaitable, _NATIVE):
        return awaitable.cr_await
    if isinstance(awaitable, AsyncGeneratorType):
        return awaitable.ag_await
    if isinstance(awaitable, GeneratorType):
        if awaitable.gi_yieldfrom is None and awaitable.gi_code.co_name == "__await__":
            # A future that is written in Python waits for itself, in its method.
            frame = awaitable.gi_frame
            future = None if frame is None else frame.f_locals.get("self")
            return future if hasattr(future, "_asyncio_future_blocking") else None
        return awaitable.gi_yieldfrom
    if type(awaitable).__name__ in _OPAQUE:
        for part in gc.get_referents(awaitable):
            if isinstance(part, (*_NATIVE, AsyncGeneratorType)) or hasattr(
                type(part), "_asyncio_future_blocking"
            ):
                return part
    return None


def frames(awaitable: Any) -> list[FrameType]:
    """The frames of one that waits, the outermost first: of a green function all of its stack."""
    frame: FrameType | None = None
    if isinstance(awaitable, _NATIVE):
        frame = awaitable.cr_frame
    elif isinstance(awaitable, AsyncGeneratorType):
        frame = awaitable.ag_frame
    elif isinstance(awaitable, GeneratorType):
        frame = awaitable.gi_frame
    found = []
    while frame is not None:
        found.append(frame)
        frame = frame.f_back
    found.reverse()
    return found
