"""Signal handlers of a program that `python -m verdigris` runs.

The interpreter calls a handler at whatever runs in the main thread just then. To a sync program
that is its main function, also while it waits: what a handler raises ends the wait. Here it may as
well be the event loop, or one of the green threads, which must not get it. So handlers are wrapped:
what one raises elsewhere is handed to the main function.
"""

import functools
import signal
import sys
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any, Protocol

from verdigris.green import _thread, _wait

Handler = Callable[[int, FrameType | None], Any]


class Main(Protocol):
    """The main function, as its loop steps it."""

    #: What `_wait.current()` is in it.
    coroutine: Any

    def interrupt(self, error: BaseException) -> bool:
        """Raises an error in it where it waits. False if it is over. Called in a handler."""


_main: Main | None = None
_main_thread_ident = 0
_get_ident: Callable[[], int] = _thread._stdlib.get_ident
_signal: Callable[..., Any] = signal.signal
_getsignal: Callable[..., Any] = signal.getsignal
_pthread_kill: Callable[..., None] | None = getattr(signal, "pthread_kill", None)


class _Wrapped:
    """A handler of the program's."""

    def __init__(self, handler: Handler) -> None:
        self.handler = handler

    def __call__(self, number: int, frame: FrameType | None) -> None:
        main = _main
        if main is None or _wait.current() is main.coroutine:
            self.handler(number, frame)
            return
        try:
            self.handler(number, frame)
        except BaseException as error:
            if not main.interrupt(error):
                raise


def deliver_to(main: Main | None) -> None:
    """From now on what handlers raise is for this function. None: for whatever runs."""
    global _main, _main_thread_ident
    _main, _main_thread_ident = main, _get_ident()
    signal.signal, signal.getsignal = signal_wrapping, _getsignal_unwrapping
    if _pthread_kill is not None:
        signal.pthread_kill = _pthread_kill_of_green


@functools.wraps(signal.signal)
def signal_wrapping(signalnum: Any, handler: Any) -> Any:
    """`signal.signal`."""
    wrapped = _Wrapped(handler) if callable(handler) else handler
    return _unwrapped(_signal(signalnum, wrapped))


@functools.wraps(signal.getsignal)
def _getsignal_unwrapping(signalnum: Any) -> Any:
    return _unwrapped(_getsignal(signalnum))


def _unwrapped(handler: Any) -> Any:
    return handler.handler if isinstance(handler, _Wrapped) else handler


def _pthread_kill_of_green(thread_id: int, signalnum: int) -> None:
    """`signal.pthread_kill`. What `get_ident()` gives is a number that the system knows nothing of.

    It would take it for the address of a thread.
    """
    assert _pthread_kill is not None
    if thread_id not in sys._current_frames():
        main = threading.main_thread()
        is_main = thread_id == main.ident
        thread_id = _main_thread_ident if is_main else _thread.os_ident(thread_id)
    _pthread_kill(thread_id, signalnum)


if _pthread_kill is not None:
    functools.update_wrapper(_pthread_kill_of_green, _pthread_kill).__module__ = "signal"
