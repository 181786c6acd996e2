"""The functions, portals and tasks of this process, found in what the collector knows.

Every function that waits is known to the collector, and so is every task, whatever its thread and
its loop. So nobody has to keep a list.
"""

from __future__ import annotations

import gc
import sys
from dataclasses import dataclass, field
from typing import Any

from verdigris._engine import GreenCoroutine, PortalCoroutine
from verdigris.inspect._awaits import chain


@dataclass
class Heap:
    """What was found."""

    functions: list[GreenCoroutine[Any]] = field(default_factory=list)
    portals: list[PortalCoroutine[Any]] = field(default_factory=list)
    # The names of tasks, by the identity of each coroutine below them.
    _task_of: dict[int, str] = field(default_factory=dict)

    def task_of(self, coroutine: object) -> str | None:
        """The name of the task that a coroutine is driven by."""
        return self._task_of.get(id(coroutine))


def look() -> Heap:
    """Looks through all objects."""
    heap = Heap()
    names = _task_types()
    # Found with a loop that makes no object for each of a million.
    wanted = {GreenCoroutine, PortalCoroutine, *names}
    found = [thing for thing in gc.get_objects() if type(thing) in wanted]
    for thing in found:
        kind: Any = type(thing)
        if kind is GreenCoroutine:
            heap.functions.append(thing)
        elif kind is PortalCoroutine:
            heap.portals.append(thing)
        elif (task := names[kind](thing)) is not None:
            name, coroutine = task
            for below in chain(coroutine):
                heap._task_of[id(below)] = name
    return heap


def _task_types() -> dict[type, Any]:
    """The types of tasks there are, each with what gives a task's name and coroutine."""
    types: dict[type, Any] = {}
    asyncio: Any = sys.modules.get("asyncio")
    if asyncio is not None:
        written_in_c: Any = getattr(asyncio.tasks, "_CTask", None)
        pending: list[type] = [asyncio.Task, asyncio.tasks._PyTask]
        while pending:
            kind = pending.pop()
            if kind not in types:
                is_c = written_in_c is not None and issubclass(kind, written_in_c)
                types[kind] = _of_c_task if is_c else _of_python_task
                pending.extend(type.__subclasses__(kind))
    trio: Any = sys.modules.get("trio")
    if trio is not None and hasattr(trio, "lowlevel"):
        types[trio.lowlevel.Task] = _of_trio
    curio: Any = sys.modules.get("curio.task")
    if curio is not None and hasattr(curio, "Task"):
        types[curio.Task] = _of_trio
    return types


def _of_c_task(task: Any) -> tuple[str, object] | None:
    # The collector knows a task before it is made to its end, which another thread may be about.
    # Asked for a name or a coroutine that is not there yet, asyncio's C code crashes.
    parts = gc.get_referents(task)
    has_name = any(isinstance(part, (str, int)) for part in parts)
    has_coroutine = any(hasattr(type(part), "send") for part in parts)
    return (task.get_name(), task.get_coro()) if has_name and has_coroutine else None


def _of_python_task(task: Any) -> tuple[str, object] | None:
    try:
        return task.get_name(), task.get_coro()
    except AttributeError:  # not yet made to its end
        return None


def _of_trio(task: Any) -> tuple[str, object] | None:
    try:
        return task.name, task.coro
    except AttributeError:  # not yet made to its end
        return None
