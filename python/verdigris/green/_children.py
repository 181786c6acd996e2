"""Waiting for child processes, without a thread.

A child that is known by its number is waited for by a descriptor of it (`pidfd_open`, Linux 5.3),
which is ready when it has exited. The rest (any child, a group, children that stop or go on, no
such descriptor) is asked for again and again, at the pace of `Popen.wait` with a timeout. A thread
that waits would be quicker, but could not be called back: when its function is cancelled it would
take the child's exit status from whoever waits for it next, and hold up the end of the loop.
"""

from __future__ import annotations

import os as _os
from collections.abc import Callable
from time import monotonic as _monotonic
from typing import TypeVar

from verdigris.green import _wait

_close = _os.close
_pidfd_open = getattr(_os, "pidfd_open", None)

_LONGEST_PAUSE = 0.05
_LONGEST_WAIT = 1_000_000.0

_T = TypeVar("_T")


def until(attempt: Callable[[], _T | None], pid: int, timeout: float | None = None) -> _T | None:
    """Calls `attempt`, which must not wait, until it returns something. Only where `is_green()`.

    Args:
        attempt: Asks for the child.
        pid: The child whose exit is waited for, or 0 where it is not one, or more than exit.
        timeout: Seconds, or None.

    Returns:
        What `attempt` returned, or None when the time is over.
    """
    result = attempt()
    if result is not None or (timeout is not None and timeout <= 0):
        return result
    end = None if timeout is None else _monotonic() + timeout
    number = _descriptor(pid)
    if number is not None:
        try:
            # Once more: now that there is a descriptor, this tells whether it is of this child,
            # and not of another process that got its number.
            if (result := attempt()) is not None:
                return result
            _wait.fd(number, _wait.READ, None if timeout is None else min(timeout, _LONGEST_WAIT))
        finally:
            _wait.forget(number)
            _close(number)
    left = None if end is None else end - _monotonic()
    return _wait.ask_again(attempt, left, _LONGEST_PAUSE)


def _descriptor(pid: int) -> int | None:
    if not pid or _pidfd_open is None:
        return None
    try:
        return _pidfd_open(pid)  # type: ignore[no-any-return]
    except OSError:
        return None  # An old kernel, a sandbox, no descriptor left: there is the other way.
