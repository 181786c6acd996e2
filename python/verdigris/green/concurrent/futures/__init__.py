"""`concurrent.futures`, green: ThreadPoolExecutor, Future, `wait`, `as_completed`.

Processes stay the stdlib's: `ProcessPoolExecutor` is the very same class.

In the stdlib's own package nothing is to be patched, but in `concurrent.futures.thread`.
"""

from __future__ import annotations

import concurrent.futures as _original
from typing import Any

from verdigris.green import _twin
from verdigris.green.concurrent.futures import _base, thread

REPLACED: dict[str, object] = {}

_HERE: dict[str, Any] = {
    "Future": vars(_base)["Future"],
    "Executor": vars(_base)["Executor"],
    "wait": vars(_base)["wait"],
    "as_completed": vars(_base)["as_completed"],
    "ThreadPoolExecutor": vars(thread)["ThreadPoolExecutor"],
    "thread": thread,
    "_base": _base,
}


def __getattr__(name: str) -> Any:
    # What the stdlib imports only when somebody asks for it: the executors of processes.
    return getattr(_original, name)


def __dir__() -> list[str]:
    return [*_original.__all__, "__author__", "__doc__"]


_OWN = {"__getattr__": __getattr__, "__dir__": __dir__}
_twin.make(globals(), _original, {**_HERE, **_OWN})
globals().update(_HERE)
