"""What a reactor needs of Trio: a system task that watches it, and the sleep of tasks."""

from __future__ import annotations

import contextvars
import math
from collections.abc import Awaitable
from typing import Any

import trio

from verdigris import _engine


class TrioBackend:
    """One run of Trio and its reactor."""

    def __init__(self, token: trio.lowlevel.TrioToken) -> None:
        self._scope = trio.CancelScope()
        self.reactor = _engine.reactor(self, token, True, trio.current_time)
        trio.lowlevel.spawn_system_task(
            self._watch, name="verdigris reactor", context=contextvars.Context()
        )
        self.host = trio.lowlevel.current_task
        self.reschedule = trio.lowlevel.reschedule
        self.checkpoint = trio.lowlevel.checkpoint

    async def _watch(self) -> None:
        fileno = self.reactor.fileno()
        try:
            while True:
                # One scope a wait: a deadline that has come cancels it for good.
                with trio.CancelScope(deadline=self._scope.deadline) as self._scope:
                    await trio.lowlevel.wait_readable(fileno)
                if self._scope.cancelled_caught:
                    self._scope.deadline = math.inf
                    self.reactor.on_timer()
                else:
                    self.reactor.turn()
        finally:
            # The run ends; system tasks are cancelled last.
            self.reactor.close()

    def soon(self) -> None:
        """Asks for a turn in the next iteration."""
        trio.lowlevel.current_trio_token().run_sync_soon(self.reactor.run_ready, idempotent=True)

    def arm(self, delay: float) -> None:
        """Asks for a turn in so many seconds, in place of what was asked for before."""
        self._scope.deadline = trio.current_time() + delay

    def park(self, waiter: Any) -> Awaitable[Any]:
        """What the current task awaits until it is rescheduled."""

        def abort(_: object) -> trio.lowlevel.Abort:
            return trio.lowlevel.Abort.SUCCEEDED if waiter.abort() else trio.lowlevel.Abort.FAILED

        return trio.lowlevel.wait_task_rescheduled(abort)
