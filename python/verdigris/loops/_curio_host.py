"""Where tasks of curio keep their coroutine: in three attributes."""

from typing import Any

import curio

from verdigris.loops._host import AnyCoroutine, PortalHost


async def _checkpoint() -> None:
    await curio.sleep(0)


class CurioHost(PortalHost):
    """The tasks of curio."""

    name = "curio"

    def __init__(self) -> None:
        self.checkpoint = _checkpoint

    def is_task(self, candidate: object) -> bool:
        return isinstance(candidate, curio.Task)

    async def current_task(self) -> Any:
        return await curio.current_task()

    def is_current(self, task: Any) -> bool:
        # curio tells the current task to coroutines only.
        return bool(task._run_coro.cr_running)

    def has_ended(self, task: Any) -> bool:
        return bool(task.terminated)

    def is_reachable(self, task: Any) -> bool:
        return bool(curio.meta.curio_running())

    def coroutine(self, task: Any) -> AnyCoroutine:
        coroutine: AnyCoroutine = task._run_coro
        return coroutine

    def replace(self, task: Any, old: AnyCoroutine, new: AnyCoroutine) -> None:
        if task._run_coro is not old:
            raise RuntimeError(f"{task!r} has another coroutine than it had a moment ago.")
        task._run_coro = new
        task._send = new.send
        task._throw = new.throw

    async def shielded_checkpoint(self) -> None:
        async with curio.disable_cancellation():
            await curio.sleep(0)
