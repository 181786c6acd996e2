"""Portals: the power to call `await_` for a task that somebody else has started.

A portal is a `PortalCoroutine` of the engine, which runs every step of another coroutine on a
native stack. There are two places for it: in the task, instead of the task's own coroutine
(`ensure_portal`, `bestow_portal`), and inside the task, around one call (`with_portal_run`). No
registry says which task has one: the task's coroutines do.
"""

import sys
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, ParamSpec, TypeVar

from verdigris import _engine, loops
from verdigris._engine import GreenCoroutine, PortalCoroutine, can_await

P = ParamSpec("P")
T = TypeVar("T")


async def ensure_portal() -> None:
    """Makes the current task able to use `await_`, from here to its end.

    Any sync function that the task calls from now on, however deep, may call `await_`. A second
    call changes nothing. A task whose coroutine is an `async_def` needs no portal and gets none;
    nor does one inside `with_portal_run`, whose portal ends with that call.

    Always a checkpoint, of schedule and of cancellation, also where there is a portal already.

    Raises:
        RuntimeError: No loop known here runs the caller, or no task does, or the task has a
            portal of the package greenback.

    Example:
        >>> import asyncio
        >>> from verdigris import await_, ensure_portal
        >>> class Row:
        ...     def __getattr__(self, name):
        ...         return await_(asyncio.sleep(0, f"{name} was fetched"))
        >>> async def main():
        ...     await ensure_portal()
        ...     return Row().colour
        >>> asyncio.run(main())
        'colour was fetched'
    """
    # The usual case is that there is one, which knows the way through its loop.
    portal = _engine.current_portal()
    if portal is not None and portal.checkpoint is not None:
        await portal.checkpoint()
        return
    host = loops.running_host()
    if host is None:
        raise RuntimeError(
            "ensure_portal() knows the tasks of asyncio, Trio and curio, and none of these runs "
            "here. On another loop use with_portal_run(fn, ...), which works wherever coroutines "
            "are driven."
        )
    if portal is None:
        bestow_portal(await host.current_task())
    await host.checkpoint()


def bestow_portal(task: Any) -> None:
    """Makes a task able to use `await_`, from its next step on.

    For a task that waits that is at once: it can use `await_` as soon as it runs again. The task
    that calls this must yield to the loop once before its own portal works; `ensure_portal` does
    both. Not a checkpoint.

    Args:
        task: A task of asyncio, Trio or curio that has not ended. One that has a portal keeps it.

    Raises:
        TypeError: It is no task.
        RuntimeError: It has ended, or its loop runs in another thread, or it has a portal of the
            package greenback.

    Example:
        >>> import asyncio
        >>> from verdigris import await_, bestow_portal
        >>> def callback():
        ...     return await_(asyncio.sleep(0, "called"))
        >>> async def other():
        ...     await asyncio.sleep(0)
        ...     return callback()
        >>> async def main():
        ...     task = asyncio.create_task(other())
        ...     bestow_portal(task)
        ...     return await task
        >>> asyncio.run(main())
        'called'
    """
    host = loops.host_of(task)
    if host is None:
        raise TypeError(
            f"bestow_portal() needs a task of asyncio, Trio or curio, not {type(task).__name__!r}."
        )
    if host.has_ended(task):
        raise RuntimeError(f"{task!r} has ended, so a portal is of no use to it.")
    if not host.is_reachable(task):
        raise RuntimeError(
            f"{task!r} belongs to a loop of another thread. Call bestow_portal() there, or "
            f"ensure_portal() in the task."
        )
    if host.is_current(task) and _engine.current_portal() is not None:
        return
    coroutine = host.coroutine(task)
    if _is_portal_in(coroutine):
        return
    _refuse_greenback(task)
    portal = _engine.portal(coroutine)
    portal.checkpoint = host.checkpoint
    host.replace(task, coroutine, portal)


def has_portal(task: Any = None) -> bool:
    """Tells whether a task can use `await_`.

    For the current task: whether `await_` would work right here. That is so below `async_def`
    too, and not yet after `bestow_portal`, before the task has yielded. Not a checkpoint.

    Args:
        task: A task of asyncio, Trio or curio; by default the current one.

    Returns:
        False where no task runs, and for a task that has ended.

    Raises:
        TypeError: It is no task.

    Example:
        >>> import asyncio
        >>> from verdigris import ensure_portal, has_portal
        >>> async def main():
        ...     before = has_portal()
        ...     await ensure_portal()
        ...     return before, has_portal()
        >>> asyncio.run(main())
        (False, True)
    """
    if task is None:
        return can_await()
    host = loops.host_of(task)
    if host is None:
        raise TypeError(
            f"has_portal() needs a task of asyncio, Trio or curio, not {type(task).__name__!r}."
        )
    if host.has_ended(task):
        return False
    if host.is_current(task):
        return can_await()
    return _is_green_in(host.coroutine(task))


async def with_portal_run(
    async_fn: Callable[P, Awaitable[T]], /, *args: P.args, **kwargs: P.kwargs
) -> T:
    """Awaits an async function so that sync functions below it can use `await_`.

    Works on anything that drives coroutines. Adds no checkpoint to those of the function.

    Args:
        async_fn: The async function.
        *args: Its positional arguments.
        **kwargs: Its keyword arguments.

    Returns:
        What the function returns.

    Raises:
        BaseException: Whatever the function raises.

    Example:
        >>> import asyncio
        >>> from verdigris import await_, with_portal_run
        >>> def callback():
        ...     return await_(asyncio.sleep(0, "called"))
        >>> async def program():
        ...     return callback()
        >>> asyncio.run(with_portal_run(program))
        'called'
    """
    awaitable = async_fn(*args, **kwargs)
    if can_await():
        return await awaitable
    if not isinstance(awaitable, Coroutine):
        awaitable = _awaiting(awaitable)
    result: T = await _engine.portal(awaitable)
    return result


async def with_portal_run_sync(fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
    """Calls a sync function so that it can use `await_`.

    Like `async_def`, but a portal that is there is used, and `ensure_portal` below it sets no other
    one. Adds no checkpoint to those of the function.

    Args:
        fn: The sync function.
        *args: Its positional arguments.
        **kwargs: Its keyword arguments.

    Returns:
        What the function returns.

    Raises:
        BaseException: Whatever the function raises.

    Example:
        >>> import asyncio
        >>> from verdigris import await_, with_portal_run_sync
        >>> def work():
        ...     return await_(asyncio.sleep(0, "done"))
        >>> asyncio.run(with_portal_run_sync(work))
        'done'
    """
    if can_await():
        return fn(*args, **kwargs)
    result: T = await _engine.portal(_calling(fn, *args, **kwargs))
    return result


async def _calling(fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
    return fn(*args, **kwargs)


async def _awaiting(awaitable: Awaitable[T]) -> T:
    return await awaitable


def _is_portal_in(coroutine: object) -> bool:
    """Whether a task needs no portal: its coroutine is one, or is green from end to end, or it
    waits inside `with_portal_run`."""
    if isinstance(coroutine, GreenCoroutine):
        return True
    return any(isinstance(awaited, PortalCoroutine) for awaited in _chain(coroutine))


def _is_green_in(coroutine: object) -> bool:
    """Whether what runs when a waiting task goes on can use `await_`."""
    return any(
        isinstance(awaited, (PortalCoroutine, GreenCoroutine)) for awaited in _chain(coroutine)
    )


def _chain(coroutine: Any) -> Any:
    """A waiting coroutine, what it awaits, what that awaits, and so on, as far as can be seen."""
    while coroutine is not None:
        yield coroutine
        for attribute in ("cr_await", "gi_yieldfrom", "ag_await"):
            if hasattr(coroutine, attribute):
                coroutine = getattr(coroutine, attribute)
                break
        else:
            return


def _refuse_greenback(task: Any) -> None:
    # Its portal runs the task inside a greenlet, which can't be moved between native stacks.
    greenback = sys.modules.get("greenback._impl")
    if greenback is not None and task in getattr(greenback, "task_portals", ()):
        raise RuntimeError(
            f"{task!r} has a portal of greenback already. Use one of the two in a task; "
            f"`import verdigris.compat.greenback as greenback` makes them the same."
        )
