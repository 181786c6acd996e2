"""`queue`, green.

Queue, LifoQueue and PriorityQueue are the stdlib's code over green locks. `SimpleQueue`, which the
stdlib has in C, is written anew: no lock is held while the queue changes, so that `put` may be
called at any time, from `__del__`, from a signal's handler, in the middle of another call.
"""

from __future__ import annotations

import queue as _original
import time as _time_module
import types as _types_module
from collections import deque as _deque_of
from contextlib import suppress as _suppress
from functools import wraps as _wraps
from typing import Any

from verdigris.green import _twin, _wait
from verdigris.green import threading as _threading  # noqa: F401  (its twin is what queues use)

_Empty = _original.Empty
_stdlib_simple_queue = _original.SimpleQueue  # taken before anybody patches the stdlib


def _seconds(timeout: Any) -> float:
    """A timeout that is no int and no float. Which are taken the stdlib says: 3.15 takes more."""
    ready: Any = _stdlib_simple_queue()
    ready.put(None)
    ready.get(True, timeout)
    return float(timeout)


class SimpleQueue:
    """`queue.SimpleQueue`, between green functions, loops and OS threads.

    Each step on the two deques is atomic. A lock stands for each `get` that waits. `put` appends
    its item first and wakes one waiter then; `get` enters its lock first and looks again then. So
    no item stays unseen. Who is woken may find its item taken by another, and waits again.
    """

    __slots__ = ("__weakref__", "_items", "_waiters")

    def __init__(self) -> None:
        self._items: _deque_of[Any] = _deque_of()
        self._waiters: _deque_of[_wait.Lock] = _deque_of()

    def put(self, item: Any, block: bool = True, timeout: float | None = None) -> None:
        """Puts an item on the queue. Never waits, whatever the other arguments say."""
        self._items.append(item)
        if self._waiters:
            self._wake_one()

    def get(self, block: bool = True, timeout: Any = None) -> Any:
        """Takes the oldest item off the queue, and waits for one if need be.

        Raises:
            Empty: There is none, and `block` is false or the time is over.
            ValueError: The timeout is negative.
        """
        end = None
        if block and timeout is not None:
            if not isinstance(timeout, (int, float)):
                timeout = _seconds(timeout)
            if timeout < 0:
                raise ValueError("'timeout' must be a non-negative number")
            end = _time_module.monotonic() + timeout
        while True:
            try:
                return self._items.popleft()
            except IndexError:
                if not block:
                    _wait.give_way()
                    raise _Empty from None
            left = -1.0
            if end is not None:
                left = end - _time_module.monotonic()
                if left <= 0:
                    raise _Empty
            waiter = _wait.Lock()
            waiter.acquire()
            self._waiters.append(waiter)
            try:
                if not self._items:
                    waiter.acquire(True, left)
            except BaseException:
                # Cancelled. If it was woken for an item, another shall have that.
                if not self._leave(waiter) and self._items:
                    self._wake_one()
                raise
            # Who was woken in the moment that its time was over finds the item all the same.
            self._leave(waiter)

    def _leave(self, waiter: _wait.Lock) -> bool:
        """Takes a waiter back. False if it was woken."""
        while True:
            try:
                self._waiters.remove(waiter)
            except ValueError:
                return False
            except IndexError:  # another thread changed the deque
                continue
            return True

    def _wake_one(self) -> None:
        with _suppress(IndexError):
            self._waiters.popleft().release()

    def put_nowait(self, item: Any) -> None:
        """The same as `put`."""
        self.put(item)

    def get_nowait(self) -> Any:
        """Takes the oldest item off the queue, or raises Empty."""
        return self.get(False)

    def empty(self) -> bool:
        """Whether there is no item right now."""
        _wait.give_way()
        return not self._items

    def qsize(self) -> int:
        """How many items there are right now."""
        _wait.give_way()
        return len(self._items)

    __class_getitem__: Any = classmethod(_types_module.GenericAlias)


def _giving_way(method: Any) -> Any:
    """A method of `Queue` that answers at once. Who asks again and again lets others run."""

    @_wraps(method)
    def ask(self: Any) -> Any:
        _wait.give_way()
        return method(self)

    return ask


def _get(self: Any, block: bool = True, timeout: float | None = None) -> Any:
    if not block:
        _wait.give_way()
    return _stdlib_get(self, block, timeout)


def _put(self: Any, item: Any, block: bool = True, timeout: float | None = None) -> None:
    if not block:
        _wait.give_way()
    _stdlib_put(self, item, block, timeout)


_Queue: Any = _original.Queue
_stdlib_get, _stdlib_put = _Queue.get, _Queue.put

REPLACED = {"SimpleQueue": SimpleQueue}
METHODS = {
    "Queue": {
        "get": _wraps(_stdlib_get)(_get),
        "put": _wraps(_stdlib_put)(_put),
        **{name: _giving_way(getattr(_Queue, name)) for name in ("empty", "full", "qsize")},
    }
}

_twin.make(globals(), _original, REPLACED, METHODS)
