"""`concurrent.futures.thread`, green: ThreadPoolExecutor.

What is submitted by green code runs on green threads of its loop, and what is submitted by anybody
else runs on OS threads. A pool that is used from both, or from several loops, has a crew of workers
for each: a worker waits where it lives, so the two must not do each other's work. A function of a
plain thread may block as long as it likes, which would stop a loop; and who blocks a loop's thread
to wait for a result must not wait for work that this loop has yet to do. `max_workers` is the limit
of each crew.

A crew ends with its loop. Calls that it has not begun by then are cancelled.
"""

from __future__ import annotations

import concurrent.futures.thread as _original
import os as _os_module
import sys as _sys_module
import threading as _stdlib_threading
import weakref as _weakref
from collections.abc import Callable
from typing import Any

from verdigris.green import _thread as _green
from verdigris.green import _twin, _wait
from verdigris.green import queue as _green_queue
from verdigris.green.concurrent.futures import _base as _green_base

_stdlib: Any = _original
_futures: Any = _green_base

# What `_twin.make` fills in, and this file uses.
ThreadPoolExecutor: Any = None
threading: Any = None
_shutdown = False

# Held while a worker starts, which a green function waits for.
_global_shutdown_lock = _wait.Lock()


def _home() -> Any:
    """The loop that runs the caller, or what stands for a run of Trio."""
    trio = _sys_module.modules.get("trio")
    if trio is not None and trio.lowlevel.in_trio_task():
        return trio.lowlevel.current_trio_token()
    return _sys_module.modules["asyncio"]._get_running_loop()


def _has_green_workers(pool: Any) -> bool:
    # Other kinds of pools that the stdlib derives from this one: workers of InterpreterPoolExecutor
    # (3.14) each hold an interpreter of their own, which a loop's thread can't.
    kind = getattr(type(pool), "prepare_context", None)
    mine = _stdlib.ThreadPoolExecutor
    return kind is None or kind.__func__ in (
        _prepare_context_of(mine),
        _prepare_context_of(ThreadPoolExecutor),
    )


def _prepare_context_of(kind: Any) -> Any:
    return getattr(getattr(kind, "prepare_context", None), "__func__", None)


def _submit(self: Any, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
    if not _wait.starts_green_threads() or not _has_green_workers(self):
        return _stdlib_submit(self, fn, *args, **kwargs)
    return _crew_of(self).submit(_unless_cancelled, fn, args, kwargs)


def _shut_down(self: Any, wait: bool = True, *, cancel_futures: bool = False) -> None:
    crews = [crew for _, crew in list(_crews_of(self).values())]
    _stdlib_shutdown(self, wait=False, cancel_futures=cancel_futures)
    for crew in crews:
        _stdlib_shutdown(crew, wait=False, cancel_futures=cancel_futures)
    if wait:
        for pool in (self, *crews):
            for thread in list(pool._threads):
                thread.join()


def _crews_of(pool: Any) -> dict[int, tuple[Any, Any]]:
    """The crews of a pool, by the id of their loop, which is kept as long."""
    crews: dict[int, tuple[Any, Any]] = pool.__dict__.setdefault("_verdigris_crews", {})
    return crews


def _crew_of(pool: Any) -> Any:
    """The crew on the loop that runs the caller."""
    home, crews = _home(), _crews_of(pool)
    with pool._shutdown_lock:
        for key, (other, crew) in list(crews.items()):
            if crew._is_lost or (other is not home and _is_closed(other)):
                del crews[key]
        if id(home) not in crews:
            crews[id(home)] = home, _Crew(pool)
        return crews[id(home)][1]


def _is_closed(home: Any) -> bool:
    return getattr(home, "is_closed", bool)() is True


def _unless_cancelled(fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Calls a function in a green worker."""
    try:
        return fn(*args, **kwargs)
    except BaseException as error:
        # The cancellation is the worker's. Who waits for the result was not cancelled, perhaps.
        if _green.is_cancellation(error) and _is_cancelled():
            raise _futures.CancelledError("the event loop of the worker has ended") from error
        raise


def _is_cancelled() -> bool:
    """Whether the loop wants the worker, which calls this, to end."""
    trio = _sys_module.modules.get("trio")
    if trio is not None and trio.lowlevel.in_trio_task():
        return bool(trio.current_effective_deadline() == float("-inf"))
    if _wait.is_green():
        task = _sys_module.modules["asyncio"].current_task()
        return task is not None and task.cancelling() > 0
    return True  # the engine ends it


def _worker(executor_reference: Any, *rest: Any) -> None:
    if _green.green_thread() is None:
        _stdlib_worker(executor_reference, *rest)
        return
    # The stdlib's would report a cancellation, and one that reaches a call would not end it.
    if hasattr(_original, "WorkerContext"):
        context, work_queue = rest
        initialize, finalize = context.initialize, context.finalize
        run_with: tuple[Any, ...] = (context,)
    else:
        work_queue, initializer, initargs = rest
        run_with = ()

        def initialize() -> None:
            if initializer is not None:
                initializer(*initargs)

        def finalize() -> None:
            pass

    try:
        initialize()
    except BaseException as error:
        executor = executor_reference()
        if _green.is_cancellation(error) and _is_cancelled():
            if executor is not None:
                executor._lose()
            raise
        _futures.LOGGER.critical("Exception in initializer:", exc_info=True)
        if executor is not None:
            executor._initializer_failed()
        return
    try:
        _work(executor_reference, work_queue, run_with)
    except BaseException:
        executor = executor_reference()
        if executor is not None:
            executor._lose()
        raise
    finally:
        finalize()


def _work(executor_reference: Any, work_queue: Any, run_with: tuple[Any, ...]) -> None:
    while True:
        item = work_queue.get()
        executor = executor_reference()
        if item is not None:
            del executor
            item.run(*run_with)
            del item
            executor = executor_reference()
            if _is_cancelled():
                if executor is not None:
                    executor._lose()
                return
            if executor is not None:
                executor._idle_semaphore.release()
        elif _shutdown or executor is None or executor._shutdown:
            if executor is not None:
                executor._shutdown = True
            work_queue.put(None)  # for the other workers
            return
        del executor


METHODS = {"ThreadPoolExecutor": {"submit": _submit, "shutdown": _shut_down}}
REPLACED = {"_worker": _worker, "_global_shutdown_lock": _global_shutdown_lock}


def _of_stdlib(function: Any) -> Any:
    """A function of the stdlib's, over what is green here."""
    return _twin._bound_anew(function, globals())


# Taken before anybody patches the stdlib, so that they are the stdlib's own.
_stdlib_submit = _of_stdlib(_stdlib.ThreadPoolExecutor.submit)
_stdlib_shutdown = _of_stdlib(_stdlib.ThreadPoolExecutor.shutdown)
_stdlib_worker = _of_stdlib(_stdlib._worker)

_twin.make(globals(), _original, REPLACED, METHODS)


class _Crew(ThreadPoolExecutor):  # type: ignore[misc]
    """The green workers of a pool on one loop: a pool of the stdlib's, over green threads."""

    submit, shutdown = _stdlib_submit, _stdlib_shutdown

    def __init__(self, pool: Any) -> None:
        # Whatever this Python's pools have: limits, names, the initializer.
        self.__dict__.update(pool.__dict__)
        del self.__dict__["_verdigris_crews"]
        # Weakly, so that a pool that is dropped goes at once, and its workers with it.
        self._pool = _weakref.ref(pool)
        self._work_queue = _green_queue.SimpleQueue()
        self._idle_semaphore = threading.Semaphore(0)
        self._threads: set[Any] = set()
        # Held while a worker starts. The pool's own may be of the time before a patch.
        self._shutdown_lock = _wait.Lock()
        self._is_lost = False

    def _initializer_failed(self) -> None:
        super()._initializer_failed()
        pool = self._pool()
        if pool is not None:
            pool._broken = self._broken

    def _lose(self) -> None:
        """Called by a worker that its loop has cancelled: the others end too, and so do calls."""
        self._is_lost = self._shutdown = True
        while True:
            try:
                item = self._work_queue.get_nowait()
            except _green_queue._Empty:
                break
            if item is not None:
                item.future.cancel()
                item.future.set_running_or_notify_cancel()
        self._work_queue.put(None)


def _end() -> None:
    global _shutdown
    _shutdown = True


# Of the twin, whose functions look at a flag of their own. It runs before the stdlib joins workers.
_register_atexit: Any = vars(_stdlib_threading)["_register_atexit"]
_register_atexit(_end)

if hasattr(_os_module, "register_at_fork"):
    _os_module.register_at_fork(after_in_child=_global_shutdown_lock._at_fork_reinit)
