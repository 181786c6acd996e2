"""`a_input`: a line that the user types, waited for."""

from __future__ import annotations

import contextlib
import functools
import os
import stat
import sys
from collections.abc import Callable

from verdigris import loops
from verdigris._engine import Lock, async_def, await_, wait_fd
from verdigris.loops import _reactors as _reactors  # the engine finds reactors through it

_READ = 1  # for `wait_fd`


async def a_input(prompt: object = "") -> str:
    """Asks the user for a line, as `input` does, while the loop goes on.

    Runs on asyncio, uvloop, Trio and curio. A checkpoint. If several ask at once, each gets a line
    (on curio the second is refused). If the caller is cancelled, what was typed of
    the line is thrown away.

    It reads from standard input's descriptor, and not more than the line: what `input()` has read
    ahead from a pipe is not seen. A standard input that was replaced by an object without a
    descriptor is asked for its line at once.

    Args:
        prompt: What is written before.

    Returns:
        The line, without its end.

    Raises:
        EOFError: Standard input has ended.
        RuntimeError: There is no standard input.

    Example:
        >>> from verdigris import a_input
        >>> async def greet():
        ...     print("Hello,", await a_input("Who are you? "))
    """
    if sys.stdin is None:
        raise RuntimeError("a_input(): this process has no standard input")
    print(prompt, end="", flush=True)
    try:
        descriptor = sys.stdin.fileno()
    except (OSError, ValueError, AttributeError):
        line = sys.stdin.readline()
        if not line:
            raise EOFError("standard input has ended") from None
        return line.removesuffix("\n")
    data = await async_def(_read_line, descriptor)
    if not data:
        raise EOFError("standard input has ended")
    encoding = getattr(sys.stdin, "encoding", None) or "utf-8"
    text = data.decode(encoding, getattr(sys.stdin, "errors", None) or "strict")
    return text.removesuffix("\n").removesuffix("\r")


# Two that read at once would share a line; and whoever is woken for one that the other has read
# would block the loop.
_one_at_a_time = Lock()


def _read_line(descriptor: int) -> bytes:
    """Reads one line, in a green function."""
    if loops.running_library() == "curio":  # which green locks don't know
        return _read_alone(descriptor, functools.partial(_wait_on_curio, descriptor))
    with _one_at_a_time:
        return _read_alone(descriptor, functools.partial(wait_fd, descriptor, _READ))


def _wait_on_curio(descriptor: int) -> None:
    import curio

    # A file, which no selector can watch and is always ready, would be the end of its kernel.
    mode = os.fstat(descriptor).st_mode
    if stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode) or os.isatty(descriptor):
        await_(curio.traps._read_wait(descriptor))


def _read_alone(descriptor: int, wait: Callable[[], object]) -> bytes:
    # A terminal gives one line at a time. From anything else a longer read takes what comes next.
    is_terminal = os.isatty(descriptor)
    line = b""
    try:
        while not line.endswith(b"\n"):
            wait()
            more = os.read(descriptor, 4096 if is_terminal else 1)
            if not more:
                break
            line += more
    except BaseException:
        if is_terminal:
            with contextlib.suppress(ImportError, OSError):
                import termios

                termios.tcflush(descriptor, termios.TCIFLUSH)
        raise
    return line
