"""Opening a FIFO, which waits until its other end is opened too.

Only a thread can wait for this: no descriptor is there yet. When the wait is given up, the thread
may be in its call, or come to it much later. So the other end is opened then, and stays open until
the thread is back. Where that can't be, because the path is gone, the thread waits on.
"""

from __future__ import annotations

import os as _os
from contextlib import suppress
from typing import Any

from verdigris.green import _wait

_open = _os.open
_close = _os.close


def open_one(path: Any, flags: int, mode: int, dir_fd: int | None) -> int:
    """Opens a FIFO to read or to write, in a green function.

    Raises:
        OSError: As `os.open`.
    """
    # Each is seen by the other side, whichever comes first: both are set before the other is read.
    given_up = is_back = False
    opened: list[int] = []
    other_end: list[_OtherEnd] = []

    def in_a_thread() -> int:
        nonlocal is_back
        try:
            fd = _open(path, flags, mode, dir_fd=dir_fd)
            opened.append(fd)
            return fd
        finally:
            is_back = True
            if given_up:
                forget()

    def forget() -> None:
        other_end.clear()
        with suppress(IndexError):  # the other side was faster
            _close(opened.pop())

    try:
        return _wait.in_own_thread(in_a_thread)
    except OSError:
        raise
    except BaseException:
        given_up = True
        if not is_back:
            other_end.extend(_open_other_end(path, flags, dir_fd))
        if is_back:
            forget()
        raise


class _OtherEnd:
    """Closed when it goes: with the thread's call, however that ends."""

    __slots__ = ("_fd",)

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def __del__(self, close: Any = _close) -> None:
        close(self._fd)


def _open_other_end(path: Any, flags: int, dir_fd: int | None) -> list[_OtherEnd]:
    reads = flags & _os.O_ACCMODE == _os.O_RDONLY
    # To write alone is refused while nobody reads, and the thread may not have come so far.
    for other in (_os.O_WRONLY, _os.O_RDWR) if reads else (_os.O_RDONLY,):
        with suppress(OSError):  # the path is gone, or not ours to open so
            return [_OtherEnd(_open(path, other | _os.O_NONBLOCK, dir_fd=dir_fd))]
    return []
