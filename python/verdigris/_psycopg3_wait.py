"""How psycopg 3 waits in green functions.

psycopg's sync and async connections share generators, which yield what they wait for: reading,
writing, or both. `psycopg.waiting` drives them. Its `wait` is a function in C where that can be
had, and it blocks. Here are two functions that drive the generators on a green function's loop,
for the place of `wait` and `wait_conn`.

A loop's cancellation is none of the interruptions that psycopg's sync connection knows, so it
would leave the query running. `Connection.wait` does for it what the async connection does: cancel
on the server, and take what it says to that, so that the connection can be used again. The same
goes for `Connection.__exit__`, which must close a connection whatever comes.
"""

import contextlib
import os
import sys
import time
from collections.abc import Callable, Generator, Iterator
from typing import Any

from psycopg import OperationalError, errors, waiting
from psycopg.pq import TransactionStatus

from verdigris.green import _wait

_monotonic = time.monotonic
_fstat = os.fstat

# How long the server may take to end a query that was cancelled.
_SECONDS_TO_CANCEL = 5.0


def waiting_for(before: Callable[..., Any]) -> Callable[..., Any]:
    def wait(
        gen: Any, fileno: int, interval: float | None = 0.0, timeout: float | None = None
    ) -> Any:
        if not _wait.is_green():
            return before(gen, fileno, interval, *(() if timeout is None else (timeout,)))
        deadline = None if timeout is None else _monotonic() + timeout
        try:
            wanted = next(gen)
            while True:
                wanted = gen.send(_ready(fileno, wanted, interval, deadline))
                _check(deadline)
        except StopIteration as end:
            return end.value

    return wait


def waiting_to_connect(before: Callable[..., Any]) -> Callable[..., Any]:
    def wait_conn(gen: Any, interval: float | None = 0.0, timeout: float | None = None) -> Any:
        if not _wait.is_green():
            return before(gen, interval, timeout)
        # Older releases say 0 for no timeout.
        deadline = _monotonic() + timeout if timeout else None
        try:
            fileno, wanted = next(gen)
            while True:
                fileno, wanted = gen.send(_ready(fileno, wanted, interval, deadline))
                _check(deadline)
        except StopIteration as end:
            return end.value

    return wait_conn


def _ready(fileno: int, wanted: int, interval: float | None, deadline: float | None) -> int:
    """Waits for a descriptor, and gives what psycopg calls `Ready`: 0 when the interval is over.

    A generator may count on being asked again after the interval (`Connection.notifies`).
    """
    timeout = interval
    if deadline is not None:
        left = max(0.0, deadline - _monotonic())
        timeout = left if interval is None else min(interval, left)
    try:
        # Reading is 1 and writing 2, there and here.
        ready = _wait.fd(fileno, int(wanted), timeout) & int(wanted)
        if not ready:
            _fstat(fileno)
    except TimeoutError:
        # One of the loop's, which comes from outside.
        raise
    except OSError as error:
        raise OperationalError("connection socket closed") from error
    return ready


def _check(deadline: float | None) -> None:
    if deadline is not None and _monotonic() >= deadline:
        # Releases before 3.3 know one error for it.
        raise getattr(errors, "_WaitTimeout", errors.ConnectionTimeout)("wait timeout expired")


def cancelling(before: Callable[..., Any]) -> Callable[..., Any]:
    def wait(self: Any, gen: Any, *args: Any, **kwargs: Any) -> Any:
        if not _wait.is_green():
            return before(self, gen, *args, **kwargs)
        try:
            return before(self, gen, *args, **kwargs)
        except (Exception, KeyboardInterrupt, SystemExit):
            # Errors leave the connection in order, and psycopg knows these two interruptions.
            raise
        except BaseException as cancelled:
            if self.pgconn.transaction_status == TransactionStatus.ACTIVE:
                _end_query(self, gen, may_wait=not isinstance(cancelled, GeneratorExit))
            raise

    return wait


def closing(before: Callable[..., Any]) -> Callable[..., Any]:
    """`Connection.__exit__`. It rolls back or commits, closes, and survives errors of the first.

    Not cancellations, which leave the connection open. Trio cancels that wait, too.
    """

    def __exit__(self: Any, *error: Any) -> Any:
        try:
            return before(self, *error)
        except Exception:
            raise
        except BaseException:
            if not getattr(self, "_pool", None):
                self.close()
            raise

    return __exit__


def _end_query(connection: Any, gen: Any, may_wait: bool) -> None:
    """Cancels a query on the server and reads what is left of it, or closes the connection."""
    ended = False
    try:
        if may_wait:
            with _shielded():
                _cancel(connection)
                deadline = _monotonic() + _SECONDS_TO_CANCEL
                waiting.wait(_until(gen, deadline), connection.pgconn.socket, 0.1)
            ended = True
    except errors.QueryCanceled:
        ended = True
    except errors.Error:
        # Lost, or not ended in time: closed below, and the cancellation goes on.
        return
    finally:
        if not ended:
            connection.pgconn.finish()


def _until(gen: Any, deadline: float) -> Generator[Any, Any, Any]:
    """The rest of a generator, for a time."""
    wanted = next(gen)
    while True:
        ready = yield wanted
        try:
            wanted = gen.send(ready)
        except StopIteration as end:
            return end.value
        if _monotonic() >= deadline:
            raise OperationalError("the query was cancelled, and did not end")


def _cancel(connection: Any) -> None:
    if _cancels_safely():
        connection._try_cancel(timeout=_SECONDS_TO_CANCEL)
    else:
        # libpq before 17 opens a connection for it and blocks.
        _wait.offload(connection.cancel)


def _cancels_safely() -> bool:
    try:
        from psycopg import capabilities
    except ImportError:  # psycopg 3.1
        return False
    return bool(capabilities.has_cancel_safe())


@contextlib.contextmanager
def _shielded() -> Iterator[None]:
    """Lets a cancelled task wait. On asyncio it may anyway: a cancellation is raised once."""
    trio = sys.modules.get("trio")
    if trio is None or not trio.lowlevel.in_trio_task():
        yield
        return
    with trio.CancelScope(shield=True):
        yield
