"""Public names that are loaded when they are first asked for.

A program that only awaits in sync functions pays nothing for calls between both worlds.
"""

import importlib
import os
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
    if name == "inspect":
        return importlib.import_module("verdigris.inspect")
    module = _MODULES.get(name)
    if module is None:
        raise AttributeError(f"module 'verdigris' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"verdigris.worlds.{module}"), name)
    setattr(importlib.import_module("verdigris"), name, value)
    return value


def inspect_from_the_start() -> None:
    """Lets the process be asked what waits in it, if `VERDIGRIS_INSPECT=1` says so."""
    if os.environ.get("VERDIGRIS_INSPECT", "0") not in ("", "0"):
        from verdigris import inspect

        inspect.enable()
        try:
            inspect.listen()
        except OSError as error:
            # What is there for debugging must not end the program.
            import warnings

            message = f"VERDIGRIS_INSPECT is set, but nobody can ask this process: {error}"
            warnings.warn(message, RuntimeWarning, stacklevel=2)
