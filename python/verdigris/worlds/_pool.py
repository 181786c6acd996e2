"""`ThreadPool`: OS threads for calls that block, as many as help.

The workers are in `_crew`, and when one is added in `_growth`. This file has the interface: that of
`concurrent.futures.Executor`, a look at what goes on, and two ways to have work done that the
stdlib's pools lack: at once or not at all, and without a Future.
"""

from __future__ import annotations

import concurrent.futures
import itertools
import os
import threading
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, ParamSpec, TypeVar

from verdigris.green import _wait
from verdigris.worlds import _crew
from verdigris.worlds._crew import Crew, Work
from verdigris.worlds._future import Future, call
from verdigris.worlds._os_thread import allocate_lock

P = ParamSpec("P")
T = TypeVar("T")

#: Threads of one pool. One that waits costs what it has touched of its stack: 17 KiB in a sleep.
MAX_WORKERS = 500
#: Seconds after which a worker without work ends. A new one costs some 50 microseconds.
IDLE_SECONDS = 5.0


class PoolFull(RuntimeError):
    """A call would have to wait for a worker, and was not to be queued.

    Example:
        >>> from verdigris.worlds._pool import PoolFull, ThreadPool
        >>> from threading import Event
        >>> goes_on = Event()
        >>> with ThreadPool(max_workers=1) as pool:
        ...     waits = pool.submit(goes_on.wait)
        ...     try:
        ...         pool.submit_now(print, "at once")
        ...     except PoolFull:
        ...         print("busy")
        ...     goes_on.set()
        busy
    """


@dataclass(frozen=True)
class PoolStats:
    """What a pool does at a moment. Threads go on meanwhile: the numbers are soon out of date."""

    #: Threads of the pool.
    workers: int
    #: Of these, the ones that wait for work.
    idle: int
    #: The others.
    busy: int
    #: Work that no worker has begun.
    queued: int
    #: The limit of `workers`.
    max_workers: int
    #: Threads that were started since the pool was made, or since a fork.
    started: int
    #: Of these, the ones that are over.
    ended: int

    @property
    def is_full(self) -> bool:
        """Whether the next call would be queued, and `submit_now` raise `PoolFull`."""
        return not self.idle and self.workers >= self.max_workers


class ThreadPool(concurrent.futures.Executor):
    """A pool of OS threads that grows where they all wait, and shrinks when they are not needed.

    It is a `concurrent.futures.Executor`, and can stand where a `ThreadPoolExecutor` does. The
    first few threads, CPUs + 4 and at most 32, are started as work comes. More are added while
    work is queued, every thread is busy and the process leaves CPU free: where calls wait, 1,000
    of them soon do so at once; where they compute, more threads would be slower. A thread that had
    no work for some seconds ends, down to none.

    Its threads are always OS threads, also in green functions and after `patch_all()`. In a green
    function, waiting for a result (`submit(...).result()`) or for the pool's end does not block
    the loop. All methods can be called from any thread.

    Used in a `with` statement it is shut down at the end, and waited for. The interpreter waits at
    its exit for what was submitted. In the child of a fork the pool is there, with nothing queued;
    futures that the parent's threads had in hand are never done there.

    Args:
        max_workers: The limit of threads. None is 500.
        thread_name_prefix: The beginning of the threads' names.
        idle_seconds: How long a thread waits for work before it ends.

    Raises:
        ValueError: `max_workers` is below 1, or `idle_seconds` below 0.

    Example:
        >>> import time
        >>> from verdigris.worlds._pool import ThreadPool
        >>> with ThreadPool() as pool:
        ...     calls = [pool.submit(time.sleep, 0.05) for _ in range(200)]
        ...     print(pool.submit(sum, [1, 2, 3]).result())
        6
    """

    def __init__(
        self,
        max_workers: int | None = None,
        thread_name_prefix: str = "",
        *,
        idle_seconds: float = IDLE_SECONDS,
    ) -> None:
        if max_workers is None:
            max_workers = MAX_WORKERS
        if max_workers < 1:
            raise ValueError(f"max_workers must be at least 1, not {max_workers}")
        if not idle_seconds >= 0:
            raise ValueError(f"idle_seconds must not be negative, as {idle_seconds} is")
        name = thread_name_prefix or f"ThreadPool-{next(_numbers)}"
        self._crew = Crew(name, max_workers, min(idle_seconds, threading.TIMEOUT_MAX))
        _pools.add(self)

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Has a function called in a thread of the pool. Not a checkpoint.

        Args:
            fn: The function.
            *args: Its arguments.
            **kwargs: Its keyword arguments.

        Returns:
            The future of the result. Until a thread takes the call it can be cancelled.

        Raises:
            RuntimeError: The pool was shut down, or the interpreter exits; or the pool has no
                thread, and the system none for it.
        """
        future: Future[T] = Future()
        self._crew.start(partial(call, future, fn, args, kwargs))
        return future

    def submit_now(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Has a function called at once, or not at all. Not a checkpoint.

        An idle thread takes the call, or a new one: up to the limit, whether CPU is free or not,
        and past what is queued.

        Args:
            fn: The function.
            *args: Its arguments.
            **kwargs: Its keyword arguments.

        Returns:
            The future of the result.

        Raises:
            PoolFull: All threads are busy, and there may be no more.
            RuntimeError: The pool was shut down, or the interpreter exits; or the system has no
                thread for the call.
        """
        future: Future[T] = Future()
        if not self._crew.start_now(partial(call, future, fn, args, kwargs)):
            raise PoolFull(
                f"all {self._crew.maximum} threads of the pool are busy, and that is its limit: "
                f"call submit() to queue the call, try again later, or make the pool larger, with "
                f"ThreadPool(max_workers=...)."
            )
        return future

    def start(self, work: Callable[[], object]) -> None:
        """Has plain work done in a thread of the pool: `submit` without a Future, and faster.

        For who delivers results by other means. What the work returns is dropped, and what it
        raises is reported by `threading.excepthook`. When the pool is shut down with
        `cancel_futures`, the `cancel` method of queued work is called in its stead, if it has one;
        work that has none is done. Not a checkpoint.

        Args:
            work: What is called, without arguments.

        Raises:
            RuntimeError: The pool was shut down, or the interpreter exits; or the pool has no
                thread, and the system none for it. The work will not be done.
        """
        self._crew.start(work)

    def stats(self) -> PoolStats:
        """Says what the pool does just now. Not a checkpoint."""
        crew = self._crew
        with crew.guard:
            workers, started, ended = crew.workers, crew.started, crew.ended
            # One that ends is off the count before it is off the list.
            idle = min(len(crew.idle), workers)
        return PoolStats(
            workers=workers,
            idle=idle,
            busy=workers - idle,
            queued=len(crew.queue),
            max_workers=crew.maximum,
            started=started,
            ended=ended,
        )

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Takes no more calls. Again does no harm.

        In a green function a checkpoint, if it waits.

        Args:
            wait: Whether to return when all calls are done and the threads are over.
            cancel_futures: Whether to cancel the calls that no thread has begun.
        """
        crew = self._crew
        # Closed before the queue is emptied, so that nothing comes after.
        crew.close()
        if cancel_futures:
            for work in crew.drain():
                _cancel(work, crew)
        if wait:
            _wait.offload(crew.join)

    def __del__(self) -> None:
        crew = self.__dict__.get("_crew")  # not there if `__init__` has raised
        if crew is not None:
            crew.close()


def default_pool() -> ThreadPool:
    """Gives the pool of the process, made when it is first needed. Not a checkpoint.

    If somebody has shut it down, a new one is made.

    Example:
        >>> from verdigris.worlds._pool import default_pool
        >>> default_pool().submit(len, "four").result()
        4
        >>> default_pool() is default_pool()
        True
    """
    global _default
    pool = _default
    if pool is None or pool._crew.closed:
        with _making:
            if _default is None or (_default._crew.closed and not _crew._exits):
                _default = ThreadPool(thread_name_prefix="verdigris")
            pool = _default
    return pool


def _cancel(work: Work, crew: Crew) -> None:
    """Calls off work that was taken out of the queue."""
    if isinstance(work, partial) and work.func is call:
        future = work.args[0]
        future.cancel()
        # So that `concurrent.futures.wait` and `as_completed` hear of it.
        future.set_running_or_notify_cancel()
    elif callable(cancel := getattr(work, "cancel", None)):
        cancel()
    else:
        crew.do_although_closed(work)


_numbers = itertools.count()
_pools: weakref.WeakSet[ThreadPool] = weakref.WeakSet()
_default: ThreadPool | None = None
_making: Any = allocate_lock()


def _after_fork() -> None:
    global _making
    _making = allocate_lock()
    _crew._crews.clear()
    for pool in list(_pools):
        pool._crew = pool._crew.left_behind_by_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
