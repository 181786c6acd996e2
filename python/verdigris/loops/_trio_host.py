"""Where tasks of Trio keep their coroutine: in an attribute that Trio makes public."""

import inspect
from typing import Any

import trio

from verdigris.loops._host import AnyCoroutine, PortalHost


class TrioHost(PortalHost):
    """The tasks of Trio."""

    name = "trio"

    def __init__(self) -> None:
        self.checkpoint = trio.lowlevel.checkpoint

    def is_task(self, candidate: object) -> bool:
        return isinstance(candidate, trio.lowlevel.Task)

    async def current_task(self) -> trio.lowlevel.Task:
        return trio.lowlevel.current_task()

    def is_current(self, task: Any) -> bool:
        return trio.lowlevel.in_trio_task() and trio.lowlevel.current_task() is task

    def has_ended(self, task: Any) -> bool:
        return inspect.getcoroutinestate(task.coro) == inspect.CORO_CLOSED

    def is_reachable(self, task: Any) -> bool:
        if not trio.lowlevel.in_trio_run():
            return False
        root = task
        while root.parent_nursery is not None:
            root = root.parent_nursery.parent_task
        return root is (trio.lowlevel.current_root_task() or root)

    def coroutine(self, task: Any) -> AnyCoroutine:
        coroutine: AnyCoroutine = task.coro
        return coroutine

    def replace(self, task: Any, old: AnyCoroutine, new: AnyCoroutine) -> None:
        if task.coro is not old:
            raise RuntimeError(f"{task!r} has another coroutine than it had a moment ago.")
        task.coro = new
        # A task that is about to run has the method already that will step it.
        method = getattr(task, "_next_send_fn", None)
        if method is not None and getattr(method, "__self__", None) is old:
            task._next_send_fn = getattr(new, method.__name__)

    async def shielded_checkpoint(self) -> None:
        await trio.lowlevel.cancel_shielded_checkpoint()
