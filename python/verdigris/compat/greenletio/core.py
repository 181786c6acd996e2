"""greenletio's `async_` and `await_`, and the loop that `await_` starts where none runs."""

import asyncio
import functools
import inspect
import sys
from collections.abc import Callable
from typing import Any

import verdigris as _verdigris
from verdigris import can_await as _can_await

__all__ = ["GreenletBridge", "async_", "await_", "bridge"]


class GreenletBridge:
    """The loop for `await_` outside of any loop: the thread's current one, or a new one.

    It runs while `await_` waits, and its tasks go on whenever it does. (There is no greenlet. The
    name is greenletio's.)
    """

    def __init__(self) -> None:
        """Starts nothing."""
        self._own: asyncio.AbstractEventLoop | None = None

    def start(self) -> asyncio.AbstractEventLoop:
        """Gives the loop, and makes one if there is none."""
        loop = self._own
        if loop is None or loop.is_closed():
            loop = self._own = asyncio.new_event_loop()
            asyncio.set_event_loop(loop)
        return loop

    def stop(self) -> None:
        """Closes the loop."""
        loop, self._own = self._own, None
        if loop is not None and not loop.is_closed():
            loop.close()
            asyncio.set_event_loop(None)

    def wait(self, awaitable: Any) -> Any:
        """Runs the loop until the awaitable has its result."""
        if asyncio.isfuture(awaitable):
            return awaitable.get_loop().run_until_complete(awaitable)
        return self.start().run_until_complete(awaitable)


bridge = GreenletBridge()


def async_(fn: Callable[..., Any] | None = None, *, with_context: bool = False) -> Any:
    """Makes a sync function awaitable. Also a decorator, with or without arguments.

    Args:
        fn: The sync function.
        with_context: Whether it runs in a copy of the context, whose values are written back when
            it ends. By default it shares the context variables of whoever awaits it. (There it
            sees none of them.)

    Returns:
        A function whose calls can be awaited; without `fn` a decorator.
    """
    return _verdigris.async_(fn, with_context=with_context)


def await_(coro_or_fn: Any) -> Any:
    """Waits for an async function to complete, in a sync function. Also a decorator for one.

    Args:
        coro_or_fn: A coroutine, a future, or anything that can be awaited; or the function to
            decorate.

    Returns:
        The result; or the function, to be called from sync code.

    Raises:
        RuntimeError: Called in a task of a loop, with no `async_` function between. The coroutine
            is closed.
    """
    if not inspect.isawaitable(coro_or_fn):

        @functools.wraps(coro_or_fn)
        def wait(*args: Any, **kwargs: Any) -> Any:
            return await_(coro_or_fn(*args, **kwargs))

        return wait
    if _can_await():
        return _verdigris.await_(coro_or_fn)
    if _loop_runs():
        if inspect.iscoroutine(coro_or_fn):
            coro_or_fn.close()
        raise RuntimeError("await_ cannot be called from the asyncio task")
    return bridge.wait(coro_or_fn)


def _loop_runs() -> bool:
    trio = sys.modules.get("trio")
    in_trio = trio is not None and trio.lowlevel.in_trio_task()
    return in_trio or asyncio._get_running_loop() is not None
