"""Outcomes that arrive on curio."""

import concurrent.futures
from typing import Any

import curio

from verdigris.loops._delivery import Delivery, discard


class CurioDelivery(Delivery):
    """An outcome in a future of `concurrent.futures`, which curio's kernel knows to wait for."""

    __slots__ = ("_future", "_outcome", "abandoned")
    home = ("curio", None)

    def __init__(self) -> None:
        self._future: concurrent.futures.Future[None] = concurrent.futures.Future()
        # Not in the future, which curio's task keeps.
        self._outcome: tuple[Any, BaseException | None] = (None, None)
        self.abandoned = False

    def deliver(self, value: Any, error: BaseException | None) -> None:
        # curio cancels the future when the one who waits is cancelled.
        if self._future.set_running_or_notify_cancel():
            self._outcome = (value, error)
            self._future.set_result(None)
        else:
            discard(value)

    async def wait(self) -> Any:
        try:
            await curio.traps._future_wait(self._future)
        except BaseException:
            self.abandoned = True
            discard(self._outcome[0])
            raise
        value, error = self._outcome
        self._outcome = (None, None)
        if error is None:
            return value
        try:
            raise error
        finally:
            del error, self  # the traceback has this frame
