"""Calls made together on Trio."""

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

    def __init__(self) -> None:
        self._scopes: set[trio.CancelScope] = set()

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

    async def cancel(self) -> None:
        self.drop()

    def drop(self) -> None:
        for scope in self._scopes:
            scope.cancel()

    async def within(self, seconds: float, wait: Callable[[], Awaitable[None]]) -> bool:
        with trio.move_on_after(max(seconds, 0)) as scope:
            await wait()
        return not scope.cancelled_caught

    async def shielded(self, wait: Callable[[], Awaitable[None]]) -> None:
        with trio.CancelScope(shield=True):
            await wait()
