"""Who wants the engine to watch the steps of functions, and for what.

The engine watches for one: its state is kept together here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from verdigris import _engine

GOES, WAITS, ENDS = 0, 1, 2

_watcher: Callable[[int, Any, Any], object] | None = None
_keeps_times = False


def enable() -> None:
    """Has it known since when each green function waits: `Suspended.since`.

    From now on, for all threads; of what waits already it stays unknown. It costs about a tenth of
    a microsecond a wait.

    Example:
        >>> from verdigris import inspect
        >>> inspect.enable()
        >>> inspect.disable()
    """
    global _keeps_times
    _keeps_times = True
    _engine.watch(_watcher, True)


def disable() -> None:
    """Ends what `enable` began."""
    global _keeps_times
    _keeps_times = False
    _engine.watch(_watcher, False)


def watch(watcher: Callable[[int, Any, Any], object]) -> None:
    """Has a function called at every step. Only one can be.

    Raises:
        RuntimeError: There is one already.
    """
    global _watcher
    if _watcher is not None:
        raise RuntimeError("a trace is being written already: stop it first")
    _watcher = watcher
    _engine.watch(watcher, _keeps_times)


def unwatch() -> None:
    """Ends that."""
    global _watcher
    _watcher = None
    _engine.watch(None, _keeps_times)
