"""What green modules wait with: the engine's reactor, and threads for what can't be watched.

Everything here is dual-mode: where the caller cannot wait without blocking a loop (`is_green()` is
False), it does exactly what the stdlib does.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ParamSpec, TypeVar

import verdigris.loops._reactors  # noqa: F401 - the engine finds reactors through it
from verdigris import loops
from verdigris._engine import (
    SOCKET_METHODS,
    Lock,
    RLock,
    await_,
    current,
    get_ident,
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
    "current",
    "fd",
    "fds",
    "forget",
    "get_ident",
    "is_green",
    "offload",
    "retry",
    "sleep",
    "starts_green_threads",
]

P = ParamSpec("P")
T = TypeVar("T")

READ, WRITE, PRIORITY = 1, 2, 4


def offload(function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
    """Calls a function that blocks: in an OS thread where `is_green()`, right here elsewhere.

    Who waits for it can be cancelled; the thread goes on then, and nobody looks at the result.
    """
    if not is_green():
        return function(*args, **kwargs)
    return await_(loops.in_thread(lambda: function(*args, **kwargs)))
