"""The futures of this package's executors, and how a thread makes a call for one.

They are `concurrent.futures.Future`, and a green function waits for one without blocking its loop.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from concurrent.futures import Future as Future
else:
    from verdigris.green.concurrent.futures import Future as Future


def call(
    future: Future[Any], fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> None:
    """Calls a function, and has its future done. Not if that was cancelled before."""
    if not future.set_running_or_notify_cancel():
        return
    try:
        result = fn(*args, **kwargs)
    except BaseException as error:
        future.set_exception(error)
        # This frame is in the traceback of the error, which the future has.
        del future
    else:
        future.set_result(result)
