"""Signal handlers of a program that `python -m verdigris` runs.

The interpreter calls a handler at whatever runs in the main thread just then. To a sync program
that is its main function, also while it waits: what a handler raises ends the wait. Here it may as
well be the event loop, or one of the green threads, which must not get it. So handlers are wrapped:
what one raises elsewhere is handed to the main function.
"""

import functools
import signal
from collections.abc import Callable
from types import FrameType
from typing import Any, Protocol

from verdigris.green import _wait

Handler = Callable[[int, FrameType | None], Any]


class Main(Protocol):
    """The main function, as its loop steps it."""

    #: What `_wait.current()` is in it.
    coroutine: Any

    def interrupt(self, error: BaseException) -> bool:
        """Raises an error in it where it waits. False if it is over. Called in a handler."""


_main: Main | None = None
_signal: Callable[..., Any] = signal.signal
_getsignal: Callable[..., Any] = signal.getsignal


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
    global _main
    _main = main
    signal.signal, signal.getsignal = signal_wrapping, _getsignal_unwrapping


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
