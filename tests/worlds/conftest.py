"""The loops that both worlds meet on: those of the other tests, and curio's kernel."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from conftest import CHOSEN, LOOPS, Background, Loop, Outcome


class CurioLoop(Loop):
    name = "curio"

    def __init__(self) -> None:
        # Its last release can't be imported on Python 3.12 and later.
        self.curio: Any = pytest.importorskip(
            "curio", reason="curio is not installed", exc_type=ImportError
        )
        self.cancelled = self.curio.CancelledError
        self.timed_out = self.curio.TaskTimeout

    def run(self, async_fn: Callable[..., Awaitable[Any]], *args: Any) -> Any:
        with self.curio.Kernel() as kernel:
            return kernel.run(async_fn, *args)

    async def sleep(self, seconds: float) -> None:
        await self.curio.sleep(seconds)

    async def checkpoint(self) -> None:
        await self.curio.sleep(0)

    def event(self) -> Any:
        return _CurioEvent(self.curio)

    @contextlib.asynccontextmanager
    async def deadline(self, seconds: float) -> AsyncIterator[None]:
        async with self.curio.timeout_after(seconds):
            yield

    @contextlib.asynccontextmanager
    async def tasks(self) -> AsyncIterator[Callable[..., Background]]:
        """`start` gives no task before the next step of the one that called it."""
        curio = self.curio
        async with _CurioTasks(curio) as tasks:
            yield tasks.start
            await tasks.wait()


class _CurioEvent:
    """curio's event is set in coroutines only; this one in functions too, of the same thread."""

    def __init__(self, curio: Any) -> None:
        self._curio = curio
        self._is_set = False

    def set(self) -> None:
        self._is_set = True

    def is_set(self) -> bool:
        return self._is_set

    async def wait(self) -> None:
        while not self._is_set:
            await self._curio.sleep(0.001)


class _CurioTasks:
    """Starts tasks from functions: through one task that takes orders, as curio has it."""

    def __init__(self, curio: Any) -> None:
        self._curio = curio
        self._orders: list[Any] = []
        self._open = True
        self._started: list[Background] = []

    async def __aenter__(self) -> _CurioTasks:
        self._clerk = await self._curio.spawn(self._serve, daemon=True)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._open = False
        await self._clerk.join()

    async def _serve(self) -> None:
        while self._open or self._orders:
            while self._orders:
                await self._orders.pop(0)()
            await self._curio.sleep(0.001)

    def start(self, async_fn: Callable[..., Any], *args: Any) -> Background:
        curio = self._curio
        task: Any = None

        async def body() -> None:
            try:
                background.outcome = Outcome(value=await async_fn(*args))
            except curio.CancelledError:
                background.outcome = Outcome(cancelled=True)
            except Exception as error:
                background.outcome = Outcome(error=error)
            finally:
                background.ended.set()

        async def begin() -> None:
            nonlocal task
            task = await curio.spawn(body, daemon=True)

        async def cancel() -> None:
            await task.cancel(blocking=False)

        background = Background(
            cancel=lambda: self._orders.append(cancel), ended=_CurioEvent(curio)
        )
        self._orders.append(begin)
        self._started.append(background)
        return background

    async def wait(self) -> None:
        for background in self._started:
            await background.wait()


@pytest.fixture(params=[*CHOSEN, "curio"])
def any_loop(request: pytest.FixtureRequest) -> Loop:
    """The same test on asyncio, uvloop, Trio and, where it can be imported, curio."""
    return CurioLoop() if request.param == "curio" else LOOPS[request.param]()
