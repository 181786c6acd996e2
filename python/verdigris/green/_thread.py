"""`_thread`, green: locks that functions wait for, and threads that are functions.

A thread that a function starts which runs green (`_wait.starts_green_threads()`) is a **green
thread**: a sync function on a stack of its own, run by the event loop of the one who started it.
Everywhere else a thread is an OS thread, and the stdlib starts it.

A green thread has an identity of its own, begins with an empty context, and never outlives the run
of its loop: what still waits then is cancelled by the loop, and ends without a report. So the end
of the interpreter waits for no green thread, daemon or not.

Two things say that a green thread is over, as the stdlib's `threading` wants to hear it: the lock
of `_set_sentinel` (up to 3.12), and `_ThreadHandle` (from 3.13 on).
"""

from __future__ import annotations

import _thread as _original
import contextvars
import errno
import os
import sys
from collections.abc import Callable
from typing import Any

from verdigris import loops
from verdigris._engine import async_def
from verdigris.green import _locals, _twin, _wait


class _Stdlib:
    """What the stdlib has here, kept before anybody patches it."""

    def __init__(self) -> None:
        self.__dict__.update(_original.__dict__)

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"this Python's _thread has no {name!r}")


_stdlib = _Stdlib()
_os_ident = _original.get_ident

# The green threads that have begun and are not over, by their identity.
_running: dict[int, _GreenThread] = {}
# The OS threads of green functions that are the main thread: see `threading._as_main_thread`.
_main_functions: dict[int, int] = {}


class _GreenThread:
    """A thread that is a function on a loop, from its start to its end."""

    __slots__ = (
        "__weakref__", "_asyncio_loop", "_began", "_home", "_over", "blocked_signals", "called_off",
        "has_begun", "ident", "is_over", "sentinels",
    )  # fmt: skip

    def __init__(self) -> None:
        self.ident = 0
        self.has_begun = self.is_over = self.called_off = False
        self.sentinels: list[_Sentinel] = []
        #: What it takes its signal mask to be. None: it has not set one.
        self.blocked_signals: frozenset[Any] | None = None
        self._began, self._over = _wait.Lock(), _wait.Lock()
        self._began.acquire()
        self._over.acquire()
        # The OS thread and the loop that it runs in. None on Trio, where no task outlives the run.
        self._home = _os_ident()
        asyncio = sys.modules.get("asyncio")
        self._asyncio_loop = None if asyncio is None else asyncio._get_running_loop()

    def begin(self) -> None:
        """Called by the thread itself."""
        self.ident = _wait.get_ident()
        _running[self.ident] = self
        self.has_begun = True
        self._began.release()

    def end(self) -> None:
        """Called when the function is over, or is known never to go on. Twice is as once."""
        if self.is_over:
            return
        self.is_over = True
        if not self.has_begun:
            self._began.release()
        _running.pop(self.ident, None)
        for sentinel in self.sentinels:
            sentinel.thread_is_over()
        self._over.release()

    def wait_for_begin(self) -> None:
        self._began.acquire()

    def wait_for_end(self, timeout: float | None = None) -> bool:
        """Waits for the end, and tells whether it has come."""
        if not self.is_over:
            self.check_wait(timeout is None)
        if self.is_over:
            return True
        if not self._over.acquire(True, -1 if timeout is None else timeout):
            return False
        self._over.release()  # for the next one who waits
        return True

    def check_wait(self, endless: bool) -> None:
        """Called before one waits for the end. Sees to the waits that would have none.

        Raises:
            RuntimeError: The wait would stop the loop that the thread needs to get on.
        """
        if self._is_abandoned():
            self.end()
        elif endless and self._home == _os_ident() and not _wait.is_green():
            raise RuntimeError(
                "cannot join a green thread from here: its event loop belongs to this OS thread, "
                "and would stand still while it waits. Join it in a function that runs green "
                "(await async_def(...)), or give join() a timeout."
            )

    def _is_abandoned(self) -> bool:
        """Whether the loop went away without a word to its tasks, as asyncio's can."""
        loop = self._asyncio_loop
        if loop is None or loop.is_running():
            return False
        threading: Any = sys.modules.get("threading")
        # When the interpreter ends, nobody will run the loop again.
        return loop.is_closed() or threading is None or threading._SHUTTING_DOWN


class _End:
    """Held by a thread's coroutine alone: ends the thread if the coroutine goes away unrun."""

    __slots__ = ("_thread",)

    def __init__(self, thread: _GreenThread) -> None:
        self._thread = thread

    def __del__(self) -> None:
        self._thread.end()


def green_thread(ident: int | None = None) -> _GreenThread | None:
    """Gives the green thread of an identity, or of the caller, if it has begun and is not over."""
    return _running.get(_wait.get_ident() if ident is None else ident)


def os_ident(ident: int) -> int:
    """Gives the identity of the OS thread that one is, or that runs one as a green function.

    Raises:
        ProcessLookupError: Nobody is known by it. The system would take it for an address.
    """
    if ident == _wait.get_ident():
        return _os_ident()
    thread = _running.get(ident)
    if thread is not None:
        return thread._home
    if ident in _main_functions:
        return _main_functions[ident]
    if ident in sys._current_frames():
        return ident
    raise ProcessLookupError(errno.ESRCH, os.strerror(errno.ESRCH))


def main_function_is(ident: int, begins: bool) -> None:
    """Notes that the green function which calls this is the main thread, or no longer is."""
    if begins:
        _main_functions[ident] = _os_ident()
    else:
        _main_functions.pop(ident, None)


def is_cancellation(error: BaseException | None) -> bool:
    """Whether an exception is how a loop, or the engine, ends what still waits."""
    if isinstance(error, GeneratorExit):
        return True
    if isinstance(error, loops.TaskCancelled):
        return False  # that is the end of another task
    for library in ("asyncio", "trio"):
        module = sys.modules.get(library)
        kind = getattr(module, "CancelledError" if library == "asyncio" else "Cancelled", None)
        if kind is not None and isinstance(error, kind):
            return True
    return False


def _start(
    function: Callable[..., object],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    handle: _ThreadHandle | None = None,
) -> _GreenThread:
    """Starts a green thread, and returns when it has begun.

    The handle has the thread before that. Who waits for the beginning may be interrupted when it
    has just been, and join the thread then.
    """
    task_type = loops.current()
    if task_type is None:
        raise RuntimeError("can't start new thread: no event loop runs here any more.")
    thread = _GreenThread()
    # A Thread starts its own method, and the task is called as the Thread is.
    name = getattr(getattr(function, "__self__", None), "name", None)
    if not isinstance(name, str):
        name = getattr(function, "__qualname__", type(function).__name__)
    coroutine = async_def(_run, thread, _End(thread), function, args, kwargs)
    try:
        daemon = getattr(getattr(function, "__self__", None), "daemon", True)
        task = contextvars.Context().run(task_type, coroutine, name, bool(daemon))
    except BaseException:
        coroutine.close()
        raise
    task.may_be_left()
    del coroutine
    if handle is not None:
        handle._thread = thread
    try:
        # Also in a function that is cancelled and cleans up: a thread's start does not fail.
        with task_type.shield():
            thread.wait_for_begin()
    except BaseException:
        # The one who starts it was cancelled before the loop came to it: it was not started.
        if not thread.has_begun:
            thread.called_off = True
            task.cancel()
            if handle is not None:
                handle._thread = None
        raise
    if not thread.has_begun:
        if handle is not None:
            handle._thread = None
        raise RuntimeError(
            "can't start new thread: its event loop cancelled it before it began, as loops do "
            "when their run ends."
        )
    return thread


def _run(
    thread: _GreenThread,
    end: _End,
    function: Callable[..., object],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> None:
    """The green thread itself."""
    if thread.called_off:
        return
    process = _process[0]
    thread.begin()
    try:
        function(*args, **kwargs)
    except SystemExit:
        pass  # it ends the thread, and means nothing else
    except KeyboardInterrupt:
        raise  # it is meant for whoever runs the loop
    except BaseException as error:
        if is_cancellation(error):
            raise
        _report(error, function)
    finally:
        # Before the loop knows: who joined the thread finds it over.
        thread.end()
        if process is not _process[0]:
            _end_process()


# Another object in the child of a fork.
_process = [object()]


def _after_fork() -> None:
    """In the child of a fork, which has the thread that forked and no other."""
    _process[0] = object()
    me = green_thread()
    for other in _running.values():
        # The stdlib's `threading` expects the handles of the other threads to say so. Nothing is
        # released: who waits for it is not here either.
        other.is_over = other is not me
    _running.clear()
    if me is not None:
        _running[me.ident] = me


def _end_process() -> None:
    """Ends the child of a fork, when the thread that forked and all that it started are over.

    So does the stdlib's. The thread must not return to the loop, which is the parent's.
    """
    threading: Any = sys.modules.get("threading")
    others = [] if threading is None else threading.enumerate()
    for other in others:
        if other.ident != _wait.get_ident():
            other.join()
    os._exit(0)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def _report(error: BaseException, function: object | None) -> None:
    """Reports as the stdlib does for an exception that leaves a thread."""
    hook = sys.unraisablehook
    text, subject = "Exception ignored in thread started by", function
    if sys.version_info >= (3, 13):
        text, subject = f"{text} {function!r}", None
    hook(_hook_arguments()((type(error), error, error.__traceback__, text, subject)))


def _hook_arguments() -> Any:
    """The type of what `sys.unraisablehook` takes. It has no name, so one is caught.

    It is not kept: debug builds check at the end that nobody has it.
    """
    caught: list[Any] = []
    before = sys.unraisablehook

    class Probe(Exception):
        pass

    class Fails:
        def __del__(self) -> None:
            raise Probe

    def catch(arguments: Any) -> None:
        if arguments.exc_type is Probe:
            caught.append(type(arguments))
        else:  # of another thread, in this very moment
            before(arguments)

    sys.unraisablehook = catch
    try:
        Fails()
    finally:
        sys.unraisablehook = before
    return caught.pop()


def start_new_thread(
    function: Callable[..., object], args: tuple[Any, ...], kwargs: dict[str, Any] | None = None, /
) -> int:
    """`_thread.start_new_thread`."""
    if not _wait.starts_green_threads():
        if kwargs is None:
            return int(_stdlib.start_new_thread(function, args))
        return int(_stdlib.start_new_thread(function, args, kwargs))
    if not callable(function):
        raise TypeError("first arg must be callable")
    if not isinstance(args, tuple):
        raise TypeError("2nd arg must be a tuple")
    if kwargs is not None and not isinstance(kwargs, dict):
        raise TypeError("optional 3rd arg must be a dictionary")
    return _start(function, args, kwargs or {}).ident


class _Sentinel:
    """The lock of `_set_sentinel` for a green thread: released when the thread is over."""

    __slots__ = ("__weakref__", "_lock", "_thread")

    def __init__(self, thread: _GreenThread) -> None:
        self._thread = thread
        self._lock = _wait.Lock()
        thread.sentinels.append(self)

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        if self._lock.locked() and not self._thread.is_over:
            self._thread.check_wait(blocking and timeout == -1)
        return self._lock.acquire(blocking, timeout)

    def release(self) -> None:
        self._lock.release()

    def locked(self) -> bool:
        return self._lock.locked()

    acquire_lock, release_lock, locked_lock = acquire, release, locked

    def __enter__(self) -> bool:
        return self.acquire()

    def __exit__(self, *exc: object) -> None:
        self.release()

    def thread_is_over(self) -> None:
        if self._lock.locked():
            self._lock.release()

    def _at_fork_reinit(self) -> None:
        self._lock._at_fork_reinit()


def _set_sentinel() -> Any:
    """`_thread._set_sentinel`, of 3.11 and 3.12."""
    thread = green_thread()
    return _stdlib._set_sentinel() if thread is None else _Sentinel(thread)


class _ThreadHandle:
    """`_thread._ThreadHandle`, of 3.13 and later, for an OS thread or a green one."""

    __slots__ = ("__weakref__", "_handle", "_thread")

    def __init__(self) -> None:
        self._handle = _stdlib._ThreadHandle()
        self._thread: _GreenThread | None = None

    @property
    def ident(self) -> int:
        ident: int = self._handle.ident if self._thread is None else self._thread.ident
        return ident

    def join(self, timeout: float | None = None) -> None:
        thread = self._thread
        if thread is None:
            self._handle.join(timeout)
            return
        if not thread.is_over and thread is green_thread():
            raise RuntimeError("Cannot join current thread")
        thread.wait_for_end(None if timeout is None or timeout < 0 else timeout)

    def is_done(self) -> bool:
        thread = self._thread
        done: bool = self._handle.is_done() if thread is None else thread.is_over
        return done

    def _set_done(self) -> None:
        if self._thread is None:
            self._handle._set_done()
        else:
            self._thread.end()

    def __repr__(self) -> str:
        return f"<_ThreadHandle object: ident={self.ident}>"


def start_joinable_thread(
    function: Callable[[], object], handle: Any = None, daemon: bool = True
) -> Any:
    """`_thread.start_joinable_thread`, of 3.13 and later."""
    if handle is None:
        handle = _ThreadHandle()
    if not isinstance(handle, _ThreadHandle):
        # Made before the stdlib was patched. It can stand for an OS thread only.
        return _stdlib.start_joinable_thread(function, handle=handle, daemon=daemon)
    if not _wait.starts_green_threads():
        _stdlib.start_joinable_thread(function, handle=handle._handle, daemon=daemon)
        return handle
    if not callable(function):
        raise TypeError("thread function must be callable")
    if handle._thread is not None or handle._handle.ident or handle._handle.is_done():
        raise RuntimeError("thread already started")
    _start(function, (), {}, handle)
    return handle


def _count() -> int:
    """`_thread._count`: OS threads and green ones."""
    return int(_stdlib._count()) + len(_running)


def set_name(name: str) -> None:
    """`_thread.set_name`, of 3.14 and later: the OS thread of a green one keeps its name."""
    if _wait.current() is None:
        _stdlib.set_name(name)


REPLACED = {
    name: green
    for name, green in {
        "allocate_lock": _wait.Lock,
        "allocate": _wait.Lock,
        "LockType": _wait.Lock,
        "lock": _wait.Lock,
        "RLock": _wait.RLock,
        "get_ident": _wait.get_ident,
        "start_new_thread": start_new_thread,
        "start_new": start_new_thread,
        "start_joinable_thread": start_joinable_thread,
        "_ThreadHandle": _ThreadHandle,
        "_set_sentinel": _set_sentinel,
        "_count": _count,
        "set_name": set_name,
        "_local": _locals.local,
    }.items()
    if hasattr(_original, name)
}

_twin.make(globals(), _original, REPLACED)
