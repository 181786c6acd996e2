"""Outcomes that arrive on asyncio, and on every loop that keeps its interface (uvloop)."""

import asyncio
from typing import Any

from verdigris.loops._delivery import Delivery, discard


class AsyncioDelivery(Delivery):
    """An outcome in a future of the running loop."""

    __slots__ = ("_future", "_loop")

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._future: asyncio.Future[tuple[Any, BaseException | None]] = self._loop.create_future()

    @property
    def abandoned(self) -> bool:  # type: ignore[override]
        return self._future.cancelled()

    def deliver(self, value: Any, error: BaseException | None) -> None:
        # As a result even where it is an error: a future takes no StopIteration, and reports what
        # nobody looks at, as when the one who waits was cancelled.
        try:
            self._loop.call_soon_threadsafe(_set, self._future, (value, error))
        except RuntimeError:
            discard(value)  # the loop is closed

    async def wait(self) -> Any:
        value, error = await self._future
        if error is None:
            return value
        try:
            raise error
        finally:
            del error, self  # the traceback has this frame


def _set(future: asyncio.Future[Any], outcome: tuple[Any, BaseException | None]) -> None:
    if future.done():
        discard(outcome[0])
    else:
        future.set_result(outcome)
