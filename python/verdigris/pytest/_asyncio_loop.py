"""Tests on asyncio and uvloop. The loop stands still when `run_until_complete` has returned."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import threading
import weakref
from collections.abc import Callable, Coroutine, Iterator
from types import FrameType
from typing import Any

from verdigris._engine import await_
from verdigris.pytest._loop import TestLoop, _Job, _owner
from verdigris.pytest._main_coroutine import MainCoroutine


class AsyncioTestLoop(TestLoop):
    """A loop of asyncio's or uvloop's."""

    def __init__(self, name: str) -> None:
        """Takes `asyncio` or `uvloop`."""
        super().__init__(name)
        self._runner = asyncio.Runner(loop_factory=_factory(name))
        self._loop = self._runner.get_loop()
        self._owners: weakref.WeakKeyDictionary[Any, object] | None = None
        if not hasattr(asyncio.Task, "get_context"):  # it is new in 3.12
            self._owners = weakref.WeakKeyDictionary()
            self._loop.set_task_factory(self._make_task)
        if name == "uvloop":
            self._loop.set_exception_handler(self._handle)
        self._posted = asyncio.Event()
        self._done: asyncio.Future[None] = self._loop.create_future()
        self._main.exchanged = self._uncancel
        self._task = self._loop.create_task(_await(self._main))

    def _make_task(
        self, loop: asyncio.AbstractEventLoop, coro: Coroutine[Any, Any, Any] | Any, **more: Any
    ) -> asyncio.Task[Any]:
        task = asyncio.Task(coro, loop=loop, **more)
        assert self._owners is not None
        self._owners[task] = _owner.get()
        return task

    def _handle(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """uvloop tells its exception handler what the handler of a signal raises, and goes on."""
        error = context.get("exception")
        if isinstance(error, Exception | asyncio.CancelledError) or error is None:
            loop.default_exception_handler(context)
        else:
            self._throw(error)

    def _advance(self, job: _Job[Any]) -> None:
        __tracebackhide__ = True
        if self._task.done():
            raise RuntimeError(f"the {self.name} loop of the tests has ended before")
        self._done = self._loop.create_future()
        self._posted.set()
        with self._on_ctrl_c():
            self._run_until_done()

    def _run_until_done(self) -> None:
        __tracebackhide__ = True
        while not self._done.done():
            try:
                self._loop.run_until_complete(self._done)
            except BaseException as error:
                if self._done.done() or self._task.done():
                    raise
                self._throw(error)

    def _throw(self, error: BaseException) -> None:
        self._main.throw_instead(error)
        self._task.cancel()

    def _uncancel(self) -> None:
        self._task.uncancel()

    @contextlib.contextmanager
    def _on_ctrl_c(self) -> Iterator[None]:
        """Raises KeyboardInterrupt in the test, where it waits or computes."""

        def handler(number: int, frame: FrameType | None) -> None:
            if self._main.computes or self._main.is_to_throw:
                # The second time wherever it is: the loop may be kept from going round.
                raise KeyboardInterrupt
            self._throw(KeyboardInterrupt())
            self._loop.call_soon_threadsafe(lambda: None)  # it may wait in C

        handler._verdigris = True  # type: ignore[attr-defined] # for `_inner_loop`
        if (
            threading.current_thread() is not threading.main_thread()
            or signal.getsignal(signal.SIGINT) is not signal.default_int_handler
        ):
            yield
            return
        signal.signal(signal.SIGINT, handler)
        try:
            yield
        finally:
            if signal.getsignal(signal.SIGINT) is handler:
                signal.signal(signal.SIGINT, signal.default_int_handler)

    def _end(self) -> None:
        self._posted.set()
        try:
            if not self.broken:
                with self._on_ctrl_c():
                    self._loop.run_until_complete(self._task)
        finally:
            self._runner.close()

    def _wait_for_job(self) -> None:
        # A test may have cancelled its own task, and have ended without waiting.
        with contextlib.suppress(asyncio.CancelledError):
            await_(self._posted.wait())
        self._posted.clear()

    def _job_has_ended(self) -> None:
        while self._task.cancelling():
            self._task.uncancel()  # that was the test's
        self._posted.clear()
        self._done.set_result(None)

    def _turn(self) -> None:
        await_(asyncio.sleep(0))

    def _tasks_of(self, owner: object) -> list[asyncio.Task[Any]]:
        return [task for task in asyncio.all_tasks(self._loop) if self._owner_of(task) is owner]

    def _owner_of(self, task: Any) -> object:
        if self._owners is not None:
            return self._owners.get(task)
        return task.get_context().get(_owner)

    def _cancel(self, owner: object) -> list[str]:
        left = self._tasks_of(owner)
        for task in left:
            task.cancel()
        if left:
            await_(asyncio.wait(left, timeout=1))
        return sorted(_name(task) for task in left)


def _factory(name: str) -> Callable[[], asyncio.AbstractEventLoop]:
    if name == "uvloop":
        import uvloop

        factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
        return factory
    return asyncio.new_event_loop


async def _await(main: MainCoroutine) -> None:
    await main


def _name(task: asyncio.Task[Any]) -> str:
    coroutine = getattr(task.get_coro(), "__qualname__", None)
    return task.get_name() if coroutine is None else f"{task.get_name()} ({coroutine})"
