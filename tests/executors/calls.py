"""Functions that the tests have called elsewhere: in other threads, interpreters and processes.

Workers import this file, so it imports nothing that has to be installed.
"""

from __future__ import annotations

import contextvars
import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")


def square(number: int) -> int:
    return number * number


def given(*args: Any, **kwargs: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    return args, kwargs


def process(*_: Any) -> int:
    return os.getpid()


def fails(message: str) -> None:
    raise LookupError(message)


def mistakes(*_: Any) -> None:
    raise TypeError("a mistake of the function's own")


def reads_variable() -> str:
    return variable.get()


def sleep(seconds: float, value: Any = None) -> Any:
    time.sleep(seconds)
    return value


def leaves_mark(path: str, value: Any = None) -> Any:
    with open(path, "a", encoding="ascii") as file:
        file.write(f"{value}\n")
    return value


def says_so_and_waits_for(begun: str, go_on: str, value: Any = None) -> Any:
    """Leaves a mark, and returns when another file is there. Never waits a minute."""
    leaves_mark(begun, value)
    limit = time.monotonic() + 50
    while not Path(go_on).exists():
        assert time.monotonic() < limit, "nobody wants this to go on"
        time.sleep(0.005)
    return value


def dies(*_: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def dies_when(go_on: str) -> None:
    says_so_and_waits_for(os.devnull, go_on)
    dies()


def dies_once(path: str, value: Any) -> Any:
    if Path(path).exists():
        return value
    Path(path).touch()
    return dies()


def returns_lock() -> Any:
    return threading.Lock()


def returns_lock_for(number: int) -> Any:
    return number, threading.Lock()


class Held(Exception):
    """One that can't be pickled."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.lock = threading.Lock()


def raises_held() -> None:
    raise Held("held")


class Odd(Exception):
    """One that can be pickled, and not made again."""

    def __init__(self, first: str, second: str) -> None:
        super().__init__(first)


def raises_odd() -> None:
    raise Odd("odd", "very")


def begins_a_coroutine() -> Any:
    async def coroutine() -> str:
        return "awaited"

    return coroutine()
