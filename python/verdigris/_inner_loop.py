"""Loops that sync code runs inside a green function: `asyncio.run(main())` in a script.

A green function runs in a task of the outer loop, and asyncio refuses to run a loop in a thread
where one runs. To the sync code there is none. So while it runs a loop of its own, the outer loop
and its current task are hidden; they come back when the inner loop stops.

The inner loop waits with the selectors of the stdlib, and these are green: the outer loop goes on
meanwhile. The engine shows it again for the time of each wait (`_Outer`).
"""

import contextlib
import functools
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

from verdigris import _engine, _signal_handlers
from verdigris._when_imported import when_imported
from verdigris.green import _wait
from verdigris.loops import _reactors

# Whatever the program puts in its place.
_signal = _signal_handlers.signal_wrapping

# The loop that runs the program: an asyncio loop, or the run of Trio's.
_outer: Any = None
_allowed = False


def allow() -> None:
    """Lets the program run loops of its own: asyncio's, uvloop's, Trio's. For good.

    Called in a green function, on the loop that runs the program. Who runs one after the other, as
    for tests, calls it on each.
    """
    global _outer, _allowed
    _outer = _running_trio() or _running_asyncio()
    _Wakeup.allow()
    if _allowed:
        return
    _allowed = True
    when_imported("asyncio", _allow_asyncio)
    when_imported("uvloop", _allow_uvloop)
    when_imported("trio", _allow_trio)


def _running_asyncio() -> Any:
    asyncio = sys.modules.get("asyncio")
    return None if asyncio is None else asyncio._get_running_loop()


def _running_trio() -> Any:
    return getattr(_trio_context(), "runner", None)


def _trio_context() -> Any:
    return getattr(sys.modules.get("trio._core._run"), "GLOBAL_RUN_CONTEXT", None)


def _allow_asyncio() -> None:
    import asyncio
    import asyncio.base_events
    import asyncio.runners

    for target, names in (
        (asyncio.base_events.BaseEventLoop, ("run_forever", "run_until_complete")),
        (asyncio.Runner, ("run", "close")),
    ):
        for name in names:
            setattr(target, name, _alone(getattr(target, name)))
    # The last one is 3.11's: what futures and streams ask.
    for name in ("run", "get_event_loop", "_get_event_loop"):
        if not hasattr(asyncio.events, name) and not hasattr(asyncio, name):
            continue
        function = getattr(asyncio, name, None) or getattr(asyncio.events, name)
        _replace_in_asyncio(function, _alone(function))
    # What programs ask. asyncio's own modules have it from another, and so has the package here.
    unseen: Any = _unseen(asyncio.get_running_loop)
    asyncio.get_running_loop = unseen


def _replace_in_asyncio(function: Callable[..., Any], green: Callable[..., Any]) -> None:
    """Everywhere in asyncio; others take it from here."""
    for module in list(sys.modules.values()):
        if getattr(module, "__name__", "").partition(".")[0] == "asyncio":
            for key, value in list(vars(module).items()):
                if value is function:
                    setattr(module, key, green)


def _allow_uvloop() -> None:
    import uvloop

    # A class in Python that inherits these from one in C.
    for name in ("run_forever", "run_until_complete"):
        setattr(uvloop.Loop, name, _alone(getattr(uvloop.Loop, name)))


def _allow_trio() -> None:
    trio: Any = sys.modules["trio"]
    trio.run = _alone(trio.run)


def _alone(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, which finds no running loop if the program's sync code calls it."""

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        if not _in_sync_code():
            return function(*args, **kwargs)
        with _hidden():
            return function(*args, **kwargs)

    return call


def _unseen(get_running_loop: Callable[[], Any]) -> Callable[[], Any]:
    """`asyncio.get_running_loop`, by which the program's sync code asks whether there is one."""

    @functools.wraps(get_running_loop)
    def call() -> Any:
        if _in_sync_code():
            raise RuntimeError("no running event loop")
        return get_running_loop()

    return call


def _in_sync_code() -> bool:
    """Whether the program's sync code calls, to which there is no loop.

    What runs in a loop of the program's own is not; nor is async code that a green function awaits.
    """
    asyncios, trios = _running_asyncio(), _running_trio()
    in_outer = trios is _outer if asyncios is None else asyncios is _outer and trios is None
    return _outer is not None and in_outer and _wait.starts_green_threads()


class _Current:
    """What a thread knows of the loop that it runs: the loop, its task, its hooks for signals."""

    def __init__(self) -> None:
        """Takes what there is now."""
        self.loop = _running_asyncio()
        # Before 3.12 the current task of each loop is kept apart, and need not be touched.
        self.task = None
        if _swap_task() is not None and self.loop is not None:
            self.task = sys.modules["asyncio"].current_task(self.loop)
        self.hooks = sys.get_asyncgen_hooks()
        self.trio = dict(vars(_trio_context() or _NoTrio()))
        #: Whether the loop that goes on in its place may have the descriptor for signals.
        self.lends_wakeup = False

    def hide(self) -> None:
        """Makes it as if no loop ran."""
        if self.task is not None:
            _swap_task()(self.loop, None)
        _set_running_asyncio(None)
        context = _trio_context()
        if context is not None:
            vars(context).clear()

    def show(self) -> None:
        """Puts all back, where nothing is."""
        context = _trio_context()
        if context is not None:
            vars(context).update(self.trio)
        _set_running_asyncio(self.loop)
        if self.task is not None:
            _swap_task()(self.loop, self.task)
        sys.set_asyncgen_hooks(*self.hooks)


class _NoTrio:
    """Stands for what Trio keeps of a thread, where Trio is not loaded."""


def _swap_task() -> Any:
    tasks = sys.modules.get("asyncio.tasks")
    return getattr(tasks, "_swap_current_task", None)


def _set_running_asyncio(loop: Any) -> None:
    asyncio = sys.modules.get("asyncio")
    if asyncio is not None:
        asyncio._set_running_loop(loop)


class _Wakeup:
    """The descriptor that signals write to.

    Trio has one, and so has a loop of the program's with handlers: asyncio would not know of a
    signal otherwise. What the program has set stays, while its sync code runs too. The outer loop
    wakes all the same: it waits for what the inner one waits for, this descriptor included.
    """

    #: The outer loop's.
    outer = -1
    #: The one that was found last.
    _found = -1

    @classmethod
    def allow(cls) -> None:
        """Keeps the outer loop's. In its thread, which need not be the main one."""
        # Green `threading` may not know yet that the caller is the main function.
        try:
            cls.outer = signal.set_wakeup_fd(-1)
        except ValueError:
            cls.outer = -1
        else:
            signal.set_wakeup_fd(cls.outer, warn_on_full_buffer=False)
        cls._found = cls.outer

    @classmethod
    def take(cls) -> bool:
        """Takes the outer loop's away, if it is in place. Returns whether it was."""
        return cls._put(-1, in_place_of=cls.outer)

    @classmethod
    def give(cls) -> bool:
        """Puts the outer loop's in place, if the program has none. Returns whether it had none."""
        return cls._put(cls.outer, in_place_of=-1)

    @classmethod
    def _put(cls, fd: int, in_place_of: int) -> bool:
        if cls.outer == -1 or threading.current_thread() is not threading.main_thread():
            return False
        if cls._current() != in_place_of:
            return False
        signal.set_wakeup_fd(fd, warn_on_full_buffer=False)
        cls._found = fd
        return True

    @classmethod
    def _current(cls) -> int:
        # There is no way to ask but to set another one. A signal that comes in between is lost,
        # but not if it is the one that is expected.
        try:
            fd = signal.set_wakeup_fd(cls._found, warn_on_full_buffer=False)
        except (OSError, ValueError):  # that one is closed by now
            cls._found = -1
            fd = signal.set_wakeup_fd(-1)
        if fd != cls._found:
            signal.set_wakeup_fd(fd, warn_on_full_buffer=False)
            cls._found = fd
        return fd


class _Outer:
    """The loop outside, for the engine."""

    def __init__(self) -> None:
        """Takes the loop that runs now."""
        self.reactor = _reactors.of_running_loop()
        self.current = _Current()

    def surface(self) -> _Current:
        """Shows it again: the function is about to wait. Returns what it takes the place of."""
        inner = _Current()
        inner.hide()
        self.current.show()
        inner.lends_wakeup = _Wakeup.give()
        return inner

    def submerge(self, inner: _Current) -> None:
        """Hides it: the function goes on."""
        if inner.lends_wakeup:
            _Wakeup.take()
        self.current.hide()
        inner.show()


@contextlib.contextmanager
def _hidden() -> Iterator[None]:
    """Hides the loop that runs in this thread, and its current task."""
    outer = _Outer()
    _engine.enter_inner_loop(outer)
    me = _wait.get_ident()
    _wait.running_inner_loops.add(me)
    outer.current.hide()
    _Wakeup.take()
    try:
        with _own_sigint():
            yield
    finally:
        outer.current.show()
        _Wakeup.give()
        _wait.running_inner_loops.discard(me)
        _engine.leave_inner_loop()


@contextlib.contextmanager
def _own_sigint() -> Iterator[None]:
    """Has Ctrl-C interrupt the inner loop, as asyncio and Trio see to themselves.

    They do so only where nobody has set a handler, and `python -m verdigris` has one.
    """
    handler = signal.getsignal(signal.SIGINT)
    ours = getattr(handler, "_verdigris", False) or _is_trios(handler)
    if not ours or threading.current_thread() is not threading.main_thread():
        yield
        return
    _signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        _signal(signal.SIGINT, handler)


def _is_trios(handler: object) -> bool:
    return getattr(handler, "__module__", None) == "trio._core._ki"
