"""Every green function that waits, as it is seen from outside."""

from __future__ import annotations

import linecache
import sys
import traceback
from collections.abc import Iterable
from dataclasses import dataclass
from types import FrameType
from typing import Any

from verdigris import _engine
from verdigris._engine import GreenCoroutine, PortalCoroutine
from verdigris._unpatched import monotonic
from verdigris.inspect import _words
from verdigris.inspect._awaits import chain, frames
from verdigris.inspect._heap import look


@dataclass(frozen=True)
class Suspended:
    """A green function that waits. Made by `suspended`.

    Attributes:
        name: The qualified name of the function.
        coroutine: Its coroutine; for a task that has a portal, the portal.
        stack: All frames, the outermost first: those of the function, and of what it awaits.
        waits_for: What it waits for, in words.
        since: For how many seconds it has been waiting, if that is known (`enable`).
        task: The name of the loop's task that it runs in, if one drives it.
        thread: The name of the thread it runs in; None when that has ended, and for a task with a
            portal that waits in async code.
    """

    name: str
    coroutine: GreenCoroutine[Any] | PortalCoroutine[Any]
    stack: traceback.StackSummary
    waits_for: str
    since: float | None
    task: str | None
    thread: str | None

    __module__ = "verdigris.inspect"

    def __str__(self) -> str:
        """What it is and waits for, and its stack."""
        task = f", in task {self.task!r}" if self.task is not None else ""
        thread = f", in thread {self.thread!r}" if self.thread is not None else ""
        since = f", for {self.since:.3f} s so far" if self.since is not None else ""
        return (
            f"{self.name}{task}{thread}, waits for {self.waits_for}{since}:\n"
            f"{''.join(self.stack.format())}"
        ).rstrip()


def suspended() -> list[Suspended]:
    """Lists every green function of this process that waits, in whatever thread.

    Functions of `async_def`, green threads and tasks that have a portal. A function that was
    awaited by another one on the same stack is part of that stack. Can be called anywhere, in every
    thread, and in signal handlers; not a checkpoint. It looks through all objects that the garbage
    collector knows, which takes about 0.1 s for a million. Objects put aside by `gc.freeze` are
    not seen. A function that another thread goes on with meanwhile may be left out, or be shown
    with a stack and a wait of different moments.

    Example:
        >>> import asyncio
        >>> from verdigris import async_def, await_, inspect
        >>> def nap():
        ...     await_(asyncio.sleep(3600))
        >>> async def main():
        ...     task = asyncio.create_task(async_def(nap), name="a nap")
        ...     await asyncio.sleep(0)
        ...     for found in inspect.suspended():
        ...         if found.task == "a nap":
        ...             print(found.name, "waits for", found.waits_for)
        ...     task.cancel()
        >>> asyncio.run(main())
        nap waits for asyncio.sleep(3600)
    """
    heap = look()
    threads = _thread_names()
    now = monotonic()
    found = []
    seen_portals = set()
    for function in heap.functions:
        # One that has no stack of its own is part of another's; one that runs is not waiting.
        wait = _engine.wait_of(function)
        if wait is None:
            continue
        ident, portal, awaited, since = wait
        if portal is not None:
            seen_portals.add(id(portal))
        shown = function if portal is None else portal
        below = list(chain(awaited[-1])) if awaited else []
        own = frames(function)
        if not own:
            # Another thread has gone on with it since.
            continue
        found.append(
            Suspended(
                shown.__qualname__,
                shown,
                _stack([*own, *_frames_below(below)]),
                _words.of_chain(below if awaited else []),
                None if since is None else now - since,
                heap.task_of(function) or heap.task_of(portal),
                None if ident is None else threads.get(ident, str(ident)),
            )
        )
    for portal in heap.portals:
        # It waits by itself, and so has no stack.
        if id(portal) in seen_portals or portal.cr_running or not portal.cr_suspended:
            continue
        below = list(chain(portal))[1:]
        own = frames(portal)
        if not own:
            continue
        found.append(
            Suspended(
                portal.__qualname__,
                portal,
                _stack([*own, *_frames_below(below)]),
                _words.of_chain(below),
                None,
                heap.task_of(portal),
                None,
            )
        )
    return found


def _frames_below(awaited: Iterable[object]) -> list[FrameType]:
    return [frame for awaitable in awaited for frame in frames(awaitable)]


def _stack(found: Iterable[FrameType]) -> traceback.StackSummary:
    places = {}
    for frame in found:
        # Once each: what waits on the stack may be one of its own frames.
        linecache.lazycache(frame.f_code.co_filename, frame.f_globals)
        places[id(frame)] = traceback.FrameSummary(
            frame.f_code.co_filename, frame.f_lineno, frame.f_code.co_name, lookup_line=False
        )
    return traceback.StackSummary.from_list(places.values())


def stack_of(innermost: FrameType | None) -> traceback.StackSummary:
    """The stack of what runs."""
    found = []
    while innermost is not None:
        found.append(innermost)
        innermost = innermost.f_back
    return _stack(reversed(found))


def _thread_names() -> dict[int, str]:
    threading: Any = sys.modules.get("threading")
    if threading is None:
        return {}
    return {ident: thread.name for ident, thread in list(threading._active.items())}
