"""What green modules wait with: the engine's reactor, and threads for what can't be watched.

Everything here is dual-mode: where the caller cannot wait without blocking a loop (`is_green()` is
False), it does exactly what the stdlib does.
"""

from __future__ import annotations

import _thread
from collections.abc import Callable
from time import monotonic
from typing import Any, ParamSpec, TypeVar

import verdigris.loops._reactors  # noqa: F401 - the engine finds reactors through it
from verdigris import loops
from verdigris._engine import (
    SOCKET_METHODS,
    Lock,
    RLock,
    await_,
    current,
    get_ident,
    give_way,
    is_green,
    retry,
    sleep,
    starts_green_threads,
)
from verdigris._engine import forget_fd as forget
from verdigris._engine import wait_fd as fd
from verdigris._engine import wait_fds as fds

__all__ = [
    "PRIORITY",
    "READ",
    "SOCKET_METHODS",
    "WRITE",
    "Lock",
    "RLock",
    "ask_again",
    "current",
    "end",
    "fd",
    "fds",
    "forget",
    "get_ident",
    "give_way",
    "in_own_thread",
    "is_green",
    "offload",
    "retry",
    "running_inner_loops",
    "sleep",
    "starts_green_threads",
]

P = ParamSpec("P")
T = TypeVar("T")

READ, WRITE, PRIORITY = 1, 2, 4

#: The identities of functions that run a loop of their own just now (`verdigris._inner_loop`).
running_inner_loops: set[int] = set()

_start_os_thread: Callable[..., int] = _thread.start_new_thread


def end(number: int, close: Callable[[int], T]) -> T:
    """Ends what a descriptor stands for, by `close(number)`, and wakes all who wait for it."""
    forget(number)
    try:
        return close(number)
    finally:
        # Once more: who was woken in another thread may have waited again before it was closed.
        forget(number)


def ask_again(
    attempt: Callable[[], T | None], timeout: float | None, longest_pause: float
) -> T | None:
    """Calls `attempt`, which must not wait, until it returns something. Only where `is_green()`.

    For what the kernel tells nobody about. The first pause is 1 ms, each is twice the one before.

    Args:
        attempt: Asks whether it has come.
        timeout: Seconds, or None.
        longest_pause: Seconds that are waited at most before it is asked for again.

    Returns:
        What `attempt` returned, or None when the time is over.
    """
    end = None if timeout is None else monotonic() + timeout
    pause = 0.0005
    while (result := attempt()) is None:
        pause = min(pause * 2, longest_pause)
        if end is not None:
            left = end - monotonic()
            if left <= 0:
                return None
            pause = min(pause, left)
        sleep(pause)
    return result


def offload(function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
    """Calls a function that blocks: in an OS thread where `is_green()`, right here elsewhere.

    Who waits for it can be cancelled; the thread goes on then, and nobody looks at the result.
    """
    if not is_green():
        return function(*args, **kwargs)
    if get_ident() in running_inner_loops:
        # In the callbacks and tasks of an inner loop `await_` is refused. That loop stands still
        # meanwhile, as it does anywhere, and the outer one goes on.
        return in_own_thread(lambda: function(*args, **kwargs))
    return await_(loops.in_thread(lambda: function(*args, **kwargs)))


def in_own_thread(function: Callable[[], T]) -> T:
    """Calls it in an OS thread of its own, and waits for that, in a function that runs green.

    Nobody else waits for the thread: a call that never returns keeps neither a loop nor the
    interpreter from its end.
    """
    ended = Lock()
    ended.acquire()
    outcome: dict[str, Any] = {}

    def run() -> None:
        try:
            outcome["value"] = function()
        except BaseException as error:
            outcome["error"] = error
        finally:
            ended.release()

    _start_os_thread(run, ())
    ended.acquire()
    if "error" in outcome:
        try:
            raise outcome["error"]
        finally:
            outcome.clear()  # The traceback has this frame.
    value: T = outcome["value"]
    return value
