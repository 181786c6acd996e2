"""Ordinary synchronous functions that can wait inside asyncio and Trio programs.

Each function started by :func:`async_def` runs on a native stack of its own. When it calls
:func:`await_`, that stack is put aside and the event loop goes on with other work.

This file lists the public names and holds no code. The interpreter check comes first, because
loading the extension on a CPython it was not written for would crash instead of raising.
"""

# ruff: noqa: E402

from verdigris._interpreter import check as _check_interpreter

_check_interpreter()

from verdigris._async import async_ as async_
from verdigris._decorate import await_ as await_
from verdigris._engine import GreenCoroutine as GreenCoroutine
from verdigris._engine import NoAwaitContext as NoAwaitContext
from verdigris._engine import NoAwaitOccurred as NoAwaitOccurred
from verdigris._engine import async_def as async_def
from verdigris._engine import can_await as can_await
from verdigris._spawn import GreenTask as GreenTask
from verdigris._spawn import spawn as spawn
from verdigris.loops import TaskCancelled as TaskCancelled

__version__ = "0.1.0"

__all__ = [
    "GreenCoroutine",
    "GreenTask",
    "NoAwaitContext",
    "NoAwaitOccurred",
    "TaskCancelled",
    "__version__",
    "async_",
    "async_def",
    "await_",
    "can_await",
    "spawn",
]
