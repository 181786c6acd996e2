"""`atomic`: blocks in which nothing else of a group runs."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Hashable
from inspect import CO_ASYNC_GENERATOR, CO_COROUTINE
from types import TracebackType
from typing import Any, TypeVar

from verdigris._coroutine_function import is_async
from verdigris._engine import RLock, enter_atomic, leave_atomic

F = TypeVar("F", bound=Callable[..., Any])

_locks: dict[Hashable, RLock] = {}


class atomic(contextlib.ContextDecorator):
    """A block that runs as one: no other code of its group runs in the middle of it.

    Between two waits a green function is alone on its loop, but nothing in the code says where the
    waits are: any call may hide one. In this block a wait is an error that names its line. Among OS
    threads (of verdigris' pool, of executors, the loops' own) blocks of the same group exclude each
    other, as with a lock that is held for the block. Blocks may be nested.

    It is for moments: a thread that wants to enter blocks until the other has left, a loop's too;
    a green function waits.

    In the body of an `async def` function the waits can't be seen, so it is only the lock there:
    do not `await` in the block.

    Args:
        group: What blocks exclude each other by: anything hashable. Without one, all blocks that
            have none are a group.

    Raises:
        RuntimeError: At the wait, inside of the block.
        TypeError: `group` is not hashable; or an async function was decorated.

    Example:
        >>> import asyncio
        >>> from verdigris import async_def, atomic, await_
        >>> accounts = {"a": 5, "b": 0}
        >>> def move(amount):
        ...     with atomic():
        ...         accounts["a"] -= amount
        ...         accounts["b"] += amount
        ...     await_(asyncio.sleep(0))  # outside it may wait
        >>> asyncio.run(async_def(move, 2))
        >>> accounts
        {'a': 3, 'b': 2}
    """

    def __init__(self, group: Hashable = None) -> None:
        """Takes the group. One object may be entered many times, by many."""
        self._lock = _locks.get(group) or _locks.setdefault(group, RLock())

    def __enter__(self) -> None:
        """Enters the block. Waits while another thread is in one of the group."""
        self._lock.acquire()
        # Where async code enters it, the block may end on another stack.
        if not sys._getframe(1).f_code.co_flags & (CO_COROUTINE | CO_ASYNC_GENERATOR):
            enter_atomic()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Leaves it."""
        if not sys._getframe(1).f_code.co_flags & (CO_COROUTINE | CO_ASYNC_GENERATOR):
            leave_atomic()
        self._lock.release()

    def __call__(self, func: F) -> F:
        """Has a sync function run in such a block, as a decorator."""
        if is_async(func):
            raise TypeError(
                "atomic() can't hold for an async function, which waits. Put the part that does "
                "not wait into a block or a sync function."
            )
        return super().__call__(func)
