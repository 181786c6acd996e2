"""Loops that sync code runs inside a green function: `asyncio.run(main())` in a script.

A green function runs in a task of the outer loop, and asyncio refuses to run a loop in a thread
where one runs. To the sync code there is none. So while it runs a loop of its own, the outer loop
and its current task are hidden; they come back when the inner loop stops.

The inner loop waits with the selectors of the stdlib. As long as these block, so does the outer
loop; where they are green, the outer loop goes on. (MARK: the engine has to show the outer loop
again while the inner one's selector waits.)
"""

import contextlib
import functools
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

from verdigris._when_imported import when_imported
from verdigris.green import _wait

# The loop that runs the program: an asyncio loop, or the run of Trio's.
_outer: Any = None


def allow() -> None:
    """Lets the program run loops of its own: asyncio's, uvloop's, Trio's. For good.

    Called in a green function, on the loop that runs the program.
    """
    global _outer
    _outer = _running_trio() or _running_asyncio()
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
    for name in ("run", "get_event_loop"):
        function = getattr(asyncio, name)
        hiding = _alone(function)
        # Everywhere in asyncio; others take it from here.
        for module in list(sys.modules.values()):
            if getattr(module, "__name__", "").partition(".")[0] == "asyncio":
                for key, value in list(vars(module).items()):
                    if value is function:
                        setattr(module, key, hiding)


def _allow_uvloop() -> None:
    import uvloop

    # A class in Python that inherits these from one in C.
    for name in ("run_forever", "run_until_complete"):
        setattr(uvloop.Loop, name, _alone(getattr(uvloop.Loop, name)))


def _allow_trio() -> None:
    import trio

    trio.run = _alone(trio.run)


def _alone(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, which finds no running loop if the program's sync code calls it."""

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        # What runs in a loop of the program's own is refused, as anywhere; so is async code that a
        # green function awaits.
        asyncios, trios = _running_asyncio(), _running_trio()
        in_outer = trios is _outer if asyncios is None else asyncios is _outer and trios is None
        if _outer is None or not in_outer or not _wait.starts_green_threads():
            return function(*args, **kwargs)
        with _hidden():
            return function(*args, **kwargs)

    return call


@contextlib.contextmanager
def _hidden() -> Iterator[None]:
    """Hides the loop that runs in this thread, and its current task."""
    with _hidden_trio(), _hidden_asyncio(), _own_signals():
        yield


@contextlib.contextmanager
def _hidden_asyncio() -> Iterator[None]:
    from asyncio import events, tasks

    loop = events._get_running_loop()
    if loop is None:
        yield
        return
    # Before 3.12 there is nothing to do: the current task of each loop is kept apart.
    swap: Any = getattr(tasks, "_swap_current_task", None)
    task = None if swap is None else swap(loop, None)
    hooks = sys.get_asyncgen_hooks()
    events._set_running_loop(None)
    try:
        yield
    finally:
        events._set_running_loop(loop)
        sys.set_asyncgen_hooks(*hooks)
        if swap is not None:
            swap(loop, task)


@contextlib.contextmanager
def _hidden_trio() -> Iterator[None]:
    context = _trio_context()
    if context is None or not hasattr(context, "task"):
        yield
        return
    hidden = dict(vars(context))
    vars(context).clear()
    try:
        yield
    finally:
        vars(context).clear()
        vars(context).update(hidden)


@contextlib.contextmanager
def _own_signals() -> Iterator[None]:
    """Has signals wake the inner loop, and Ctrl-C interrupt it, as these loops see to themselves.

    They do so only where nobody has set a handler, and `python -m verdigris` has one.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handler = signal.getsignal(signal.SIGINT)
    ours = getattr(handler, "_verdigris", False) or _is_trios(handler)
    wakeup = signal.set_wakeup_fd(-1)
    if ours:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        if ours:
            signal.signal(signal.SIGINT, handler)
        signal.set_wakeup_fd(wakeup, warn_on_full_buffer=False)


def _is_trios(handler: object) -> bool:
    return getattr(handler, "__module__", None) == "trio._core._ki"
