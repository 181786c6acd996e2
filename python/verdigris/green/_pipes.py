"""Reading and writing of descriptors that may have to wait: pipes, FIFOs, terminals, sockets.

A descriptor in blocking mode can't be tried without the risk to wait, and its mode can't be
changed: it belongs to all processes that hold the pipe. So `poll` is asked first, with no time to
wait. It also tells regular files (always ready) and closed descriptors (ready to fail) apart from
what waits, without another call. A descriptor in non-blocking mode is left alone.

Two who read one pipe are told of the same bytes. On one thread the one that comes late is asked
to wait again; between threads, or processes, the stdlib's read waits for the next bytes.

`PipeIO` is the raw file over it, with the buffered files of `_buffered` and the stdlib's
TextIOWrapper over these.
"""

from __future__ import annotations

import _socket
import fcntl as _fcntl_module
import io
import os as _os
import select as _select
import stat as _stat
import sys
from collections.abc import Callable
from typing import Any

from verdigris.green import _buffered, _wait

_read = _os.read
_write = _os.write
_fstat = _os.fstat
_fcntl = _fcntl_module.fcntl
_GET_FLAGS = _fcntl_module.F_GETFL
_get_blocking = _os.get_blocking
_set_blocking = _os.set_blocking
_poll = _select.poll

_BITS = {_wait.READ: _select.POLLIN, _wait.WRITE: _select.POLLOUT}

# `poll` says that a pipe takes bytes when it takes this many without a wait.
_PIPE = _select.PIPE_BUF
# Of a terminal it says less: a buffer has room. Linux's has room for this much at the least when
# it wakes writers.
_TERMINAL = 256

_WHOLE_FILE = 65536


def has_to_wait(number: int, events: int) -> bool:
    """Whether a read or a write of a descriptor in blocking mode would wait now."""
    poller = _poll()
    try:
        poller.register(number, _BITS[events])
    except (TypeError, ValueError, OverflowError):
        return False  # The call that comes next has an error for it.
    return not poller.poll(0)


def until_ready(number: int, events: int) -> None:
    """Returns when a read or a write need not wait. Only where `is_green()`.

    Args:
        number: A descriptor. In non-blocking mode, or if it is none, this returns at once.
        events: `_wait.READ` or `_wait.WRITE`.
    """
    while has_to_wait(number, events) and _blocks(number, events):
        _wait.fd(number, events)


def _blocks(number: int, events: int) -> bool:
    """Whether a descriptor is in blocking mode, and open for this.

    The wrong end of a pipe is never ready, and the call that comes next has an error for it.
    """
    flags = _fcntl(number, _GET_FLAGS)
    wrong = _os.O_WRONLY if events == _wait.READ else _os.O_RDONLY
    return not flags & _os.O_NONBLOCK and flags & _os.O_ACCMODE != wrong


def may_wait(number: int) -> bool:
    """Whether a descriptor is of a kind that waits: neither a file on a disk nor a directory."""
    mode = _fstat(number).st_mode
    return not (_stat.S_ISREG(mode) or _stat.S_ISDIR(mode) or _stat.S_ISBLK(mode))


def write(number: int, data: Any) -> int:
    """`os.write`, where `is_green()`: all of `data`, as in blocking mode, in steps that fit."""
    try:
        view = memoryview(data).cast("B")
    except (TypeError, ValueError, BufferError):
        return _write(number, data)  # It has an error for it.
    with view:
        if not view:
            return _write(number, data)
        until_ready(number, _wait.WRITE)
        if len(view) <= _TERMINAL:
            return _write(number, data)
        mode = _fstat(number).st_mode
        most = _PIPE
        step: Callable[[int, Any], int] = _write
        if _stat.S_ISSOCK(mode):
            most, step = len(view), _send
        elif _stat.S_ISCHR(mode):
            most = _TERMINAL
        elif not _stat.S_ISFIFO(mode):
            return _write(number, data)
        if not _get_blocking(number):
            return _write(number, data)
        return _write_all(number, view, most, step)


def _write_all(number: int, view: memoryview, most: int, step: Callable[[int, Any], int]) -> int:
    sent = 0
    try:
        while sent < len(view):
            until_ready(number, _wait.WRITE)
            try:
                sent += step(number, view[sent : sent + most])
            except BlockingIOError:
                _wait.fd(number, _wait.WRITE)
    except OSError:
        # The next write tells, as it does when the system's stops half-way.
        if not sent:
            raise
    return sent


def _send(number: int, data: Any) -> int:
    """Writes to a socket what it takes at once. A datagram must not be cut, so there is no
    number of bytes to try with."""
    sock = _socket.socket(fileno=number)
    try:
        if _socket.getdefaulttimeout() is not None:
            sock.settimeout(None)  # The new object put the descriptor into the default mode.
        return sock.send(data, _socket.MSG_DONTWAIT)
    finally:
        sock.detach()


class PipeIO(io.RawIOBase):
    """`io.FileIO` over a descriptor that may have to wait; name, mode and the rest are its own."""

    def __init__(self, file: io.FileIO) -> None:
        self._file = file

    @property
    def closed(self) -> bool:
        return self._file.closed

    @property
    def name(self) -> Any:
        return self._file.name

    @property
    def mode(self) -> str:
        return self._file.mode

    @property
    def closefd(self) -> bool:
        return self._file.closefd

    @property
    def _blksize(self) -> int:
        return self._file._blksize  # type: ignore[attr-defined, no-any-return]

    def __repr__(self) -> str:
        where = "[closed]" if self.closed else f"name={self.name!r} mode={self.mode!r}"
        return f"<{type(self).__module__}.{type(self).__qualname__} {where}>"

    def fileno(self) -> int:
        return self._file.fileno()

    def readable(self) -> bool:
        return self._file.readable()

    def writable(self) -> bool:
        return self._file.writable()

    def seekable(self) -> bool:
        return self._file.seekable()

    def isatty(self) -> bool:
        return self._file.isatty()

    def seek(self, offset: int, whence: int = 0, /) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def truncate(self, size: int | None = None, /) -> int:
        return self._file.truncate(size)

    def _wait_to_read(self) -> None:
        if _wait.is_green() and self._file.readable():
            until_ready(self._file.fileno(), _wait.READ)

    def readinto(self, buffer: Any, /) -> int | None:
        self._wait_to_read()
        return self._file.readinto(buffer)

    def read(self, size: int | None = -1, /) -> bytes | None:
        if size is None or size < 0:
            return self.readall()
        self._wait_to_read()
        return self._file.read(size)

    def readall(self) -> bytes | None:  # type: ignore[override]  # typeshed leaves None out
        if not _wait.is_green():
            return self._file.readall()
        whole = bytearray()
        while data := self.read(_WHOLE_FILE):
            whole += data
        if data is None and not whole:
            return None  # Non-blocking, and there is nothing.
        return bytes(whole)

    def write(self, data: Any, /) -> int | None:
        if not (_wait.is_green() and self._file.writable()):
            return self._file.write(data)
        try:
            return write(self._file.fileno(), data)
        except BlockingIOError:
            return None

    def close(self) -> None:
        if self.closed:
            return
        if getattr(self, "_finalizing", False):  # Set by io when the object is garbage.
            self._dealloc_warn(self)
        if self.closefd:
            _wait.end(self._file.fileno(), lambda _fd: self._file.close())
        else:
            self._file.close()

    def _dealloc_warn(self, source: object) -> None:
        """Called by the buffered file over it: "ResourceWarning: unclosed file"."""
        self._file._dealloc_warn(source)  # type: ignore[attr-defined]


def cooperative(file: Any, buffering: int = -1, newline: str | None = None) -> Any:
    """Makes a file that `io.open` has just made on a descriptor cooperate.

    Args:
        file: What `io.open` returned. Nothing must have been read or written.
        buffering: What `io.open` was given.
        newline: What `io.open` was given. (A text file can't be asked for it.)

    Returns:
        The file to use in its place, which owns the descriptor now.
    """
    if isinstance(file, io.TextIOWrapper):
        below = file.buffer
        # A second __init__, on another buffer. `detach` would leave nothing to be asked.
        file.__init__(  # type: ignore[misc]
            cooperative(below, buffering),
            encoding=file.encoding,
            errors=file.errors,
            newline=newline,
            line_buffering=file.line_buffering,
            write_through=file.write_through,
        )
        return file
    if isinstance(file, io.FileIO):
        return PipeIO(file)
    kind = _buffered.GREEN.get(type(file))
    if kind is None:
        return file
    raw = file.detach()
    return kind(PipeIO(raw), buffering if buffering > 1 else _buffer_size(raw))


def _buffer_size(raw: Any) -> int:
    """As `io.open` chooses it."""
    size: int = raw._blksize
    if sys.version_info >= (3, 14):
        return max(min(size, 8192 * 1024), io.DEFAULT_BUFFER_SIZE)
    return size
