"""What a reactor needs of asyncio, and of every loop that keeps its interface (uvloop)."""

from __future__ import annotations

import asyncio
import contextvars
import math
import weakref

from verdigris import _engine

# What the loop calls back is nobody's code in particular. By default it would run in a copy of
# the context of whoever waited first, and keep that alive.
_EMPTY = contextvars.Context()


class AsyncioBackend:
    """One loop and its reactor.

    The loop holds the reactor, by the callback of the reader, and the reactor holds this. So this
    holds the loop weakly: it is collected when its program lets go of it.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.reactor = _engine.reactor(self, loop, False, _clock_of(loop))
        # The engine compares addresses, and the next loop may get this one's.
        self._loop = weakref.ref(loop, self._loop_is_gone)
        # Weakly too: it refers to the loop, which keeps it as long as it is to come.
        self._timer: weakref.ref[asyncio.TimerHandle] | None = None
        self._rounds = type(loop).__module__.startswith("uvloop")
        _EMPTY.copy().run(loop.add_reader, self.reactor.fileno(), self.reactor.turn)

    def _loop_is_gone(self, _: object) -> None:
        self.reactor.close()
        # They refer to each other, and would wait for the collector.
        del self.reactor

    def soon(self) -> None:
        """Asks for a turn in the next iteration."""
        loop = self._loop()
        if loop is not None:
            loop.call_soon(self.reactor.run_ready, context=_EMPTY.copy())

    def arm(self, delay: float) -> None:
        """Asks for a turn in so many seconds, in place of what was asked for before."""
        loop = self._loop()
        if loop is None or loop.is_closed():
            return
        before = None if self._timer is None else self._timer()
        if before is not None:
            before.cancel()
        # uvloop rounds to milliseconds, and down to "now".
        delay = math.ceil(delay * 1000) / 1000 if self._rounds else delay
        timer = loop.call_later(delay, self.reactor.on_timer, context=_EMPTY.copy())
        self._timer = weakref.ref(timer)


def _clock_of(loop: asyncio.AbstractEventLoop) -> object:
    """The loop's clock where it is none of the system's, as in tests with a clock by hand."""
    if type(loop).time is asyncio.BaseEventLoop.time or type(loop).__module__.startswith("uvloop"):
        return None
    return loop.time
