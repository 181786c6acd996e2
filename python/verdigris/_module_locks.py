"""Locks that modules of the stdlib made at import, before the patch.

They are locks of the interpreter. A green function that waits for one blocks its thread, and so
the function that holds it, if that is a green one of the same thread: a deadlock
(`concurrent.futures.thread._global_shutdown_lock` is held while a thread starts). So each is
replaced while nobody holds it.

`threading` keeps its own: they guard a few lines that never wait, at the end of the interpreter
too. Locks of the import system and of the loops stay as well (`LEFT_ALONE`).
"""

import _thread
import os
import sys
from typing import Any

from verdigris import _held_originals
from verdigris._patched_modules import is_stdlib

_LOCK = type(_thread.allocate_lock())
_RLOCK = type(_thread.RLock())
_KEEP = frozenset({"threading", "_thread"})


def replace() -> None:
    """Replaces the locks that nobody holds now."""
    for name, module in _held_originals.modules():
        if is_stdlib(name) and name not in _KEEP and not _held_originals.is_written_in_c(module):
            for attribute, value in list(vars(module).items()):
                if _is_free(value):
                    green = _green(value)
                    # As its module has it for the lock that was there. (`logging` itself makes
                    # the locks of handlers new in a child.)
                    os.register_at_fork(after_in_child=green._at_fork_reinit)
                    setattr(module, attribute, green)
    _replace_those_of_handlers()


def _is_free(value: object) -> bool:
    # Before 3.14 only the repr tells whether a reentrant lock is held.
    return type(value) in (_LOCK, _RLOCK) and repr(value).startswith("<unlocked")


def _green(lock: object) -> Any:
    # Its import brings more than a program needs that patches nothing.
    from verdigris.green import _wait

    return _wait.Lock() if type(lock) is _LOCK else _wait.RLock()


def _replace_those_of_handlers() -> None:
    logging = sys.modules.get("logging")
    if logging is None:
        return
    for reference in list(logging._handlerList):
        handler = reference()
        if handler is not None and _is_free(getattr(handler, "lock", None)):
            handler.lock = _green(handler.lock)
