"""psycopg2 in green functions.

psycopg2 waits inside libpq, in C. With a wait callback it asks libpq not to block, and calls the
callback with the connection for every wait. There is one callback for the process.

A wait that is left with an exception leaves the connection in the middle of a query, or of being
opened. psycopg2 closes such a connection by itself, but the server does not notice before it has
something to send. So the callback asks the server to cancel, first.
"""

import os
import select
import time
from collections.abc import Callable
from typing import Any

from verdigris.green import _wait

_poll = select.poll
_monotonic = time.monotonic


class PatchedPsycopg2:
    """psycopg2 with a wait callback of ours. Made by `patch_psycopg2`.

    As a context manager it is undone at the end of the block.
    """

    def __init__(self, before: Callable[[Any], object] | None) -> None:
        """Takes the callback that was set before. Call `patch_psycopg2` instead."""
        self._before = before

    def undo(self) -> None:
        """Gives psycopg2 the wait callback back that it had, or none."""
        global _patch
        if _patch is self:
            from psycopg2 import extensions

            # A callback that somebody has set since is theirs to remove.
            if extensions.get_wait_callback() is _wait_for:
                extensions.set_wait_callback(self._before)
            _patch = None

    def __enter__(self) -> "PatchedPsycopg2":
        """Nothing is left to do: it is patched."""
        return self

    def __exit__(self, *error: object) -> None:
        """Undoes it."""
        self.undo()


_patch: PatchedPsycopg2 | None = None


def patch_psycopg2() -> PatchedPsycopg2:
    """Has psycopg2 wait without blocking the loop, in functions that run green.

    Elsewhere it waits as before. SQLAlchemy over psycopg2 and connection pools work the same.
    `connect_timeout` is kept. A wait that is cancelled cancels the query on the server, and the
    connection is closed.

    psycopg2 itself refuses `COPY` and large objects while it has a wait callback, in every thread.
    Host names are resolved by libpq, which blocks: give an address where that matters. Call it
    once, at the start of the program; a second call gives the same object. Not a checkpoint.

    Returns:
        An object to `undo()` it with, also a context manager.

    Raises:
        ImportError: psycopg2 is not installed.

    Example:
        >>> from verdigris import patch_psycopg2
        >>> import psycopg2.extensions
        >>> with patch_psycopg2():
        ...     psycopg2.extensions.get_wait_callback() is not None
        True
        >>> psycopg2.extensions.get_wait_callback() is None
        True
    """
    global _patch
    try:
        from psycopg2 import extensions
    except ImportError as error:
        raise ImportError(
            "patch_psycopg2() needs psycopg2, which is not installed. Install psycopg2 or "
            "psycopg2-binary; for psycopg 3 call patch_psycopg()."
        ) from error
    if _patch is None:
        _patch = PatchedPsycopg2(extensions.get_wait_callback())
    extensions.set_wait_callback(_wait_for)
    return _patch


def _wait_for(connection: Any) -> None:
    """The wait callback: polls the connection until it is ready."""
    from psycopg2 import OperationalError, extensions

    deadline = None
    opening = connection.status == extensions.STATUS_SETUP
    if opening:
        timeout = _connect_timeout(connection)
        deadline = None if timeout is None else _monotonic() + timeout
    try:
        while True:
            state = connection.poll()
            if state == extensions.POLL_OK:
                return
            if state not in (extensions.POLL_READ, extensions.POLL_WRITE):
                raise OperationalError(f"poll() of the connection gave {state!r}")
            events = _wait.READ if state == extensions.POLL_READ else _wait.WRITE
            left = None if deadline is None else deadline - _monotonic()
            if left is not None and left <= 0:
                raise OperationalError("connection to the server failed: timeout expired")
            # While it opens, libpq goes from one descriptor to another.
            _wait_for_descriptor(connection.fileno(), events, left)
    except BaseException as error:
        if not opening and not isinstance(error, _errors_of_the_server()):
            _cancel(connection)
        raise


def _wait_for_descriptor(fileno: int, events: int, timeout: float | None) -> None:
    if _wait.is_green():
        _wait.fd(fileno, events, timeout)
        return
    poll = _poll()
    poll.register(fileno, select.POLLIN if events == _wait.READ else select.POLLOUT)
    poll.poll(None if timeout is None else timeout * 1000)


def _connect_timeout(connection: Any) -> float | None:
    """`connect_timeout`, as libpq understands it. It is not applied when libpq does not block."""
    from psycopg2 import extensions

    given = extensions.parse_dsn(connection.dsn).get("connect_timeout")
    text = os.environ.get("PGCONNECT_TIMEOUT", "") if given is None else given
    try:
        seconds = int(text)
    except ValueError:
        return None
    # libpq takes 1 for 2, and what is not positive for none.
    return max(seconds, 2) if seconds > 0 else None


def _errors_of_the_server() -> tuple[type[BaseException], ...]:
    from psycopg2 import Error

    return (Error,)


def _cancel(connection: Any) -> None:
    """Asks the server to end the query. psycopg2 closes the connection after this."""
    from psycopg2 import Error

    try:
        connection.cancel()
    except Error:
        # The server is gone, and the query with it.
        return
