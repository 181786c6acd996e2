"""The thread of a process that can be asked what waits in it.

It is an OS thread, and needs neither the loop nor the main thread: it answers also while these are
blocked, unless C code holds the GIL.
"""

from __future__ import annotations

import _socket
import atexit
import contextlib
import os
import struct
import sys
from _thread import LockType

from verdigris._unpatched import allocate_lock, get_ident, start_new_thread
from verdigris.inspect import _meeting_place, _report

#: The environment variable with which a program listens from its start.
VARIABLE = "VERDIGRIS_INSPECT"

_listening: tuple[_socket.socket, str] | None = None
_has_hooks = False


def listen() -> str:
    """Lets `python -m verdigris ps PID` ask this process what waits in it.

    It starts an OS thread that waits at a Unix socket, which only processes of the same user can
    connect to. Nothing can be done there but read the answer. Once a process; a child that is
    forked later listens for itself. With `VERDIGRIS_INSPECT=1` in the environment it is called,
    and `enable` too, when verdigris is imported.

    Returns:
        The path of the socket.

    Raises:
        OSError: The socket can't be made.
        PermissionError: The directory for it is another user's.
    """
    global _listening, _has_hooks
    if _listening is None:
        _meeting_place.sweep()
        path = _meeting_place.socket_path(os.getpid())
        # What is there is of a process that has ended: the number is ours.
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        # The class under socket.socket, which nobody patches: this thread waits as a thread.
        socket = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
        try:
            socket.bind(path)
            os.chmod(path, 0o600)
            socket.listen(8)
        except OSError:
            socket.close()
            raise
        _listening = socket, path
        # It must have begun: a debug build of CPython 3.11 crashes where the interpreter ends
        # while a thread begins.
        begins = allocate_lock()
        begins.acquire()
        start_new_thread(_serve, (socket, begins))
        begins.acquire()
        if not _has_hooks:
            _has_hooks = True
            atexit.register(_unlink)
            os.register_at_fork(after_in_child=_after_fork)
    return _listening[1]


def _serve(socket: _socket.socket, begins: LockType) -> None:
    begins.release()
    while True:
        try:
            fd, _ = socket._accept()  # type: ignore[attr-defined]
        except OSError:
            break
        connection = _socket.socket(fileno=fd)
        try:
            if _is_own(connection):
                connection.sendall(_report.report(get_ident()).encode(errors="backslashreplace"))
        except OSError:
            pass  # whoever asked has gone
        except Exception as error:
            with contextlib.suppress(OSError):
                connection.sendall(f"The report failed: {error!r}\n".encode())
        finally:
            connection.close()
    socket.close()


def _is_own(connection: _socket.socket) -> bool:
    """Whether the other end is of the same user, or root. The directory sees to that already."""
    if sys.platform != "linux":
        return True
    credentials = connection.getsockopt(_socket.SOL_SOCKET, _socket.SO_PEERCRED, 12)
    user: int = struct.unpack("3i", credentials)[1]
    return user in (0, os.getuid())


def _after_fork() -> None:
    """The child has the socket, but not the thread; and the socket is the parent's."""
    global _listening
    if _listening is not None:
        _listening[0].close()
        _listening = None
        with contextlib.suppress(OSError):
            listen()


def _unlink() -> None:
    """At the end of the process. The thread sleeps on: woken then, it would find no interpreter."""
    if _listening is not None:
        with contextlib.suppress(OSError):
            os.unlink(_listening[1])


def stop() -> None:
    """Ends what `listen` began."""
    global _listening
    if _listening is not None:
        socket, _ = _listening
        _unlink()
        _listening = None
        # The thread sleeps in the kernel, which closing does not end.
        with contextlib.suppress(OSError):
            socket.shutdown(_socket.SHUT_RDWR)
