"""The methods of `ssl.SSLSocket` that may wait for the peer.

They call the C object below, with a socket that does not block: it raises SSLWantReadError and
SSLWantWriteError, after which `_wait.retry` waits for what they say. Certificates and host names
are checked by that object, in the handshake, as ever.
"""

from __future__ import annotations

import errno
import os
import ssl as _stdlib
from collections.abc import Callable
from typing import Any

from verdigris.green import _wait

# Taken before anything is patched.
_read = _stdlib.SSLSocket.read
_write = _stdlib.SSLSocket.write
_send = _stdlib.SSLSocket.send
_do_handshake = _stdlib.SSLSocket.do_handshake
_unwrap = _stdlib.SSLSocket.unwrap


def read(self: Any, len: int = 1024, buffer: Any = None) -> Any:  # noqa: A002
    """`SSLSocket.read`, which `recv` and `recv_into` call."""
    tls = self._sslobj
    if tls is None or not _wait.is_green():
        return _read(self, len, buffer)
    self._checkClosed()
    try:
        if buffer is None:
            return _transfer(self, "read", tls.read, len)
        return _transfer(self, "read", tls.read, len, buffer)
    except _stdlib.SSLError as error:
        # The peer went without a close_notify.
        if error.args[0] == _stdlib.SSL_ERROR_EOF and self.suppress_ragged_eofs:
            return b"" if buffer is None else 0
        raise


def write(self: Any, data: Any) -> int:
    """`SSLSocket.write`."""
    tls = self._sslobj
    if tls is None or not _wait.is_green():
        return _write(self, data)
    self._checkClosed()
    return _transfer(self, "write", tls.write, data)  # type: ignore[no-any-return]


def send(self: Any, data: Any, flags: int = 0) -> int:
    """`SSLSocket.send`, which `sendall` calls. It calls the C object by itself."""
    if self._sslobj is None or flags or not _wait.is_green():
        return _send(self, data, flags)
    return write(self, data)


def do_handshake(self: Any, block: bool = False) -> None:
    """`SSLSocket.do_handshake`. A handshake that is cancelled in `wrap_socket`, `connect` or
    `accept` closes the socket."""
    tls = self._sslobj
    if tls is None or not _wait.is_green():
        return _do_handshake(self, block)
    self._check_connected()
    not_blocking = self.gettimeout() == 0
    try:
        if not_blocking and block:
            self.settimeout(None)
        _transfer(self, "handshake", tls.do_handshake)
    except Exception:
        raise
    except BaseException:
        # Cancelled. `wrap_socket` closes the socket after an error, and from 3.13 on after
        # everything; before, nobody would hold it. (One of an explicit call can go on.)
        if self.do_handshake_on_connect:
            self.close()
        raise
    finally:
        if not_blocking and block and self.fileno() >= 0:
            self.settimeout(0)


def unwrap(self: Any) -> Any:
    """`SSLSocket.unwrap`."""
    tls = self._sslobj
    if not tls or not _wait.is_green():
        return _unwrap(self)
    below = _transfer(self, None, tls.shutdown)
    self._sslobj = None
    return below


def _transfer(sock: Any, operation: str | None, call: Callable[..., Any], *args: Any) -> Any:
    """Calls a method of the C object until it need not wait.

    Args:
        sock: The SSLSocket.
        operation: What its timeout is called: "read", "write" or "handshake". None is the one of
            the two first that the peer owed last.
        call: The method.
        args: What it is called with.
    """
    wanted = "read"

    def attempt() -> Any:
        nonlocal wanted
        # The C object knows the descriptor by its number, which may be another socket's by now.
        if sock.fileno() < 0:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        try:
            return call(*args)
        except _stdlib.SSLWantReadError:
            wanted = "read"
            raise
        except _stdlib.SSLWantWriteError:
            wanted = "write"
            raise

    try:
        return _wait.retry(sock, _wait.READ, attempt)
    except TimeoutError as error:
        if error.errno is not None:  # ETIMEDOUT, of the connection
            raise
        raise TimeoutError(f"The {operation or wanted} operation timed out") from None


METHODS: dict[str, Callable[..., Any]] = {
    "read": read,
    "write": write,
    "send": send,
    "do_handshake": do_handshake,
    "unwrap": unwrap,
}
