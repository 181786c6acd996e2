"""`threading`, green: its threads are functions, and its locks are waited for by functions.

Condition, Event, Semaphore, Barrier and Timer are the stdlib's own code over green locks and green
threads. A condition's wait is ours, since a loop's cancellation may come in places where no
exception comes to a thread.

Green threads are listed beside the OS threads, in the stdlib's own tables, so that both `threading`
modules know all of them.

A function that runs green without being a Thread, started by `async_def` or `spawn`, has a dummy
thread as long as it lives, made when it asks for its current thread. It has the name of the loop's
task.
"""

from __future__ import annotations

import os as _os_module
import sys as _sys_module
import threading as _original
import time as _time_module
import weakref as _weakref
from collections import deque as _deque_of
from collections.abc import Callable, Iterator
from contextlib import contextmanager as _contextmanager
from contextlib import suppress as _suppress
from typing import Any

from verdigris.green import _thread as _green
from verdigris.green import _twin, _wait

_stdlib: Any = _original

# What `_twin.make` fills in, and this file uses.
_active: dict[int, Any] = _stdlib._active
_DummyThread: Any = None
excepthook: Any = None


# --- the current thread ------------------------------------------------------


def current_thread() -> Any:
    """`threading.current_thread`."""
    try:
        return _active[_wait.get_ident()]
    except KeyError:
        owner = _wait.current()
        return _DummyThread() if owner is None else _GreenFunction(owner)


# Keeps the weak references to the functions that have a dummy thread.
_functions: dict[int, _weakref.ref[Any]] = {}


def _task_name() -> str:
    trio = _sys_module.modules.get("trio")
    if trio is not None and trio.lowlevel.in_trio_task():
        return str(trio.lowlevel.current_task().name)
    asyncio = _sys_module.modules.get("asyncio")
    if asyncio is not None and asyncio._get_running_loop() is not None:
        task = asyncio.current_task()
        if task is not None:
            return str(task.get_name())
    return str(_stdlib._newname("Dummy-%d"))


@_contextmanager
def _as_main_thread() -> Iterator[None]:
    """Lets the green function that enters be the main thread: for a whole script that runs green.

    Until it leaves, `current_thread()` in it is `main_thread()`, with its identity.
    """
    main = _stdlib._main_thread
    before, ident = main._ident, _wait.get_ident()
    main._ident = ident
    _stdlib._active[ident] = main
    _green.main_function_is(ident, True)
    try:
        yield
    finally:
        _green.main_function_is(ident, False)
        main._ident = before
        if ident != before and _stdlib._active.get(ident) is main:
            del _stdlib._active[ident]


# --- how a thread starts and ends --------------------------------------------


def _is_active(thread: Any) -> bool:
    active: bool = thread is _active.get(thread._ident)
    return active


def _start(self: Any) -> None:
    try:
        _stdlib_start(self)
    except KeyError as error:
        # The stdlib's way to clean up after what a signal handler raised while the new thread was
        # waited for. The thread has begun meanwhile, and is in the other table.
        if self._started.is_set() and error.__context__ is not None:
            raise error.__context__ from None
        raise
    except BaseException:
        # The one who starts it was cancelled. The stdlib knows no such interruption.
        if not self._started.is_set():
            with _stdlib._active_limbo_lock:
                _stdlib._limbo.pop(self, None)
        raise


def _bootstrap_inner(self: Any) -> None:
    if _green.green_thread() is None:
        _stdlib_bootstrap_inner(self)
    else:
        # A green thread is traced and profiled as the OS thread that it runs in. A hook of its own
        # would see all that runs there, and stay when the thread is over. The twin has none.
        _twin_bootstrap_inner(self)


def _delete(self: Any) -> None:
    # By its own identity, since a function whose loop went away may end in any thread.
    with _stdlib._active_limbo_lock:
        if _is_active(self):
            del _active[self._ident]
    joiners = self.__dict__.get("_verdigris_joiners")
    while joiners:
        with _suppress(IndexError):  # the last one has just given up
            joiners.popleft().release()


def _join(self: Any, timeout: float | None = None) -> None:
    if (
        _wait.is_green()
        and self._initialized
        and _is_active(self)
        and _green.green_thread(self._ident) is None
        and self is not current_thread()
    ):
        # An OS thread. How the stdlib waits for its end would block the loop, so the wait is for
        # `_delete`, its last step but one.
        end = None if timeout is None else _time_module.monotonic() + timeout
        if not _wait_for_delete(self, timeout):
            return
        if end is not None:
            timeout = max(end - _time_module.monotonic(), 0.001)
    _stdlib_join(self, timeout)


def _wait_for_delete(thread: Any, timeout: float | None) -> bool:
    waiter = _wait.Lock()
    waiter.acquire()
    joiners = thread.__dict__.setdefault("_verdigris_joiners", _deque_of())
    joiners.append(waiter)
    try:
        # Looked at after the waiter is in its place: nothing is missed.
        if not _is_active(thread):
            return True
        return waiter.acquire(True, -1 if timeout is None else max(timeout, 0))
    finally:
        with _suppress(ValueError):  # released already
            joiners.remove(waiter)


def _set_tstate_lock(self: Any) -> None:
    """Of 3.11 and 3.12."""
    if _green.green_thread() is None:
        _stdlib_set_tstate_lock(self)
    else:
        # Not among the locks that the interpreter waits for at its end: see `_thread`.
        self._tstate_lock = _green._set_sentinel()
        self._tstate_lock.acquire()


def _wait_for_tstate_lock(self: Any, block: bool = True, timeout: float = -1) -> None:
    """Of 3.11 and 3.12."""
    lock = self._tstate_lock
    if not isinstance(lock, _green._Sentinel):
        _stdlib_wait_for_tstate_lock(self, block, timeout)
    # Not the stdlib's: after an exception, such as a cancellation, it takes the thread for stopped.
    elif lock.acquire(block, timeout):
        lock.release()
        self._stop()


def _make_invoke_excepthook() -> Callable[[Any], None]:
    of_stdlib = _stdlib_make_invoke_excepthook()
    of_twin = _twin_make_invoke_excepthook()

    def invoke_excepthook(thread: Any) -> None:
        error = _sys_module.exc_info()[1]
        if _wait.current() is not None:
            if _green.is_cancellation(error):
                return
            if isinstance(error, KeyboardInterrupt):
                raise error  # Ctrl-C, which the loop's own code shall see
        # A hook that was set in this module comes before the one of the stdlib's.
        (of_stdlib if excepthook is _first_excepthook else of_twin)(thread)

    return invoke_excepthook


def _green_handle(ident: int) -> Any:
    """The handle, of 3.13 and later, of a green function that is no green thread."""
    handle = _green._ThreadHandle()
    handle._thread = thread = _green._GreenThread()
    thread.ident = ident
    return handle


def _thread_after_fork(self: Any, new_ident: int | None = None) -> None:
    """Of 3.13 and later, in the child of a fork. `new_ident` is for the thread that forked."""
    # 3.13 has the first name, later versions the second.
    name = "_handle" if hasattr(self, "_handle") else "_os_thread_handle"
    if new_ident is not None and getattr(self, name).ident != new_ident:
        # The function that forked goes on under its own identity, and is the main thread now. The
        # handle is one of the OS thread, and the stdlib asserts that the two identities are one.
        setattr(self, name, _green_handle(new_ident))
    _stdlib_thread_after_fork(self, new_ident)


# --- waits that can be cancelled ---------------------------------------------


def _condition_wait(self: Any, timeout: float | None = None) -> bool:
    """`Condition.wait`. Who is notified and cancelled in one moment hands the notification on."""
    if not _wait.is_green():
        taken: bool = _stdlib_condition_wait(self, timeout)
        return taken
    if not self._is_owned():
        raise RuntimeError("cannot wait on un-acquired lock")
    waiter = _wait.Lock()
    waiter.acquire()
    self._waiters.append(waiter)
    state = self._release_save()
    try:
        try:
            # What is no number is refused by 3.15, and is nothing to earlier versions.
            over = timeout is not None and (
                timeout <= 0 if _sys_module.version_info >= (3, 15) else not timeout > 0
            )
            if over:
                notified = waiter.acquire(False)
            else:
                notified = waiter.acquire(True, -1 if timeout is None else timeout)
        finally:
            self._acquire_restore(state)
    except BaseException:
        if not _removed(self._waiters, waiter):
            self.notify()
        raise
    if not notified:
        _removed(self._waiters, waiter)
    return notified


def _removed(waiters: Any, waiter: Any) -> bool:
    try:
        waiters.remove(waiter)
    except ValueError:  # `notify` has done it
        return False
    return True


def _acquire_restore(self: Any, state: object) -> None:
    """Of a Condition over a plain lock. An RLock has its own, which does the same.

    The end of the `with` block will release the lock, so it must be had whatever comes meanwhile.
    """
    interruption = None
    while True:
        try:
            self._lock.acquire()
        except (Exception, GeneratorExit):
            raise  # an error of the lock; or nobody will ever go on with the function
        except BaseException as error:
            if not _wait.is_green():
                raise
            interruption = interruption or error
        else:
            break
    if interruption is not None:
        try:
            raise interruption
        finally:
            del interruption  # whose traceback has this frame


# --- the tables --------------------------------------------------------------

# What stays the stdlib's very own, since it has to do with state of the process.
_SHARED = [
    "settrace", "gettrace", "setprofile", "getprofile", "settrace_all_threads",
    "setprofile_all_threads", "_register_atexit", "_shutdown", "main_thread", "_MainThread",
    "_after_fork",
]  # fmt: skip


def _all_threads() -> list[Any]:
    """`threading.enumerate`. A script's main function is the main thread, beside the OS thread that
    it runs on: two identities of one thread."""
    with _stdlib._active_limbo_lock:
        return list(dict.fromkeys([*_stdlib._active.values(), *_stdlib._limbo.values()]))


def _count_threads() -> int:
    """`threading.active_count`."""
    return len(_all_threads())


REPLACED = {
    name: green
    for name, green in {
        "Lock": _wait.Lock,
        "_LockType": _wait.Lock,
        "_allocate_lock": _wait.Lock,
        "_CRLock": _wait.RLock,
        "get_ident": _wait.get_ident,
        "_start_new_thread": _green.start_new_thread,
        "_start_joinable_thread": _green.start_joinable_thread,
        "_ThreadHandle": _green._ThreadHandle,
        "_set_sentinel": _green._set_sentinel,
        "_set_name": _green.set_name,
        "local": _green.REPLACED["_local"],
        "current_thread": current_thread,
        "enumerate": _all_threads,
        "active_count": _count_threads,
        "_make_invoke_excepthook": _make_invoke_excepthook,
        **{name: getattr(_original, name, None) for name in _SHARED},
    }.items()
    if getattr(_original, name, None) is not None
}

METHODS: dict[str, dict[str, Any]] = {
    "Condition": {"wait": _condition_wait, "_acquire_restore": _acquire_restore},
    "Thread": {
        name: method
        for name, method in {
            "start": _start,
            "join": _join,
            "_bootstrap_inner": _bootstrap_inner,
            "_delete": _delete,
            "_set_tstate_lock": _set_tstate_lock,
            "_wait_for_tstate_lock": _wait_for_tstate_lock,
            "_after_fork": _thread_after_fork,
        }.items()
        if hasattr(_original.Thread, name)
    },
}


def _of_stdlib(function: Any) -> Any:
    """A function of the stdlib's, over what is green here."""
    return None if function is None else _twin._bound_anew(function, globals())


# Taken before anybody patches the stdlib, so that they are the stdlib's own.
_stdlib_start = _of_stdlib(_stdlib.Thread.start)
_stdlib_join = _of_stdlib(_stdlib.Thread.join)
_stdlib_condition_wait = _of_stdlib(_stdlib.Condition.wait)
_stdlib_bootstrap_inner = _stdlib.Thread._bootstrap_inner
_twin_bootstrap_inner = _of_stdlib(_stdlib_bootstrap_inner)
_stdlib_set_tstate_lock = _of_stdlib(getattr(_stdlib.Thread, "_set_tstate_lock", None))
_stdlib_wait_for_tstate_lock: Any = getattr(_stdlib.Thread, "_wait_for_tstate_lock", None)
_stdlib_thread_after_fork: Any = getattr(_stdlib.Thread, "_after_fork", None)
_stdlib_make_invoke_excepthook = _stdlib._make_invoke_excepthook
_twin_make_invoke_excepthook = _of_stdlib(_stdlib._make_invoke_excepthook)

_twin.make(globals(), _original, REPLACED, METHODS)
_first_excepthook = excepthook
_trace_hook = _profile_hook = None


class _GreenFunction(_DummyThread):  # type: ignore[misc]
    """The dummy thread of a function that runs green, and is no Thread's."""

    def __init__(self, owner: object) -> None:
        _stdlib.Thread.__init__(self, name=_task_name(), daemon=False)
        self._started.set()
        self._ident = ident = _wait.get_ident()
        self._native_id = _original.get_native_id()
        if hasattr(_stdlib, "_ThreadHandle"):
            # 3.13 has the first name, later versions the second.
            self._handle = self._os_thread_handle = _green_handle(ident)
        _stdlib._active[ident] = self

        def gone(_: object) -> None:
            if _stdlib._active.get(ident) is self:
                del _stdlib._active[ident]
            _functions.pop(ident, None)

        _functions[ident] = _weakref.ref(owner, gone)

    def _reset_internal_locks(self, is_alive: bool) -> None:
        """Of 3.11 and 3.12, in the child of a fork. `is_alive` is for the one that forked."""
        super()._reset_internal_locks(is_alive)
        if is_alive:
            # It is the main thread now. `_shutdown`, which `multiprocessing` calls in its
            # children, asserts that such a one has this lock. Later versions change the class too.
            self.__class__ = _stdlib._MainThread
            self._name, self._daemonic = "MainThread", False
            self._tstate_lock = _green._stdlib.allocate_lock()
            self._tstate_lock.acquire()


# As it is called in the stdlib, which shows in the `repr` of such a thread.
_GreenFunction.__name__ = _GreenFunction.__qualname__ = "_DummyThread"


def _after_fork_here() -> None:
    # The stdlib's `_after_fork`, which has run by now, makes these anew.
    for name in ("_active_limbo_lock", "_main_thread", "_shutdown_locks_lock", "_shutdown_locks"):
        if hasattr(_stdlib, name):
            globals()[name] = getattr(_stdlib, name)


if hasattr(_os_module, "register_at_fork"):
    _os_module.register_at_fork(after_in_child=_after_fork_here)
