"""Outcomes that arrive on Trio."""

from typing import Any

import outcome
import trio

from verdigris.loops._delivery import Delivery, discard


class TrioDelivery(Delivery):
    """An outcome that a parked task is rescheduled with."""

    __slots__ = ("_arrived", "_outcome", "_task", "_token", "abandoned", "home")

    def __init__(self) -> None:
        self._token = trio.lowlevel.current_trio_token()
        self.home = ("trio", self._token)
        # The one that is parked.
        self._task: trio.lowlevel.Task | None = None
        self._arrived = False
        self._outcome: tuple[Any, BaseException | None] = (None, None)
        self.abandoned = False

    def deliver(self, value: Any, error: BaseException | None) -> None:
        try:
            self._token.run_sync_soon(self._arrive, value, error)
        except trio.RunFinishedError:
            discard(value)

    def _arrive(self, value: Any, error: BaseException | None) -> None:
        if self.abandoned:
            discard(value)
            return
        self._outcome, self._arrived = (value, error), True
        if self._task is not None:
            task, self._task = self._task, None
            trio.lowlevel.reschedule(task, outcome.Value(None))

    async def wait(self) -> Any:
        try:
            if self._arrived:
                await trio.lowlevel.checkpoint()
            else:
                self._task = trio.lowlevel.current_task()
                await trio.lowlevel.wait_task_rescheduled(self._abort)
        except trio.Cancelled:
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

    def _abort(self, raise_cancel: Any) -> trio.lowlevel.Abort:
        self._task = None
        return trio.lowlevel.Abort.SUCCEEDED
