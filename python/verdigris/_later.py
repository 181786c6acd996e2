"""Public names that are loaded when they are first asked for.

A program that only awaits in sync functions pays nothing for calls between both worlds.
"""

import importlib
from typing import Any

_MODULES = {
    "CallCancelled": "_completed",
    "CallsFailed": "_completed",
    "CallsTimedOut": "_completed",
    "Completed": "_completed",
    "ExitOption": "_thread_executor",
    "Parallel": "_parallel",
    "PoolFull": "_pool",
    "Serial": "_serial",
    "ThreadExecutor": "_thread_executor",
    "ThreadPool": "_pool",
    "a_input": "_input",
    "atomic": "_atomic",
    "block": "_blocking",
    "idle_event_loop": "_thread_loop",
    "queue_background_thread": "_blocking",
    "run": "_to_async",
    "to_async": "_to_async",
    "to_blocking": "_blocking",
}


def __getattr__(name: str) -> Any:
    """Gives a name of `verdigris` that is not there yet, and puts it there."""
    module = _MODULES.get(name)
    if module is None:
        raise AttributeError(f"module 'verdigris' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"verdigris.worlds.{module}"), name)
    setattr(importlib.import_module("verdigris"), name, value)
    return value
