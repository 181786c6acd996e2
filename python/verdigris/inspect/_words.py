"""What a function waits for, in words.

Everything is told by looking. Code of the program does not run: only what is asyncio's, Trio's or
our own is asked for its text.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from types import FrameType
from typing import Any

from verdigris.inspect._awaits import frames

_READ, _WRITE, _PRIORITY = 1, 2, 4

# Coroutines of the loops' libraries that are better known by name than by what they wait for. Of
# the second a local variable is told, if it has one.
_KNOWN = {
    ("asyncio.tasks", "sleep"): ("asyncio.sleep({})", "delay"),
    ("asyncio.threads", "to_thread"): ("a thread: {}", "func"),
    ("trio._timeouts", "sleep"): ("trio.sleep({})", "seconds"),
    ("trio._timeouts", "sleep_forever"): ("trio.sleep_forever()", None),
    ("trio._timeouts", "sleep_until"): ("trio.sleep_until({})", "deadline"),
    ("trio._threads", "to_thread_run_sync"): ("a thread: {}", "sync_fn"),
    ("trio._core._io_epoll", "EpollIOManager.wait_readable"): ("fd {} to be readable", "fd"),
    ("trio._core._io_epoll", "EpollIOManager.wait_writable"): ("fd {} to be writable", "fd"),
    ("trio._core._io_kqueue", "KqueueIOManager.wait_readable"): ("fd {} to be readable", "fd"),
    ("trio._core._io_kqueue", "KqueueIOManager.wait_writable"): ("fd {} to be writable", "fd"),
}


def of_chain(awaited: Sequence[object]) -> str:
    """Tells what a chain of awaitables waits for, of which the last is what the loop was given."""
    for awaitable in awaited:
        for frame in frames(awaitable)[-1:]:
            known = _of_library(frame)
            if known is not None:
                return known
    if not awaited:
        return "its next turn"
    last: Any = _waiter_on_trio(awaited) or awaited[-1]
    if _is_waiter(last):
        return _of_waiter(last)
    if hasattr(type(last), "_asyncio_future_blocking"):
        return _of_future(last)
    # Something of another library: the call that led there says more than a private object.
    names = [frame.f_code.co_qualname for each in awaited for frame in frames(each)]
    return names[0] if names else _text(last)


def _waiter_on_trio(awaited: Sequence[object]) -> object:
    """A wait of the reactor on Trio: the task sleeps, and knows no more than how to abort it."""
    for awaitable in awaited:
        for frame in frames(awaitable)[-1:]:
            if frame.f_code.co_name == "wait_task_rescheduled":
                abort = frame.f_locals.get("abort_func")
                for cell in getattr(abort, "__closure__", None) or ():
                    if _is_waiter(cell.cell_contents):
                        return cell.cell_contents
    return None


def _is_waiter(thing: object) -> bool:
    return type(thing).__name__ == "Waiter" and type(thing).__module__ == "verdigris._engine"


def _of_library(frame: FrameType) -> str | None:
    module = frame.f_globals.get("__name__", "")
    name = frame.f_code.co_qualname
    known = _KNOWN.get((module, name))
    if known is not None:
        words, variable = known
        if variable is None:
            return words
        return words.format(_told(frame.f_locals.get(variable)))
    if module.startswith(("asyncio.", "trio.")) and not frame.f_code.co_name.startswith("__"):
        # The methods of locks, events, queues...
        myself = frame.f_locals.get("self")
        if myself is not None and type(myself).__module__.startswith(("asyncio.", "trio.")):
            return f"{type(myself).__name__}.{frame.f_code.co_name}: {_text(myself)}"
    return None


def _told(value: object) -> str:
    if isinstance(value, (int, float, str)) or value is None:
        return str(value)
    if hasattr(value, "fileno"):
        return _text(value)
    return getattr(value, "__qualname__", None) or type(value).__qualname__


def _of_waiter(waiter: Any) -> str:
    """A wait of the reactor: descriptors, a deadline, a lock, or none of them."""
    found = waiter.waits_for
    if found is None:
        return "its next turn"
    fds, left, lock = found
    if fds:
        words = " or ".join(f"fd {fd} to be {_events(events)}" for fd, events in fds)
    elif lock is not None:
        words = f"a lock: {_text(lock)}"
    elif left is not None:
        return f"a timer, due in {left:.3f} s"
    else:
        words = "a call by another function"
    return words if left is None else f"{words}, for at most {left:.3f} s"


def _events(events: int) -> str:
    names = {_READ: "readable", _WRITE: "writable", _PRIORITY: "given urgent data"}
    return " or ".join(name for bit, name in names.items() if events & bit) or "closed"


def _of_future(future: Any) -> str:
    asyncio: Any = sys.modules.get("asyncio")
    if asyncio is None:
        return "a future"
    if isinstance(future, asyncio.Task):
        return f"task {future.get_name()!r}"
    children = getattr(future, "_children", None)
    if type(future).__name__ == "_GatheringFuture" and children is not None:
        return f"{sum(not child.done() for child in children)} of {len(children)} gathered tasks"
    for callback, *_ in getattr(future, "_callbacks", None) or ():
        if getattr(callback, "__qualname__", "").startswith("_chain_future."):
            return "a thread or a process (a future of concurrent.futures)"
    return "a future"


def _text(thing: object) -> str:
    """The text of what may be of a subclass that belongs to the program."""
    module = type(thing).__module__
    if module.partition(".")[0] in ("_asyncio", "_thread", "asyncio", "trio", "verdigris"):
        return repr(thing)
    return object.__repr__(thing)
