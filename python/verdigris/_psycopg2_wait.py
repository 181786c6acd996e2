"""How psycopg2 waits in green functions.

psycopg2 waits inside libpq, in C. With a wait callback it asks libpq not to block, and calls the
callback with the connection for every wait.

A wait that is left with an exception leaves the connection in the middle of a query, or of being
opened. psycopg2 closes such a connection by itself, but the server does not notice before it has
something to send. So the callback asks the server to cancel, first.
"""

import os
import select
import time
from typing import Any

from psycopg2 import Error, OperationalError, extensions

from verdigris._engine import poll_until_ready
from verdigris.green import _wait

_poll = select.poll
_monotonic = time.monotonic


def wait_for(connection: Any) -> None:
    """The wait callback: polls the connection until it is ready."""
    if connection.status == extensions.STATUS_SETUP:
        timeout = _connect_timeout(connection)
        _poll_until_ready(connection, None if timeout is None else _monotonic() + timeout)
        return
    try:
        state = poll_until_ready(connection)
        if state is not None:
            _poll_until_ready(connection, None, state)
    except BaseException as error:
        # An error of psycopg2's means that the server is gone.
        if not isinstance(error, Error):
            _cancel(connection)
        raise


def _poll_until_ready(connection: Any, deadline: float | None, state: int | None = None) -> None:
    """The same for threads too, and with a deadline. `state` is what poll() has said already."""
    while True:
        if state is None:
            state = connection.poll()
        if state == extensions.POLL_OK:
            return
        if state == extensions.POLL_READ:
            events = _wait.READ
        elif state == extensions.POLL_WRITE:
            events = _wait.WRITE
        else:
            raise OperationalError(f"poll() of the connection gave {state!r}")
        state = None
        left = None
        if deadline is not None:
            left = deadline - _monotonic()
            if left <= 0:
                raise OperationalError("connection to the server failed: timeout expired")
        # While it opens, libpq goes from one descriptor to another.
        if _wait.is_green():
            _wait.fd(connection.fileno(), events, left)
        else:
            _block(connection.fileno(), events, left)


def _block(fileno: int, events: int, timeout: float | None) -> None:
    poller = _poll()
    poller.register(fileno, select.POLLIN if events == _wait.READ else select.POLLOUT)
    poller.poll(None if timeout is None else timeout * 1000)


def _connect_timeout(connection: Any) -> float | None:
    """`connect_timeout`, as libpq understands it. It is not applied when libpq does not block."""
    given = extensions.parse_dsn(connection.dsn).get("connect_timeout")
    text = os.environ.get("PGCONNECT_TIMEOUT", "") if given is None else given
    try:
        seconds = int(text)
    except ValueError:
        return None
    # libpq takes 1 for 2, and what is not positive for none.
    return max(seconds, 2) if seconds > 0 else None


def _cancel(connection: Any) -> None:
    """Asks the server to end the query. psycopg2 closes the connection after this."""
    try:
        connection.cancel()
    except Error:
        # The server is gone, and the query with it.
        return
