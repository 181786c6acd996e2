"""An OS thread, whatever is patched and whoever starts it.

In a green function the stdlib's `Thread` is a green thread once the stdlib is patched. And its
`start` waits until the new thread runs, which takes 5 ms and more where another thread computes:
too long for the thread of an event loop. So these threads are started by `_thread` itself, and
enter their name into `threading` when they run.

The interpreter's exit does not wait until they end, but it does wait until they have begun: CPython
frees the state of a thread that has not, and the thread then begins with freed memory.
"""

from __future__ import annotations

import atexit
import os
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from verdigris._patch_in_place import get_original

allocate_lock, get_ident, local = get_original("_thread", ["allocate_lock", "get_ident", "_local"])
#: A lock that its thread can take again: a finalizer may run while it is held.
make_guard = get_original("_thread", "RLock")
# How to wait until a thread is over in C too: a handle of it, and before that came a lock which the
# interpreter releases.
if sys.version_info >= (3, 13):
    _start_joinable_thread = get_original("_thread", "start_joinable_thread")
else:
    _start_new_thread, _set_sentinel = get_original(
        "_thread", ["start_new_thread", "_set_sentinel"]
    )

_sleep = get_original("time", "sleep")

#: The threads that were started and do not run yet.
_beginning: set[OSThread] = set()
_is_exiting = False


class OSThread:
    """A thread that was not started yet, runs, or is over."""

    __slots__ = ("_handle", "_over", "_sentinel", "ident", "name")

    def __init__(self, name: str) -> None:
        """Prepares a thread. `name` is what `threading.current_thread()` in it is called."""
        self.name = name
        self.ident = 0
        self._handle: Any = None
        self._sentinel: Any = None
        self._over = allocate_lock()
        self._over.acquire()

    def start(self, function: Callable[..., object], *args: Any) -> None:
        """Starts the thread, and does not wait until it runs.

        Args:
            function: What runs in the thread. It must not raise.
            *args: Its arguments.

        Raises:
            RuntimeError: The system has no thread for us.
        """
        try:
            _beginning.add(self)
            if sys.version_info >= (3, 13):
                self._handle = _start_joinable_thread(
                    lambda: self._run(function, args), daemon=True
                )
            else:
                _start_new_thread(self._run, (function, args))
        except BaseException:
            _beginning.discard(self)
            self._over.release()  # nobody shall wait for it
            raise
        if _is_exiting:
            _wait_until_begun()

    def join(self) -> None:
        """Waits until the thread is over. Not to be called in the thread itself."""
        self._over.acquire()
        self._over.release()
        # It is in its last steps now, none of which is Python's.
        if self._handle is not None:
            self._handle.join()
        elif self._sentinel is not None:
            self._sentinel.acquire()
            self._sentinel.release()

    def _run(self, function: Callable[..., object], args: tuple[Any, ...]) -> None:
        _beginning.discard(self)
        self.ident = get_ident()
        if sys.version_info < (3, 13):
            self._sentinel = _set_sentinel()
            self._sentinel.acquire()
        try:
            # What makes the name known is a dummy thread, as any foreign thread gets.
            threading.current_thread().name = self.name
            _trace_and_profile()
            function(*args)
        finally:
            # The dummy would stay, up to 3.12, and the next thread with this identity be called so.
            threading._active.pop(self.ident, None)  # type: ignore[attr-defined]
            self._over.release()


@atexit.register
def _see_exit() -> None:
    global _is_exiting
    _is_exiting = True  # and who starts one from here on waits by himself
    _wait_until_begun()


def _wait_until_begun() -> None:
    # All they need is the GIL, and they get it in turn, even where another one computes.
    while _beginning:
        _sleep(0.001)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_beginning.clear)


def _trace_and_profile() -> None:
    """Does what `threading.settrace` and `setprofile` ask of a thread that begins."""
    if trace := threading.gettrace():
        sys.settrace(trace)
    if profile := threading.getprofile():
        sys.setprofile(profile)


def report_exception() -> None:
    """Has the exception that is handled reported as one that ends a thread is.

    Raises nothing: what a hook raises is reported by `sys.excepthook`, as in the stdlib's threads.
    """
    kind, error, traceback = sys.exc_info()
    if kind is None or kind is SystemExit:
        return
    arguments: Any = (kind, error, traceback, threading.current_thread())
    try:
        threading.excepthook(threading.ExceptHookArgs(arguments))
    except BaseException:
        with suppress(BaseException):
            print("Exception in threading.excepthook:", file=sys.stderr, flush=True)
            sys.excepthook(*sys.exc_info())
