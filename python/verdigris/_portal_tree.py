"""Portals for whole trees of tasks.

How a task's children are seen is each loop's own: Trio calls an instrument for every task that a
nursery starts (`_trio_tree.py`), on asyncio the loop's `create_task` is watched
(`_asyncio_tree.py`). This module is what both have in common.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager
from typing import Any, ParamSpec, TypeVar
from weakref import WeakKeyDictionary

from verdigris import _engine, loops
from verdigris._engine import PortalCoroutine
from verdigris._portal import bestow_portal, with_portal_run

P = ParamSpec("P")
T = TypeVar("T")


@contextmanager
def portals_for_children() -> Iterator[None]:
    """Gives a portal to every task that is started within, and to the tasks that those start.

    The current task gets none, which is why this is a plain context manager and no checkpoint.

    On Trio: the tasks of nurseries that are opened within. On asyncio: the tasks that are made
    within by the loop's `create_task`, and so by `asyncio.create_task`, `TaskGroup`, `gather`,
    whatever the loop's task factory is, eager or not. A task that lives on when the block ends
    keeps its portal; what it starts later gets none.

    Raises:
        RuntimeError: Neither asyncio nor Trio runs the caller.

    Example:
        >>> import asyncio
        >>> from verdigris import has_portal, portals_for_children
        >>> async def child():
        ...     return has_portal()
        >>> async def main():
        ...     with portals_for_children():
        ...         return await asyncio.create_task(child()), has_portal()
        >>> asyncio.run(main())
        (True, False)
    """
    with _children_of_this_task():
        yield


# The portals that `portals_for_tree` has set, and by how many blocks each is used. The blocks of a
# task may end in any order.
_blocks: "WeakKeyDictionary[PortalCoroutine[Any], int]" = WeakKeyDictionary()


@asynccontextmanager
async def portals_for_tree() -> AsyncIterator[None]:
    """Gives a portal to the current task and, as `portals_for_children`, to those it starts.

    Entering and leaving it are schedule points, but no cancellation points. At the end the
    current task loses its portal, if it got it here. (Unless sync code called the end of the
    block, by `await_`: then the task keeps it.)

    Raises:
        RuntimeError: Neither asyncio nor Trio runs the caller, or the task can't have a portal.

    Example:
        >>> import asyncio
        >>> from verdigris import has_portal, portals_for_tree
        >>> async def child():
        ...     return has_portal()
        >>> async def main():
        ...     async with portals_for_tree():
        ...         within = has_portal(), await asyncio.create_task(child())
        ...     return within, has_portal()
        >>> asyncio.run(main())
        ((True, True), False)
    """
    with _children_of_this_task():
        host = loops.running_host()
        assert host is not None
        task = await host.current_task()
        portal = _engine.current_portal()
        if portal is None:
            before = host.coroutine(task)
            bestow_portal(task)
            now = host.coroutine(task)
            if now is not before and isinstance(now, PortalCoroutine):
                portal = now
                _blocks[portal] = 0
        if portal is None or portal not in _blocks:
            # One that was there before stays.
            try:
                await host.shielded_checkpoint()
                yield
            finally:
                await host.shielded_checkpoint()
            return
        _blocks[portal] += 1
        try:
            await host.shielded_checkpoint()
            yield
        finally:
            _blocks[portal] -= 1
            if _blocks[portal] == 0:
                del _blocks[portal]
                _withdraw(host, task, portal)
            await host.shielded_checkpoint()


def _withdraw(host: loops.PortalHost, task: Any, portal: PortalCoroutine[Any]) -> None:
    """Puts the task's own coroutine back."""
    # Another library may have put something of its own around the portal since.
    if not host.has_ended(task) and host.coroutine(task) is portal and _engine.can_withdraw(portal):
        host.replace(task, portal, portal.coroutine)


async def with_portal_run_tree(
    async_fn: Callable[P, Awaitable[T]], /, *args: P.args, **kwargs: P.kwargs
) -> T:
    """Awaits an async function so that it and all tasks it starts can use `await_` in sync code.

    This is `with_portal_run` inside `portals_for_children`. For a whole program:
    `asyncio.run(with_portal_run_tree(main))`, `trio.run(with_portal_run_tree, main)`. Adds no
    checkpoint to those of the function.

    Args:
        async_fn: The async function.
        *args: Its positional arguments.
        **kwargs: Its keyword arguments.

    Returns:
        What the function returns.

    Raises:
        RuntimeError: Neither asyncio nor Trio runs the caller.
        BaseException: Whatever the function raises.

    Example:
        >>> import asyncio
        >>> from verdigris import await_, with_portal_run_tree
        >>> def callback(number):
        ...     return await_(asyncio.sleep(0, number))
        >>> async def child(number):
        ...     return callback(number)
        >>> async def main():
        ...     return await asyncio.gather(child(1), child(2))
        >>> asyncio.run(with_portal_run_tree(main))
        [1, 2]
    """
    with _children_of_this_task():
        return await with_portal_run(async_fn, *args, **kwargs)


def _children_of_this_task() -> AbstractContextManager[None]:
    host = loops.running_host()
    if host is not None and host.name == "trio":
        from verdigris import _trio_tree

        return _trio_tree.children_of_this_task()
    if host is not None and host.name == "asyncio":
        from verdigris import _asyncio_tree

        return _asyncio_tree.children_of_this_task()
    raise RuntimeError(
        "Portals for a tree of tasks need asyncio or Trio, and neither runs here. Elsewhere call "
        "ensure_portal() or with_portal_run() in each task."
    )
