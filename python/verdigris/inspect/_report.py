"""What waits and what runs, as text."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from typing import TextIO

from verdigris.inspect._suspended import Suspended, _thread_names, stack_of, suspended


def format_suspended(found: Iterable[Suspended] | None = None) -> str:
    """Puts functions that wait into text, each with its stack.

    Args:
        found: What `suspended` gave. By default it is called.

    Returns:
        The text, which ends with a line feed.
    """
    functions = suspended() if found is None else list(found)
    count = len(functions)
    head = f"{count} green function{'' if count == 1 else 's'} wait{'s' if count == 1 else ''}"
    return "\n\n".join([head + ".", *map(str, functions)]) + "\n"


def print_suspended(file: TextIO | None = None) -> None:
    """Prints every green function of this process that waits, with its stack.

    Args:
        file: Where to. By default to `sys.stderr`.
    """
    (sys.stderr if file is None else file).write(format_suspended())


def report(leave_out: int | None = None) -> str:
    """All that one asks a running program: what waits, and where its threads are.

    Args:
        leave_out: The thread that asks.
    """
    names = _thread_names()
    parts = [f"Process {os.getpid()}. {format_suspended()}".rstrip()]
    for ident, frame in sys._current_frames().items():
        if ident != leave_out:
            stack = "".join(stack_of(frame).format()).rstrip()
            parts.append(f"Thread {names.get(ident, str(ident))!r} runs:\n{stack}")
    return "\n\n".join(parts) + "\n"
