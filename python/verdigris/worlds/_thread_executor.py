"""`ThreadExecutor`: a thread for each call, and nobody has to wait for it.

What a thread does can't be stopped. It can be abandoned: nobody waits for it any more, and the
interpreter's exit does not either.

An executor has the set of futures that are not *settled*. One is settled when its call is done, or
when it is abandoned, whatever comes first. Each has a lock for those who wait, which is held until
then, so that nothing runs only to look after threads.
"""

from __future__ import annotations

import concurrent.futures
import contextvars
import enum
import itertools
import os
from collections.abc import Callable
from types import TracebackType
from typing import Any, ParamSpec, TypeVar

from verdigris.green import _wait
from verdigris.worlds._future import Future, call
from verdigris.worlds._os_thread import (
    OSThread,
    allocate_lock,
    get_ident,
    make_guard,
    report_exception,
)

P = ParamSpec("P")
T = TypeVar("T")

_numbers = itertools.count()


class ExitOption(enum.Enum):
    """What a `ThreadExecutor` does at the end of its `with` block."""

    #: Abandon the calls that are not done.
    ABANDON = 1
    #: Take no more calls, and don't wait for those that are not done.
    NO_WAIT = 2
    #: Take no more calls, and wait until all are done, as other executors do.
    WAIT = 3


class ThreadFuture(Future[T]):
    """The future of a call in a `ThreadExecutor`, which makes it."""

    def __init__(self) -> None:
        """For executors and tests."""
        super().__init__()
        self._is_abandoned = False
        self._thread: OSThread | None = None
        # Of an executor, until this is settled.
        self._unsettled: set[ThreadFuture[Any]] = set()
        lock = allocate_lock()
        lock.acquire()
        # Taken out by the one who settles this. Two can't both have it.
        self._held = [lock]

    def abandon(self) -> None:
        """Has nobody wait for the call: not the executor, nor the interpreter's exit.

        The thread goes on: the result or the exception still comes into this future, and its
        callbacks are called. Again does no harm. Not a checkpoint.
        """
        self._is_abandoned = True
        self._settle()

    def is_abandoned(self) -> bool:
        """Tells whether `abandon` was called, here or on the executor. Not a checkpoint."""
        return self._is_abandoned

    def _settle(self) -> None:
        self._unsettled.discard(self)
        try:
            lock = self._held.pop()
        except IndexError:
            return
        lock.release()

    def _wait_until_settled(self) -> None:
        for lock in list(self._held):
            lock.acquire()
            lock.release()


class ThreadExecutor(concurrent.futures.Executor):
    """An executor that starts an OS thread for each call, without limit, and can abandon them.

    The threads are daemon threads: the interpreter's exit does not wait for them, and what they
    are about then is lost. They are always OS threads, also in green functions and after
    `patch_all()`. A call has the context variables of the one who submits it.

    The end of a `with` block abandons the calls that are not done, unless `on_exit` says otherwise.
    All methods can be called from any thread.

    Args:
        on_exit: What the end of a `with` block does.

    Raises:
        ValueError: `on_exit` is no `ExitOption`.

    Example:
        >>> import time
        >>> from verdigris.worlds._thread_executor import ThreadExecutor
        >>> with ThreadExecutor() as executor:
        ...     answer = executor.submit(max, 3, 4)
        ...     print(answer.result())
        ...     slow = executor.submit(time.sleep, 3600)
        4
        >>> slow.is_abandoned(), slow.done()
        (True, False)
    """

    def __init__(self, on_exit: ExitOption = ExitOption.ABANDON) -> None:
        self._on_exit = ExitOption(on_exit)
        self._name = f"ThreadExecutor-{next(_numbers)}"
        self._started = itertools.count()
        self._is_shut_down = False
        self._pid = os.getpid()
        # Guards the step from "not shut down" to "in the set". One thread can take it again: a
        # finalizer may submit.
        self._guard = make_guard()
        self._unsettled: set[ThreadFuture[Any]] = set()

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> ThreadFuture[T]:
        """Calls a function in a new thread. Not a checkpoint.

        Args:
            fn: The function.
            *args: Its arguments.
            **kwargs: Its keyword arguments.

        Returns:
            The future of the result.

        Raises:
            RuntimeError: The executor was shut down or abandoned; or the system has no thread.
        """
        self._see_fork()
        future: ThreadFuture[T] = ThreadFuture()
        thread = future._thread = OSThread(f"{self._name}_{next(self._started)}")
        with self._guard:
            if self._is_shut_down:
                raise RuntimeError(
                    "the executor was shut down and takes no more calls: make another "
                    "ThreadExecutor, or shut this one down later."
                )
            future._unsettled = self._unsettled
            self._unsettled.add(future)
        try:
            thread.start(_be_thread, future, contextvars.copy_context(), fn, args, kwargs)
        except BaseException:
            future._settle()
            raise
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Takes no more calls. Again does no harm.

        In a green function a checkpoint, if it waits.

        Args:
            wait: Whether to return when every call is done or abandoned.
            cancel_futures: Whether to cancel the calls whose thread has not begun. There is no
                queue, so these are few.
        """
        self._see_fork()
        with self._guard:
            self._is_shut_down = True
        if cancel_futures:
            for future in list(self._unsettled):
                future.cancel()
        if wait:
            _wait.offload(self._wait_for, get_ident())

    def abandon(self) -> None:
        """Shuts down, and abandons every call that is not done. Again does no harm.

        It does not wait, and whoever waits in `shutdown` goes on. Not a checkpoint.
        """
        self.shutdown(wait=False)
        for future in list(self._unsettled):
            future.abandon()

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_val: BaseException | None,
        exc_tb: TracebackType | None,
    ) -> None:
        """Does what `on_exit` says. An exception goes on."""
        if self._on_exit is ExitOption.ABANDON:
            self.abandon()
        else:
            self.shutdown(wait=self._on_exit is ExitOption.WAIT)

    def _wait_for(self, caller: int) -> None:
        # A call that shuts down its own executor waits for the others.
        while others := [
            future
            for future in list(self._unsettled)
            if future._thread is None or future._thread.ident != caller
        ]:
            for future in others:
                future._wait_until_settled()

    def _see_fork(self) -> None:
        """In the child of a fork the threads are gone, and their calls are never done."""
        if self._pid != os.getpid():
            self._pid = os.getpid()
            self._guard = make_guard()
            self._unsettled = set()


def _be_thread(
    future: ThreadFuture[Any],
    context: contextvars.Context,
    fn: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> None:
    try:
        context.run(call, future, fn, args, kwargs)
    except BaseException:  # of a callback of the future
        report_exception()
    finally:
        future._settle()
