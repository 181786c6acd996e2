"""What a reactor needs of Trio: a system task that watches it, and the sleep of tasks."""

from __future__ import annotations

import contextvars
import math
import time
import weakref
from collections.abc import Awaitable
from typing import Any

import trio

from verdigris import _engine
from verdigris.loops._task import SECONDS_TO_END
from verdigris.loops._trio import TrioTask


class TrioBackend:
    """One run of Trio and its reactor."""

    def __init__(self, token: trio.lowlevel.TrioToken) -> None:
        # Weakly: the reactor is kept for as long as the token lives.
        self._token = weakref.ref(token)
        self._scope = trio.CancelScope()
        # Asked for where Trio is hidden, too: in a function that runs a loop of its own.
        self._clock = trio.lowlevel.current_clock()
        self.reactor = _engine.reactor(self, token, True, self._clock.current_time)
        trio.lowlevel.spawn_system_task(
            self._watch, name="verdigris reactor", context=contextvars.Context()
        )
        self.host = trio.lowlevel.current_task
        self.reschedule = trio.lowlevel.reschedule
        self.checkpoint = trio.lowlevel.checkpoint

    async def _watch(self) -> None:
        try:
            while True:
                await self._turn()
        except trio.Cancelled:
            # The run ends; system tasks are cancelled last. Functions see to their ends now, and
            # would block the thread if they found nothing to wait with.
            with trio.CancelScope(shield=True):
                await self._see_tasks_out()
            raise
        finally:
            self.reactor.close()

    async def _turn(self, longest: float = math.inf) -> None:
        deadline = min(self._scope.deadline, self._clock.current_time() + longest)
        # One scope a wait: a deadline that has come cancels it for good.
        with trio.CancelScope(deadline=deadline) as self._scope:
            await trio.lowlevel.wait_readable(self.reactor.fileno())
        if self._scope.cancelled_caught:
            self._scope.deadline = math.inf
            self.reactor.on_timer()
        else:
            self.reactor.turn()

    async def _see_tasks_out(self) -> None:
        end = time.monotonic() + SECONDS_TO_END
        await trio.lowlevel.cancel_shielded_checkpoint()
        while TrioTask.any_in(trio.lowlevel.current_task().parent_nursery):
            if time.monotonic() > end:
                return
            await self._turn(0.002)

    def soon(self) -> None:
        """Asks for a turn in the next iteration."""
        token = self._token()
        if token is not None:
            token.run_sync_soon(self.reactor.run_ready, idempotent=True)

    def arm(self, delay: float) -> None:
        """Asks for a turn in so many seconds, in place of what was asked for before."""
        self._scope.deadline = self._clock.current_time() + delay

    def park(self, waiter: Any) -> Awaitable[Any]:
        """What the current task awaits until it is rescheduled."""

        def abort(_: object) -> trio.lowlevel.Abort:
            return trio.lowlevel.Abort.SUCCEEDED if waiter.abort() else trio.lowlevel.Abort.FAILED

        return trio.lowlevel.wait_task_rescheduled(abort)
