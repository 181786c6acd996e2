"""`python -m verdigris ps PID`: asks a running program what waits in it."""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path

from verdigris.inspect import _meeting_place, _remote

USAGE = "usage: python -m verdigris ps [--timeout SECONDS] PID"

_HOW = """\
Process {pid} does not listen, and can't be asked otherwise{why}.
Either start it with VERDIGRIS_INSPECT=1 in its environment, or call verdigris.inspect.listen() in
it. With verdigris.inspect.install_signal() in it, `kill -USR2 {pid}` prints to its stderr."""

_NO_ANSWER = """\
Process {pid} has not answered for {timeout:g} seconds. {state}
`py-spy dump --native --pid {pid}` or gdb tell where it is; faulthandler.dump_traceback_later() in
the program does so without the GIL."""


def main(arguments: list[str]) -> int:
    """Prints the answer, and returns the exit code."""
    asked = _parse(arguments)
    if asked is None:
        print(USAGE, file=sys.stderr)
        return 2
    pid, timeout = asked
    try:
        text = _ask(pid, timeout)
    except _NoAnswer as error:
        print(f"verdigris: {error}", file=sys.stderr)
        return 1
    print(text, end="")
    return 0


class _NoAnswer(Exception):
    pass


def _parse(arguments: list[str]) -> tuple[int, float] | None:
    timeout = 5.0
    try:
        if arguments[:1] == ["--timeout"]:
            timeout = float(arguments[1])
            arguments = arguments[2:]
        (pid,) = map(int, arguments)
    except (ValueError, IndexError):
        return None
    return (pid, timeout) if pid > 0 and timeout > 0 else None


def _ask(pid: int, timeout: float) -> str:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        raise _NoAnswer(f"there is no process {pid}") from None
    except PermissionError:
        raise _NoAnswer(f"process {pid} is another user's") from None
    try:
        text = _ask_socket(_meeting_place.socket_path(pid), timeout)
        if text is not None:
            return text
        if not hasattr(sys, "remote_exec"):
            raise _NoAnswer(_HOW.format(pid=pid, why=" before CPython 3.14"))
        return _remote.ask(pid, timeout)
    except TimeoutError:
        raise _NoAnswer(_NO_ANSWER.format(pid=pid, timeout=timeout, state=_state_of(pid))) from None
    except (OSError, RuntimeError) as error:
        raise _NoAnswer(_HOW.format(pid=pid, why=f": {error}")) from None


def _ask_socket(path: str, timeout: float) -> str | None:
    """What a process says that listens; None if it does not."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(timeout)
        try:
            connection.connect(path)
        except (FileNotFoundError, ConnectionRefusedError):
            return None
        parts = []
        while part := connection.recv(1 << 16):
            parts.append(part)
        if not parts:
            raise OSError("it hung up without an answer")
        return b"".join(parts).decode()


def _state_of(pid: int) -> str:
    """What the kernel says of the main thread."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
        letter = state.rpartition(")")[2].split()[0]
    except (OSError, IndexError):
        letter = ""
    if letter == "T":
        return "It is stopped: `kill -CONT` lets it go on."
    doing = {"R": "computes", "S": "waits in the kernel", "D": "waits for a device"}.get(letter)
    blocked = "No Python code runs there: code in C goes on, or holds the GIL"
    return f"{blocked}; its main thread {doing}." if doing else f"{blocked}."
