"""The middle layer of the echo programs: plain functions that know nothing of sockets or loops.

`echo_threads.py` and `echo_asyncio.py` both import it. Between the two programs not a line
of this file changes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

MESSAGES = ("one", "two", "three", "four", "five")

# Takes host, port and a message; gives the reply.
Implementation: TypeAlias = Callable[[str, int, str], str]


def send_receive_logic(msg: str, host: str, port: int, implementation: Implementation) -> str:
    """Word the message, have it sent, and check what comes back."""
    message = f"message number {msg}\n"
    reply = implementation(host, port, message)
    if reply != message:
        raise ValueError(f"sent {message!r}, got {reply!r}: is {host}:{port} an echo server?")
    return reply.rstrip("\n")
