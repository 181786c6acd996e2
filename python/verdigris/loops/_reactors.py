"""Which reactor belongs to which loop.

The engine asks here when it does not know the loop that runs. One reactor is made for each loop of
asyncio, and for each run of Trio; it lives as long as that.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import weakref
from typing import Any

from verdigris import _engine, loops

# By loop, or by Trio's token.
_reactors: weakref.WeakKeyDictionary[Any, _engine.Reactor] = weakref.WeakKeyDictionary()


def _find() -> _engine.Reactor | None:
    # Missing while Trio is being imported.
    trio: Any = getattr(sys.modules.get("trio"), "lowlevel", None) and sys.modules["trio"]
    if trio is not None and trio.lowlevel.in_trio_task():
        token = trio.lowlevel.current_trio_token()
        found = _reactors.get(token)
        if found is None:
            from verdigris.loops._trio_reactor import TrioBackend

            found = _reactors[token] = TrioBackend(token).reactor
        return found
    asyncio = sys.modules.get("asyncio")
    loop = None if asyncio is None else asyncio._get_running_loop()
    if loop is None:
        return None
    found = _reactors.get(loop)
    if found is None:
        from verdigris.loops._asyncio_reactor import AsyncioBackend

        try:
            found = AsyncioBackend(loop).reactor
        except NotImplementedError:
            # A loop that can't watch descriptors, such as one made for a test.
            return None
        _reactors[loop] = found
    return found


def of_running_loop() -> _engine.Reactor | None:
    """The reactor of the loop that runs here, or None."""
    return _find()


class _Lost:
    """The loop outside, to a function that forked: the child does not run it."""

    reactor = None


_forks_on_a_loop = False


def _before_fork() -> None:
    global _forks_on_a_loop
    _forks_on_a_loop = _engine.current() is not None and loops.running_library() is not None


def _after_fork() -> None:
    """In the child of a fork.

    A function that forked on a loop goes on there, alone, as the child's main thread: nothing is
    green in it. It may run loops of its own. asyncio knows by the process that its loop does not
    run here; Trio does not, and is told. Signals of the child are none of the parent's loop.
    """
    if not _forks_on_a_loop:
        return
    with contextlib.suppress(RuntimeError):  # it runs a loop of its own already
        _engine.enter_inner_loop(_Lost())
    signal.set_wakeup_fd(-1)
    context = getattr(sys.modules.get("trio._core._run"), "GLOBAL_RUN_CONTEXT", None)
    if context is not None:
        vars(context).clear()


_engine._register_reactor_finder(_find)
os.register_at_fork(before=_before_fork, after_in_child=_after_fork)
