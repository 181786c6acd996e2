"""Buffered files that several functions of a thread may use, as several threads may.

A buffered file of the stdlib has a lock of its own, which knows threads: it would raise
"RuntimeError: reentrant call" for the second of two functions on one thread, say for one that
closes the file while another waits for a line. So these have a lock that knows functions, before
that: the second one waits, as a thread would.
"""

from __future__ import annotations

import contextlib
import functools
import io
from collections.abc import Callable
from typing import Any

from verdigris.green import _wait


def _in_turn(method: Callable[..., Any], *default: Any) -> Any:
    """A method with one argument, and perhaps a default for it.

    `*args` would take twice as long, and files are read line by line.
    """

    def alone(self: Any, argument: Any, /) -> Any:
        with self._turn:
            return method(self, argument)

    alone.__defaults__ = default
    return functools.wraps(method)(alone)


def _alone(method: Callable[..., Any]) -> Any:
    """A method without arguments."""

    @functools.wraps(method)
    def alone(self: Any) -> Any:
        with self._turn:
            return method(self)

    return alone


def _repr(self: Any) -> str:
    """The stdlib's, which has the name of the class that others know."""
    kind = "Reader" if isinstance(self, io.BufferedReader) else "Writer"
    try:
        return f"<_io.Buffered{kind} name={self.name!r}>"
    except (AttributeError, ValueError):
        return f"<_io.Buffered{kind}>"


class Reader(io.BufferedReader):
    """`io.BufferedReader`."""

    def __init__(self, raw: Any, buffer_size: int = io.DEFAULT_BUFFER_SIZE) -> None:
        self._turn = _wait.RLock()
        super().__init__(raw, buffer_size)

    read = _in_turn(io.BufferedReader.read, -1)
    read1 = _in_turn(io.BufferedReader.read1, -1)
    readinto = _in_turn(io.BufferedReader.readinto)
    readinto1 = _in_turn(io.BufferedReader.readinto1)
    readline = _in_turn(io.BufferedReader.readline, -1)
    peek = _in_turn(io.BufferedReader.peek, 0)
    close = _alone(io.BufferedReader.close)
    __repr__ = _repr


class Writer(io.BufferedWriter):
    """`io.BufferedWriter`."""

    def __init__(self, raw: Any, buffer_size: int = io.DEFAULT_BUFFER_SIZE) -> None:
        self._turn = _wait.RLock()
        super().__init__(raw, buffer_size)

    write = _in_turn(io.BufferedWriter.write)
    flush = _alone(io.BufferedWriter.flush)
    close = _alone(io.BufferedWriter.close)
    __repr__ = _repr


class Pair(io.BufferedRWPair):
    """`io.BufferedRWPair`: one function reads and another writes at the same time."""

    def __init__(self, reader: Any, writer: Any, size: int = io.DEFAULT_BUFFER_SIZE) -> None:
        self._turn, self._turn_to_write = _wait.RLock(), _wait.RLock()
        super().__init__(reader, writer, size)

    read = _in_turn(io.BufferedRWPair.read, -1)
    read1 = _in_turn(io.BufferedRWPair.read1, -1)
    readinto = _in_turn(io.BufferedRWPair.readinto)
    readinto1 = _in_turn(io.BufferedRWPair.readinto1)
    peek = _in_turn(io.BufferedRWPair.peek, 0)
    # The stdlib's calls these two. It takes its turn once more for each.
    readline = _in_turn(io.BufferedRWPair.readline, -1)

    def write(self, data: Any, /) -> int:
        with self._turn_to_write:
            return super().write(data)

    def flush(self) -> None:
        with self._turn_to_write:
            super().flush()

    def close(self) -> None:
        if not self.closed:
            # The peer may wait for it before it sends what the one who reads waits for.
            with contextlib.suppress(OSError):  # which the second attempt, below, raises
                self.flush()
        with self._turn_to_write, self._turn:
            super().close()


#: By what they are in the stdlib.
GREEN: dict[type, Any] = {
    io.BufferedReader: Reader,
    io.BufferedWriter: Writer,
    io.BufferedRWPair: Pair,
}
