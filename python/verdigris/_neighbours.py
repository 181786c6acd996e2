"""Other packages that switch stacks, met when they are imported, before or after verdigris."""

import sys
from typing import Any

from verdigris import _engine, _sqlalchemy
from verdigris._when_imported import when_imported

_GREENLET = "greenlet._greenlet"
_NATIVE_STACKS = (
    "A thread can be a native stack here: verdigris gives one to each function that it starts and "
    "to each task with a portal. Greenlets, and so gevent's hub, a portal of greenback or a "
    "Playwright, can be used only on the stack where they were first used. See docs/neighbours.md."
)


def _meet_greenlet() -> None:
    _engine.isolate_greenlet()
    _explain(sys.modules[_GREENLET].error)


def _explain(error: Any) -> None:
    """greenlet speaks of a different thread. A note says what that can be."""

    def __init__(self: Exception, *args: object) -> None:
        Exception.__init__(self, *args)
        if args and "different thread" in str(args[0]):
            self.add_note(_NATIVE_STACKS)

    error.__init__ = __init__


# Before the first greenlet runs: the engine tells its native stacks apart for it.
when_imported(_GREENLET, _meet_greenlet)
for _name in _sqlalchemy.MODULES:
    when_imported(_name, _sqlalchemy.meet)
