"""Tests on Trio.

`trio.run` can't be left and entered again. A guest run can stand still: its host calls what Trio
gives it to call, and does not while pytest works. To wait for descriptors Trio uses a thread then,
and the tests go on in the main thread.

In between the run is hidden, so that `trio.run` works (pytest-trio).
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from typing import Any

import outcome
import trio

from verdigris import _inner_loop
from verdigris._engine import await_
from verdigris._patch_in_place import get_original
from verdigris.loops._trio import TrioTask
from verdigris.pytest._loop import TestLoop, _Job, _owner
from verdigris.pytest._main_coroutine import MainCoroutine


class TrioTestLoop(TestLoop):
    """A run of Trio."""

    def __init__(self) -> None:
        """Begins the run. No code of a test's runs yet."""
        super().__init__("trio")
        self._calls: Any = get_original("queue", "SimpleQueue")()
        self._outcome: outcome.Outcome[Any] | None = None
        self._posted = trio.Event()
        self._sigint = _sigint_handler()
        trio.lowlevel.start_guest_run(
            _await,
            self._main,
            run_sync_soon_threadsafe=self._calls.put,
            done_callback=self._has_ended,
            host_uses_signal_set_wakeup_fd=True,  # signals wake who waits for `_calls`
        )
        self._token = trio.lowlevel.current_trio_token()
        self._trios_sigint = _sigint_handler()
        self._hidden = _inner_loop._Current()
        self._hide()

    def _has_ended(self, how: outcome.Outcome[Any]) -> None:
        self._outcome = how

    def _hide(self) -> None:
        if self._outcome is None:
            self._hidden.hide()
            _exchange_sigint(self._trios_sigint, self._sigint)

    def _show(self) -> None:
        self._hidden.show()
        _exchange_sigint(self._sigint, self._trios_sigint)

    def _advance(self, job: _Job[Any]) -> None:
        __tracebackhide__ = True
        if self._outcome is not None:
            raise RuntimeError("the trio loop of the tests has ended before")
        self._show()
        try:
            self._token.run_sync_soon(self._posted.set)
            how = self._call_until(lambda: job.ended)
            if how is not None and not job.ended:
                how.unwrap()
        finally:
            self._hide()

    # Protected: Ctrl-C is the main task's, and so the test's.
    @trio.lowlevel.enable_ki_protection
    def _call_until(self, is_over: Callable[[], bool]) -> outcome.Outcome[Any] | None:
        __tracebackhide__ = True
        while self._outcome is None and not is_over():
            try:
                call = self._calls.get()
            except BaseException as error:
                # A signal's handler has raised it, while the test waits.
                if _sigint_handler() is not self._trios_sigint or self._trios_sigint is None:
                    raise
                self._main.throw_instead(error)
                signal.raise_signal(signal.SIGINT)
            else:
                call()
        return self._outcome

    def _end(self) -> None:
        if self._outcome is not None:
            return
        self._show()
        try:
            self._token.run_sync_soon(self._posted.set)
            how = self._call_until(lambda: False)
        finally:
            self._hide()
        if how is not None:
            how.unwrap()

    def _wait_for_job(self) -> None:
        await_(self._posted.wait())
        self._posted = trio.Event()

    def _job_has_ended(self) -> None:
        pass  # the host looks

    def _turn(self) -> None:
        await_(trio.lowlevel.checkpoint())

    def _tasks_of(self, owner: object) -> list[trio.lowlevel.Task]:
        root = trio.lowlevel.current_root_task()
        assert root is not None
        # In nurseries of the test's own there is nobody left: those end with the block.
        return [
            task
            for nursery in root.child_nurseries
            for task in nursery.child_tasks
            if task.context.get(_owner) is owner
        ]

    def _cancel(self, owner: object) -> list[str]:
        left = self._tasks_of(owner)
        for task in left:
            # Only those of `spawn` have a scope of their own. Others end with the run.
            spawned = _spawned(task)
            if spawned is not None:
                spawned.cancel()
                await_(spawned.wait(1))
        return sorted(task.name for task in left)


async def _await(main: MainCoroutine) -> None:
    await main


def _spawned(task: trio.lowlevel.Task) -> TrioTask[Any] | None:
    """The task of `spawn` that a system task of Trio's runs."""
    frame = getattr(task.coro, "cr_frame", None)
    found = None if frame is None else frame.f_locals.get("self")
    return found if isinstance(found, TrioTask) else None


def _sigint_handler() -> Any:
    return signal.getsignal(signal.SIGINT)


def _exchange_sigint(old: Any, new: Any) -> None:
    if (
        old is not new
        and threading.current_thread() is threading.main_thread()
        and signal.getsignal(signal.SIGINT) is old
    ):
        signal.signal(signal.SIGINT, new)
