"""The event loops that verdigris can start tasks on.

`async_def` and `await_` need no file here: the engine passes through whatever the loop yields and
sends. Starting, cancelling and joining a background task is what each loop does in its own way,
and :class:`LoopTask` is that difference. asyncio's serves uvloop too.

A program that uses one loop library must not pay for importing another, nor need it installed.
A loop that runs has been imported already, so looking in `sys.modules` is enough to find it.
"""

import sys
from typing import Any

from verdigris.loops._task import LoopTask as LoopTask
from verdigris.loops._task import TaskCancelled as TaskCancelled

__all__ = ["LoopTask", "TaskCancelled", "current"]


def current() -> type[LoopTask[Any]] | None:
    """Finds the loop that runs the caller.

    Returns:
        How tasks are started on it, or None where no loop known here runs in this thread.
    """
    trio = sys.modules.get("trio")
    asyncio = sys.modules.get("asyncio")
    # A Trio task is asked for first: in guest mode Trio runs inside a running asyncio loop. But
    # an asyncio callback of the same thread is no Trio task, and belongs to asyncio.
    if trio is not None and trio.lowlevel.in_trio_task():
        from verdigris.loops._trio import TrioTask

        return TrioTask
    if asyncio is not None and asyncio._get_running_loop() is not None:
        from verdigris.loops._asyncio import AsyncioTask

        return AsyncioTask
    return None
