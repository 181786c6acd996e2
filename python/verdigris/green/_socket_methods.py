"""The methods of `socket.socket` that may wait, and those that give a descriptor up.

They hold for every socket of Python, whichever class it has: the twin's, the stdlib's when that is
patched in place, `ssl.SSLSocket` where nothing is wrapped. Each of them calls the method of
`_socket.socket` below, at once where no function runs green, by `_wait.retry` otherwise. So the
socket's mode and its timeout mean what they mean in the stdlib, and the errors are the kernel's.

The four that are called most, `recv`, `recv_into`, `send` and `sendall`, are the engine's.
"""

from __future__ import annotations

import _socket
import errno
import io
import os
import socket as _stdlib
import types
from collections.abc import Callable
from functools import partial
from typing import Any

from verdigris.green import _buffered, _dns, _twin, _wait

_C = _socket.socket
_detach = _stdlib.socket.detach  # taken before anything is patched

# A call with these never waits; only the stdlib's sockets with a timeout wait before it.
_AT_ONCE = getattr(_socket, "MSG_DONTWAIT", 0) | getattr(_socket, "MSG_ERRQUEUE", 0)
_ALL = getattr(_socket, "MSG_WAITALL", 0)
_IN_PROGRESS = (errno.EINPROGRESS, errno.EINTR)

_UNIX = getattr(_socket, "AF_UNIX", None)
_SHORTEST_PAUSE, _LONGEST_PAUSE = 0.001, 0.05


# --- connections -------------------------------------------------------------


def connect(self: Any, address: Any, /) -> None:
    """`socket.connect`. A connection that is cancelled on its way is closed."""
    if not _wait.is_green():
        return _C.connect(self, address)
    address = _dns.addressed(self.family, address)
    if _C.gettimeout(self) == 0:
        return _C.connect(self, address)
    if error := _connected(self, _C.connect, address):
        raise OSError(error, os.strerror(error))
    return None


def connect_ex(self: Any, address: Any, /) -> int:
    """`socket.connect_ex`. A connection that is cancelled on its way is closed."""
    if not _wait.is_green():
        return _C.connect_ex(self, address)
    address = _dns.addressed(self.family, address)
    if _C.gettimeout(self) == 0:
        return _C.connect_ex(self, address)
    try:
        return _connected(self, _C.connect_ex, address)
    except TimeoutError:
        return errno.EWOULDBLOCK


def _connected(sock: Any, begin: Callable[..., int | None], address: Any) -> int:
    """Connects.

    Args:
        sock: The socket.
        begin: `connect` or `connect_ex` of `_socket.socket`.
        address: Without a host name.

    Returns:
        The error's number, or 0. What `begin` raises otherwise is raised: "connect(): ...".
    """
    started = False

    def attempt() -> int:
        nonlocal started
        if not started:
            try:
                error = begin(sock, address) or 0
            except (BlockingIOError, InterruptedError) as going_on:
                error = going_on.errno or 0
            if error not in _IN_PROGRESS:
                return error
            started = True
        else:
            try:
                error = _C.getsockopt(sock, _socket.SOL_SOCKET, _socket.SO_ERROR)
                if error:
                    return 0 if error == errno.EISCONN else error
                # No error: but is it connected, or did something else wake us?
                _C.getpeername(sock)
                return 0
            except OSError as unconnected:
                if unconnected.errno != errno.ENOTCONN:
                    return unconnected.errno or errno.EBADF
        raise BlockingIOError(errno.EINPROGRESS, os.strerror(errno.EINPROGRESS))

    pause = _SHORTEST_PAUSE
    while True:
        try:
            error: int = _wait.retry(sock, _wait.WRITE, attempt)
        except Exception as failed:
            # Closed by another function while this one waited.
            if started and isinstance(failed, OSError) and failed.errno == errno.EBADF:
                return errno.EBADF
            raise
        except BaseException:
            # Cancelled. What becomes of the connection is unknown; nobody may hold the socket, as
            # in `create_connection`.
            if started:
                sock.close()
            raise
        # A listener on a path whose queue is full: nothing tells when there is room. With a
        # timeout the stdlib raises BlockingIOError, without one it waits.
        full = error == errno.EAGAIN and sock.family == _UNIX and _C.gettimeout(sock) is None
        if not full:
            return error
        _wait.sleep(pause)
        pause = min(2 * pause, _LONGEST_PAUSE)


def _accept(self: Any, /) -> tuple[int, Any]:
    """What `socket.accept` calls."""
    if not _wait.is_green():
        return _C._accept(self)  # type: ignore[attr-defined, no-any-return]
    return _wait.retry(self, _wait.READ, _C._accept, self)  # type: ignore[attr-defined, no-any-return]


def bind(self: Any, address: Any, /) -> None:
    """`socket.bind`: it waits for nothing but the resolution of a host name."""
    _C.bind(self, _dns.addressed(self.family, address) if _wait.is_green() else address)


# --- datagrams and messages --------------------------------------------------


def _receiver(name: str, flags_at: int) -> Callable[..., Any]:
    """A method that receives, and whose flags are its argument with that index."""
    original = getattr(_C, name)

    def receive(self: Any, *args: Any, **kwargs: Any) -> Any:
        call = partial(original, **kwargs) if kwargs else original
        if not _wait.is_green():
            return call(self, *args)
        flags = args[flags_at] if len(args) > flags_at else kwargs.get("flags", 0)
        if flags and _C.gettimeout(self) is None:
            if flags & _AT_ONCE:
                return call(self, *args)
            if flags & _ALL:  # which means nothing to a call that does not block
                return _wait.offload(call, self, *args)
        return _wait.retry(self, _wait.READ, call, self, *args)

    return _named(receive, original)


def _named(method: Callable[..., Any], original: Callable[..., Any]) -> Callable[..., Any]:
    method.__name__, method.__doc__ = original.__name__, original.__doc__
    method.__qualname__ = f"socket.{original.__name__}"
    return method


def recvmsg_into(self: Any, buffers: Any, *args: Any) -> Any:
    """`socket.recvmsg_into`."""
    return _recvmsg_into(self, _kept(buffers), *args)


def sendto(self: Any, *args: Any) -> int:
    """`socket.sendto`."""
    if not _wait.is_green() or len(args) < 2:
        return _C.sendto(self, *args)
    *before, address = args
    args = (*before, _dns.addressed(self.family, address))
    if len(args) > 2 and _never_waits(self, args[1]):
        return _C.sendto(self, *args)
    return _wait.retry(self, _wait.WRITE, _C.sendto, self, *args)


def sendmsg(self: Any, *args: Any) -> int:
    """`socket.sendmsg`."""
    if not _wait.is_green():
        return _C.sendmsg(self, *args)
    args = (*map(_kept, args[:2]), *args[2:])
    if len(args) > 3:
        args = (*args[:3], _dns.addressed(self.family, args[3]), *args[4:])
    if len(args) > 2 and _never_waits(self, args[2]):
        return _C.sendmsg(self, *args)
    return _wait.retry(self, _wait.WRITE, _C.sendmsg, self, *args)


def _never_waits(sock: Any, flags: Any) -> bool:
    return isinstance(flags, int) and bool(flags & _AT_ONCE) and _C.gettimeout(sock) is None


def _kept(items: Any) -> Any:
    """A list of what an iterator yields once: it is passed to every attempt."""
    return list(items) if hasattr(items, "__next__") else items


# --- files -------------------------------------------------------------------


def _sendfile_zerocopy(
    self: Any,
    zerocopy_func: Callable[[int, int, int], int],
    giveup_exc_type: type[Exception],
    file: Any,
    offset: int = 0,
    count: int | None = None,
) -> int:
    """What `socket.sendfile` calls, and `SSLSocket.sendfile` on 3.15, to send without a copy.

    The stdlib's waits by a selector of its own.
    """
    self._check_sendfile_params(file, offset, count)
    try:
        fileno = file.fileno()
        size = os.fstat(fileno).st_size
    except (AttributeError, io.UnsupportedOperation, OSError) as error:
        raise giveup_exc_type(error) from error
    if not size:
        return 0
    if _C.gettimeout(self) == 0:
        raise ValueError("non-blocking sockets are not supported")
    sent_in_all = 0

    def attempt(block: int) -> int:
        # `zerocopy_func` holds the descriptor's number, which may be another file's by now.
        if _C.fileno(self) < 0:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        return zerocopy_func(fileno, offset, block)

    try:
        while True:
            # Larger blocks overflow what `sendfile` takes (bpo-38319).
            block = min(count - sent_in_all if count else size, 2**30)
            if block <= 0:
                break
            try:
                sent = _wait.retry(self, _wait.WRITE, attempt, block)
            except TimeoutError as error:
                raise error from None
            except OSError as error:
                # `file` may be none that can be mapped. A closed socket can't send it otherwise.
                if sent_in_all == 0 and _C.fileno(self) >= 0:
                    raise giveup_exc_type(error) from error
                raise error from None
            if sent == 0:
                break
            offset += sent
            sent_in_all += sent
        return sent_in_all
    finally:
        if sent_in_all and hasattr(file, "seek"):
            file.seek(offset)


def _in_place_of(name: str, green: Callable[..., Any]) -> Callable[..., Any]:
    """`green` where a function runs green, the stdlib's method elsewhere."""
    original = getattr(_stdlib.socket, name)

    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        return (green if _wait.is_green() else original)(self, *args, **kwargs)

    return _named(method, original)


def _sendfile_use_sendfile(self: Any, file: Any, offset: int = 0, count: int | None = None) -> int:
    give_up: type[Exception] = _stdlib._GiveupOnSendfile  # type: ignore[attr-defined]
    send = partial(os.sendfile, self.fileno())
    return _sendfile_zerocopy(self, send, give_up, file, offset, count)


# `socket.makefile`, which finds the buffered files of functions under the stdlib's names.
_io = types.SimpleNamespace(**vars(io))
_io.__dict__.update({kind.__name__: green for kind, green in _buffered.GREEN.items()})
_stdlib_makefile: Any = _stdlib.socket.makefile
_makefile = _twin._bound_anew(_stdlib_makefile, {**vars(_stdlib), "io": _io})


# --- the end of a descriptor -------------------------------------------------


def _real_close(
    self: Any, _ss: type[_socket.socket] = _C, _forget: Callable[[int], None] = _wait.forget
) -> None:
    # As in the stdlib, no globals: they may be gone when the interpreter ends.
    fileno = _ss.fileno(self)
    if fileno < 0:
        return _ss.close(self)
    _forget(fileno)
    try:
        _ss.close(self)
    finally:
        # Once more: who was woken in another thread may have waited again before it was closed.
        _forget(fileno)


def detach(self: Any) -> int:
    """`socket.detach`."""
    fileno = _C.fileno(self)
    if fileno >= 0:
        _wait.forget(fileno)
    return _detach(self)


def close(fd: Any, /) -> None:
    """`socket.close`, the module's function."""
    if isinstance(fd, int):
        _wait.end(fd, _socket.close)
    else:
        _socket.close(fd)


# --- the table ---------------------------------------------------------------

_recvmsg_into = _receiver("recvmsg_into", 2)

METHODS: dict[str, Callable[..., Any]] = {
    **_wait.SOCKET_METHODS,
    "connect": connect,
    "connect_ex": connect_ex,
    "_accept": _accept,
    "bind": bind,
    "recvfrom": _receiver("recvfrom", 1),
    "recvfrom_into": _receiver("recvfrom_into", 2),
    "recvmsg": _receiver("recvmsg", 2),
    "recvmsg_into": recvmsg_into,
    "sendto": sendto,
    "sendmsg": sendmsg,
    "_real_close": _real_close,
    "detach": detach,
    "makefile": _in_place_of("makefile", _makefile),
}
if hasattr(_stdlib.socket, "_sendfile_zerocopy"):  # 3.15
    METHODS["_sendfile_zerocopy"] = _in_place_of("_sendfile_zerocopy", _sendfile_zerocopy)
else:
    METHODS["_sendfile_use_sendfile"] = _in_place_of(
        "_sendfile_use_sendfile", _sendfile_use_sendfile
    )
