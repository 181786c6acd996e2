"""psycopg 3 in green functions.

psycopg's sync and async connections share generators, which yield what they wait for: reading,
writing, or both. `psycopg.waiting` drives them. Its `wait` is a function in C where that can be
had, and it blocks. Here are two functions that drive the generators on a green function's loop,
put in the place of `wait` and `wait_conn` wherever psycopg has taken them by name.

A loop's cancellation is none of the interruptions that psycopg's sync connection knows, so it
would leave the query running. `Connection.wait` does for it what the async connection does: cancel
on the server, and take what it says to that, so that the connection can be used again.
"""

import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

from verdigris.green import _wait

_monotonic = time.monotonic
_fstat = os.fstat

# How long the server may take to end a query that was cancelled.
_SECONDS_TO_CANCEL = 5.0


class PatchedPsycopg:
    """psycopg 3 with wait functions of ours. Made by `patch_psycopg`.

    As a context manager it is undone at the end of the block.
    """

    def __init__(self, undo: list[Callable[[], object]]) -> None:
        """Takes what gives psycopg its own functions back. Call `patch_psycopg` instead."""
        self._undo = undo

    def undo(self) -> None:
        """Gives psycopg its own wait functions back. Waits that go on now end as they began."""
        global _patch
        for step in self._undo:
            step()
        self._undo = []
        if _patch is self:
            _patch = None

    def __enter__(self) -> "PatchedPsycopg":
        """Nothing is left to do: it is patched."""
        return self

    def __exit__(self, *error: object) -> None:
        """Undoes it."""
        self.undo()


_patch: PatchedPsycopg | None = None


def patch_psycopg() -> PatchedPsycopg:
    """Has psycopg 3 wait without blocking the loop, in functions that run green.

    `psycopg.connect`, cursors, pipelines, `COPY`, notifications and SQLAlchemy over psycopg work
    the same. Elsewhere, and in its async connections, it waits as before. A wait that is cancelled
    cancels the query on the server, and the connection can be used again.

    For `psycopg_pool`, whose workers are threads, call `patch_all` too. Host names are resolved by
    libpq, which blocks: give an address where that matters. Call it once, at the start of the
    program; a second call gives the same object. Not a checkpoint.

    Returns:
        An object to `undo()` it with, also a context manager.

    Raises:
        ImportError: psycopg is not installed.

    Example:
        >>> from verdigris import patch_psycopg
        >>> import psycopg.waiting
        >>> before = psycopg.waiting.wait
        >>> with patch_psycopg():
        ...     psycopg.waiting.wait is before
        False
        >>> psycopg.waiting.wait is before
        True
    """
    global _patch
    if _patch is None:
        try:
            import psycopg
            from psycopg import waiting
        except ImportError as error:
            raise ImportError(
                "patch_psycopg() needs psycopg 3, which is not installed. Install psycopg; for "
                "psycopg2 call patch_psycopg2()."
            ) from error
        undo: list[Callable[[], object]] = []
        for before, green in (
            (waiting.wait, _waiting(waiting.wait)),
            (waiting.wait_conn, _waiting_to_connect(waiting.wait_conn)),
        ):
            undo += _put_everywhere(before, green)
        connection: Any = psycopg.Connection
        undo.append(_put(connection, "wait", _cancelling(connection.wait)))
        _patch = PatchedPsycopg(undo)
    return _patch


def _put_everywhere(before: object, green: object) -> list[Callable[[], object]]:
    """Puts one object in the place of another in all of psycopg."""
    undo = []
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] not in ("psycopg", "psycopg_pool"):
            continue
        if isinstance(module, ModuleType):
            undo += [
                _put(module, key, green)
                for key, value in list(vars(module).items())
                if value is before
            ]
    return undo


def _put(target: Any, name: str, value: object) -> Callable[[], object]:
    before = getattr(target, name)
    setattr(target, name, value)

    def undo() -> None:
        if getattr(target, name) is value:
            setattr(target, name, before)

    return undo


def _waiting(before: Callable[..., Any]) -> Callable[..., Any]:
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


def _waiting_to_connect(before: Callable[..., Any]) -> Callable[..., Any]:
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
    from psycopg import OperationalError

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
        from psycopg import errors

        # Releases before 3.3 know one error for it.
        raise getattr(errors, "_WaitTimeout", errors.ConnectionTimeout)("wait timeout expired")


def _cancelling(before: Callable[..., Any]) -> Callable[..., Any]:
    def wait(self: Any, gen: Any, *args: Any, **kwargs: Any) -> Any:
        if not _wait.is_green():
            return before(self, gen, *args, **kwargs)
        try:
            return before(self, gen, *args, **kwargs)
        except (Exception, KeyboardInterrupt, SystemExit):
            # Errors leave the connection in order, and psycopg knows these two interruptions.
            raise
        except BaseException as cancelled:
            from psycopg.pq import TransactionStatus

            if self.pgconn.transaction_status == TransactionStatus.ACTIVE:
                _end_query(self, gen, may_wait=not isinstance(cancelled, GeneratorExit))
            raise

    return wait


def _end_query(connection: Any, gen: Any, may_wait: bool) -> None:
    """Cancels a query on the server and reads what is left of it, or closes the connection."""
    from psycopg import errors, waiting

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


def _until(gen: Any, deadline: float) -> Iterator[Any]:
    """The rest of a generator, for a time."""
    from psycopg import OperationalError

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
