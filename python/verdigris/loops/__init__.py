"""The event loops that verdigris knows by name.

`async_def` and `await_` need no file here: the engine passes through whatever the loop yields and
sends. Four things each loop does in its own way:

- starting, cancelling and joining a background task: :class:`LoopTask`;
- keeping a task's coroutine, which a portal takes the place of: :class:`PortalHost`;
- waiting for the outcome of work in another thread: :class:`Delivery`;
- making several calls together: :class:`Group`.

asyncio's serve uvloop too. A program that uses one loop library must not pay for importing
another, nor need it installed. A loop that runs has been imported already, so looking in
`sys.modules` is enough to find it.
"""

import functools
import importlib
import sys
from collections.abc import Callable
from typing import Any, TypeVar

from verdigris.loops._delivery import Delivery as Delivery
from verdigris.loops._delivery import discard as discard
from verdigris.loops._delivery import is_coroutine as is_coroutine
from verdigris.loops._group import Group as Group
from verdigris.loops._host import PortalHost as PortalHost
from verdigris.loops._task import LoopTask as LoopTask
from verdigris.loops._task import TaskCancelled as TaskCancelled

T = TypeVar("T")

__all__ = [
    "Delivery",
    "Group",
    "LoopTask",
    "PortalHost",
    "TaskCancelled",
    "cancellations",
    "current",
    "delivery",
    "discard",
    "group",
    "host_of",
    "in_thread",
    "is_coroutine",
    "running_host",
    "running_library",
]


def current() -> type[LoopTask[Any]] | None:
    """Finds the loop that runs the caller.

    Returns:
        How tasks are started on it, or None where no loop known here runs in this thread.
    """
    if _in_trio_task():
        from verdigris.loops._trio import TrioTask

        return TrioTask
    if _in_asyncio():
        from verdigris.loops._asyncio import AsyncioTask

        return AsyncioTask
    return None


def running_host() -> PortalHost | None:
    """Finds the library of the loop that runs the caller, or None."""
    library = running_library()
    return None if library is None else _HOSTS[library]()


def running_library() -> str | None:
    """Names the library of the loop that runs the caller: asyncio, trio or curio; or None."""
    if _in_trio_task():
        return "trio"
    if _in_asyncio():
        return "asyncio"
    curio = sys.modules.get("curio")
    if curio is not None and curio.meta.curio_running():
        return "curio"
    return None


def delivery() -> Delivery:
    """Makes what the caller waits with for work in another thread, on the loop that runs it.

    Raises:
        RuntimeError: No loop known here runs in this thread.
    """
    made: Delivery = _of_running_loop("Delivery")()
    return made


def group() -> Group:
    """Makes what calls are made together with, on the loop that runs the caller.

    Raises:
        RuntimeError: No loop known here runs in this thread.
    """
    made: Group = _of_running_loop("Group")()
    return made


def cancellations() -> tuple[type[BaseException], ...]:
    """What the loops that this program has loaded cancel tasks with."""
    names = (("asyncio", "CancelledError"), ("trio", "Cancelled"), ("curio", "CancelledError"))
    found = (getattr(sys.modules.get(module), name, None) for module, name in names)
    return tuple(kind for kind in found if kind is not None)


def _of_running_loop(kind: str) -> Any:
    library = running_library()
    if library is None:
        raise RuntimeError(
            "no asyncio, Trio or curio loop runs in this thread, so nothing can be awaited here. "
            "Start one, as with asyncio.run(...), or call block() in place of run()."
        )
    return _class_of(library, kind)


@functools.cache
def _class_of(library: str, kind: str) -> Any:
    module = importlib.import_module(f"verdigris.loops._{library}_{kind.lower()}")
    return getattr(module, library.capitalize() + kind)


def host_of(task: object) -> PortalHost | None:
    """Finds the library that a task belongs to, or None if it is no task of one known here."""
    for name, host in _HOSTS.items():
        if name in sys.modules and host().is_task(task):
            return host()
    return None


async def in_thread(function: Callable[[], T]) -> T:
    """Calls a function in an OS thread of the loop that runs, which must be known here."""
    if _in_trio_task():
        import trio

        return await trio.to_thread.run_sync(function, abandon_on_cancel=True)
    import asyncio

    return await asyncio.get_running_loop().run_in_executor(None, function)


def _in_trio_task() -> bool:
    # Asked for before asyncio: in guest mode Trio runs inside a running asyncio loop. But an
    # asyncio callback of the same thread is no Trio task, and belongs to asyncio.
    # While Trio is being imported it has no `lowlevel` yet.
    trio = sys.modules.get("trio")
    if trio is None:
        return False
    lowlevel = getattr(trio, "lowlevel", None)
    in_trio_task = getattr(lowlevel, "in_trio_task", None)
    return in_trio_task is not None and in_trio_task()


def _in_asyncio() -> bool:
    asyncio = sys.modules.get("asyncio")
    return asyncio is not None and asyncio._get_running_loop() is not None


@functools.cache
def _for_asyncio() -> PortalHost:
    from verdigris.loops._asyncio_host import AsyncioHost

    return AsyncioHost()


@functools.cache
def _for_trio() -> PortalHost:
    from verdigris.loops._trio_host import TrioHost

    return TrioHost()


@functools.cache
def _for_curio() -> PortalHost:
    from verdigris.loops._curio_host import CurioHost

    return CurioHost()


_HOSTS: dict[str, Callable[[], PortalHost]] = {
    "asyncio": _for_asyncio,
    "trio": _for_trio,
    "curio": _for_curio,
}
