"""Outcomes that arrive on asyncio, and on every loop that keeps its interface (uvloop)."""

import asyncio
from typing import Any

from verdigris.loops._delivery import Delivery, discard


class AsyncioDelivery(Delivery):
    """An outcome in a future of the running loop."""

    __slots__ = ("_future", "_loop")

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._future: asyncio.Future[tuple[Any, BaseException | None]] | None
        self._future = self._loop.create_future()

    @property
    def abandoned(self) -> bool:  # type: ignore[override]
        return self._future is not None and self._future.cancelled()

    def deliver(self, value: Any, error: BaseException | None) -> None:
        # As a result even where it is an error: a future takes no StopIteration, and reports what
        # nobody looks at, as when the one who waits was cancelled.
        try:
            self._loop.call_soon_threadsafe(self._arrive, value, error)
        except RuntimeError:
            discard(value)  # the loop is closed

    def _arrive(self, value: Any, error: BaseException | None) -> None:
        if self._future is None or self._future.done():
            discard(value)
        else:
            self._future.set_result((value, error))

    async def wait(self) -> Any:
        assert self._future is not None
        value, error = await self._future
        self._future = None  # it has the outcome, and an error's traceback has who made this
        if error is None:
            return value
        try:
            raise error
        finally:
            del error, self  # the traceback has this frame
