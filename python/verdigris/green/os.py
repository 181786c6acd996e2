"""`os`, green: reads and writes of pipes and the like, and waits for children.

`fork`, the exec functions and everything about files on a disk are the stdlib's. `close` and its
kin first tell those who wait for the descriptor.
"""

from __future__ import annotations

import importlib as _importlib
import io as _io
import os as _original
import signal as _signal
import stat as _stat
import sys as _sys
from typing import Any

from verdigris.green import _children, _fifos, _pipes, _twin, _wait

_read = _original.read
_readv = _original.readv
_writev = _original.writev
_close = _original.close
_dup2 = _original.dup2
_open = _original.open
_stat_of = _original.stat
_fdopen = _original.fdopen
_waitpid = _original.waitpid
_wait3 = _original.wait3
_wait4 = _original.wait4
_waitid = _original.waitid
_system = _original.system
_kill = _original.kill
_spawn = _original.posix_spawn
_WNOHANG = _original.WNOHANG


# --- descriptors ---------------------------------------------------------------


def read(fd: Any, length: int, /) -> bytes:
    """`os.read`."""
    if length and isinstance(fd, int) and _wait.is_green():
        _pipes.until_ready(fd, _wait.READ)
    return _read(fd, length)


def readv(fd: Any, buffers: Any, /) -> int:
    """`os.readv`."""
    if isinstance(fd, int) and _wait.is_green():
        _pipes.until_ready(fd, _wait.READ)
    return _readv(fd, buffers)


def write(fd: Any, data: Any, /) -> int:
    """`os.write`."""
    if isinstance(fd, int) and _wait.is_green():
        return _pipes.write(fd, data)
    return _pipes._write(fd, data)


def writev(fd: Any, buffers: Any, /) -> int:
    """`os.writev`."""
    if not (isinstance(fd, int) and _wait.is_green()):
        return _writev(fd, buffers)
    try:
        data = b"".join(buffers)
    except TypeError:
        return _writev(fd, buffers)  # It has an error for it.
    return _pipes.write(fd, data)


def close(fd: Any) -> None:
    """`os.close`."""
    if isinstance(fd, int) and fd >= 0:
        _wait.end(fd, _close)
    else:
        _close(fd)


def dup2(fd: Any, fd2: Any, inheritable: bool = True) -> int:
    """`os.dup2`."""
    if isinstance(fd2, int) and fd2 >= 0 and fd != fd2:
        return _wait.end(fd2, lambda fd2: _dup2(fd, fd2, inheritable))
    return _dup2(fd, fd2, inheritable)


def open(path: Any, flags: Any, mode: int = 0o777, *, dir_fd: int | None = None) -> int:  # noqa: A001
    """`os.open`, which waits where the path is a FIFO, until its other end is opened too."""
    if _wait.is_green() and isinstance(flags, int) and not flags & _original.O_NONBLOCK:
        try:
            fifo = _stat.S_ISFIFO(_stat_of(path, dir_fd=dir_fd).st_mode)
        except (OSError, TypeError, ValueError):
            fifo = False  # `open` has an error for it, or makes the file.
        if fifo and flags & _original.O_ACCMODE != _original.O_RDWR:
            return _fifos.open_one(path, flags, mode, dir_fd)
    return _open(path, flags, mode, dir_fd=dir_fd)


def fdopen(
    fd: int,
    mode: str = "r",
    buffering: int = -1,
    encoding: str | None = None,
    errors: str | None = None,
    newline: str | None = None,
    *args: Any,
    **kwargs: Any,
) -> Any:
    """`os.fdopen`."""
    if "b" not in mode:
        encoding = _io.text_encoding(encoding)
    file = _fdopen(fd, mode, buffering, encoding, errors, newline, *args, **kwargs)
    return _pipes.cooperative(file, buffering, newline) if _pipes.may_wait(fd) else file


REPLACED: dict[str, Any] = {
    "read": read,
    "readv": readv,
    "write": write,
    "writev": writev,
    "close": close,
    "dup2": dup2,
    "open": open,
    "fdopen": fdopen,
}

if hasattr(_original, "eventfd_read"):
    _eventfd_read = _original.eventfd_read
    _eventfd_write = _original.eventfd_write

    def eventfd_read(fd: Any) -> int:
        """`os.eventfd_read`."""
        if isinstance(fd, int) and _wait.is_green():
            _pipes.until_ready(fd, _wait.READ)
        return _eventfd_read(fd)

    def eventfd_write(fd: Any, value: int) -> None:
        """`os.eventfd_write`."""
        if isinstance(fd, int) and _wait.is_green():
            _pipes.until_ready(fd, _wait.WRITE)
        _eventfd_write(fd, value)

    REPLACED |= {"eventfd_read": eventfd_read, "eventfd_write": eventfd_write}


# --- children ------------------------------------------------------------------


def waitpid(pid: Any, options: int, /) -> Any:
    """`os.waitpid`."""
    if not _waits(options) or not isinstance(pid, int):
        return _waitpid(pid, options)
    return _some(lambda: _waitpid(pid, options | _WNOHANG), pid, options)


def wait() -> Any:
    """`os.wait`."""
    return waitpid(-1, 0)


def wait3(options: int) -> Any:
    """`os.wait3`."""
    if not _waits(options):
        return _wait3(options)
    return _some(lambda: _wait3(options | _WNOHANG), -1, options)


def wait4(pid: Any, options: int) -> Any:
    """`os.wait4`."""
    if not _waits(options) or not isinstance(pid, int):
        return _wait4(pid, options)
    return _some(lambda: _wait4(pid, options | _WNOHANG), pid, options)


def waitid(idtype: int, number: Any, options: int, /) -> Any:
    """`os.waitid`."""
    if not _waits(options) or not isinstance(number, int):
        return _waitid(idtype, number, options)
    whether = _original.WEXITED | _original.WNOWAIT
    by_pid = idtype == _original.P_PID and not options & ~whether
    return _children.until(
        lambda: _waitid(idtype, number, options | _WNOHANG), number if by_pid and number > 0 else 0
    )


def _waits(options: Any) -> bool:
    return isinstance(options, int) and not options & _WNOHANG and _wait.is_green()


def _some(attempt: Any, pid: int, options: int) -> Any:
    def one() -> Any:
        answer = attempt()
        return answer if answer[0] else None

    return _children.until(one, pid if pid > 0 and not options else 0)


def system(command: Any) -> int:
    """`os.system`. SIGINT is not ignored meanwhile, as other functions go on; when the wait is
    cancelled, the shell is killed."""
    if not _wait.is_green():
        return _system(command)
    line = _original.fsencode(command)
    _sys.audit("os.system", line)
    pid = _spawn("/bin/sh", [b"sh", b"-c", line], _original.environ)
    try:
        return int(waitpid(pid, 0)[1])
    except ChildProcessError:
        return -1
    except BaseException:
        _kill(pid, _signal.SIGKILL)
        _waitpid(pid, 0)
        raise


def popen(cmd: str, mode: str = "r", buffering: int = -1) -> Any:
    """`os.popen`."""
    subprocess: Any = _importlib.import_module("verdigris.green.subprocess")  # It imports this one.

    if not isinstance(cmd, str):
        raise TypeError(f"invalid cmd type ({type(cmd)}, expected string)")
    if mode not in ("r", "w"):
        raise ValueError(f"invalid mode {mode!r}")
    if buffering == 0 or buffering is None:
        raise ValueError("popen() does not support unbuffered streams")
    ends = {"stdout": subprocess.PIPE} if mode == "r" else {"stdin": subprocess.PIPE}
    child = subprocess.Popen(cmd, shell=True, text=True, bufsize=buffering, **ends)
    file = child.stdout if mode == "r" else child.stdin
    return _original._wrap_close(file, child)


REPLACED |= {
    "waitpid": waitpid,
    "wait": wait,
    "wait3": wait3,
    "wait4": wait4,
    "waitid": waitid,
    "system": system,
    "popen": popen,
}

_twin.make(globals(), _original, REPLACED)
