"""Buffered files that several functions of a thread may use, as several threads may.

A buffered file of the stdlib has a lock of its own, which knows threads: it would raise
"RuntimeError: reentrant call" for the second of two functions on one thread, say for one that
closes the file while another waits for a line. So these have a lock that knows functions, before
that: the second one waits, as a thread would.
"""

from __future__ import annotations

import contextlib
import io
from typing import Any

from verdigris._engine import in_turn


def _repr(self: Any) -> str:
    """The stdlib's, which has the name of the class that others know."""
    kind = "Reader" if isinstance(self, io.BufferedReader) else "Writer"
    try:
        return f"<_io.Buffered{kind} name={self.name!r}>"
    except (AttributeError, ValueError):
        return f"<_io.Buffered{kind}>"


class Reader(io.BufferedReader):
    """`io.BufferedReader`."""

    __slots__ = ("_turn",)
    __repr__ = _repr


class Writer(io.BufferedWriter):
    """`io.BufferedWriter`."""

    __slots__ = ("_turn",)
    __repr__ = _repr


class Pair(io.BufferedRWPair):
    """`io.BufferedRWPair`: one function reads and another writes at the same time."""

    __slots__ = ("_turn", "_turn_to_write")

    def close(self) -> None:
        if not self.closed:
            # The peer may wait for it before it sends what the one who reads waits for.
            with contextlib.suppress(OSError):  # which the second attempt, below, raises
                self.flush()
        _close_pair(self)


def _take_turns(kind: Any, member: Any, names: str) -> None:
    for name in names.split():
        setattr(kind, name, in_turn(getattr(kind.__base__, name), member))


_take_turns(Reader, Reader._turn, "read read1 readinto readinto1 readline peek close")  # type: ignore[attr-defined]
_take_turns(Writer, Writer._turn, "write flush close")  # type: ignore[attr-defined]
# The stdlib's readline calls read and peek. It takes its turn once more for each.
_take_turns(Pair, Pair._turn, "read read1 readinto readinto1 readline peek")  # type: ignore[attr-defined]
_take_turns(Pair, Pair._turn_to_write, "write flush")  # type: ignore[attr-defined]
_close_pair: Any = in_turn(io.BufferedRWPair.close, Pair._turn)  # type: ignore[attr-defined]
_close_pair = in_turn(_close_pair, Pair._turn_to_write)  # type: ignore[attr-defined]

#: By what they are in the stdlib.
GREEN: dict[type, Any] = {
    io.BufferedReader: Reader,
    io.BufferedWriter: Writer,
    io.BufferedRWPair: Pair,
}
