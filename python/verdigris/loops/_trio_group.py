"""Calls made together on Trio."""

import contextlib
import contextvars
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import trio

from verdigris.loops._group import Group


class TrioGroup(Group):
    """System tasks in one cancel scope each.

    A nursery would have to be open in the one who waits, who may be an iterator that is left and
    entered again.
    """

    cancelled = trio.Cancelled

    def __init__(self) -> None:
        self._token = trio.lowlevel.current_trio_token()
        self._scopes: set[trio.CancelScope] = set()
        # Somebody waits for the last to end.
        self._ended: trio.Event | None = None

    def is_here(self) -> bool:
        return trio.lowlevel.in_trio_run() and (trio.lowlevel.current_trio_token() is self._token)

    async def start(self, coroutine: Coroutine[Any, Any, None]) -> None:
        scope = trio.CancelScope()
        self._scopes.add(scope)
        trio.lowlevel.spawn_system_task(
            self._run, coroutine, scope, context=contextvars.copy_context()
        )

    async def _run(self, coroutine: Coroutine[Any, Any, None], scope: trio.CancelScope) -> None:
        try:
            with scope:
                await coroutine
        finally:
            self._scopes.discard(scope)
            if self._ended is not None and not self._scopes:
                self._ended.set()

    async def end(self) -> None:
        self._cancel()
        with trio.CancelScope(shield=True):
            while self._scopes:
                self._ended = trio.Event()
                await self._ended.wait()

    def _cancel(self) -> None:
        for scope in tuple(self._scopes):
            scope.cancel()

    def drop(self) -> None:
        if self._scopes:
            with contextlib.suppress(trio.RunFinishedError):
                self._token.run_sync_soon(self._cancel)

    async def within(self, seconds: float, wait: Callable[[], Awaitable[None]]) -> bool:
        with trio.move_on_after(max(seconds, 0)) as scope:
            await wait()
        return not scope.cancelled_caught
