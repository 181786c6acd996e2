"""`select`, green: `select`, `poll` and `epoll`.

Each asks the stdlib's own first, with no time to wait: that checks the arguments, raises what is
to be raised, and answers when something is ready. Only when nothing is does it wait, and then it
asks again. Regular files are always ready, so they never get as far as the wait.

What is waited with is, in turn:

- the descriptors themselves, where only reading and writing is asked for;
- the descriptor of an epoll object, which is ready when something in it is;
- an epoll object made for this one wait, for what the reactor has no word for: urgent data
  (POLLPRI, the third list of `select`), a peer that shut down (POLLRDHUP), errors alone.
"""

from __future__ import annotations

import operator
import os as _os
import select as _original
from collections.abc import Callable, Iterable
from time import monotonic as _monotonic
from typing import Any, TypeVar

from verdigris.green import _twin, _wait

_select = _original.select
_poll = _original.poll
_epoll = getattr(_original, "epoll", None)

_READ = _original.POLLIN | getattr(_original, "POLLRDNORM", 0)
_WRITE = _original.POLLOUT | getattr(_original, "POLLWRNORM", 0)
# What poll reports whether it was asked for or not.
_ALWAYS = _original.POLLERR | _original.POLLHUP | _original.POLLNVAL
_DEFAULT = _original.POLLIN | _original.POLLPRI | _original.POLLOUT

# Seconds. No timeout in range is refused by any of the three, and one wait takes no longer.
_IN_RANGE = 1_000_000

_T = TypeVar("_T")


def _seconds(timeout: Any, unit: float, check: Callable[[int], Any]) -> float | None:
    """A timeout in seconds, None where it means for ever.

    Args:
        timeout: As the user gave it.
        unit: Seconds in one of it.
        check: Calls the stdlib's own with the user's timeout and a descriptor that is ready, so
            that it comes back at once. It is called for what is not an ordinary number.
    """
    if timeout is None:
        return None
    if not (isinstance(timeout, (int, float)) and 0 <= timeout * unit <= _IN_RANGE):
        ended, other = _os.pipe()
        _os.close(other)
        try:
            check(ended)
        finally:
            _os.close(ended)
        # 3.15 takes all real numbers; before, what is no float is an integer of a kind.
        if not isinstance(timeout, float):
            timeout = operator.index(timeout) if hasattr(timeout, "__index__") else float(timeout)
        if timeout < 0:
            return None
    return float(timeout * unit)


def _until(ask: Callable[[], _T], wait: Callable[[float | None], Any], seconds: float | None) -> _T:
    """Waits, and asks, until there is an answer or the time is over."""
    end = None if seconds is None else _monotonic() + seconds
    left = seconds
    while True:
        wait(left if left is None or left < _IN_RANGE else _IN_RANGE)
        answer = ask()
        if answer:
            return answer
        if end is not None:
            left = end - _monotonic()
            if left <= 0:
                return answer


def _until_any(masks: dict[int, int], timeout: float | None) -> None:
    """Waits until one of the descriptors has what its mask asks for, in poll's bits."""
    pairs = []
    for number, mask in masks.items():
        events = (_wait.READ if mask & _READ else 0) | (_wait.WRITE if mask & _WRITE else 0)
        if _epoll is not None and (not events or mask & ~(_READ | _WRITE | _ALWAYS)):
            return _until_any_by_epoll(masks, timeout)
        pairs.append((number, events or _wait.READ))
    if pairs or timeout is None:
        _wait.fds(pairs, timeout)
    else:
        _wait.sleep(timeout)
    return None


def _until_any_by_epoll(masks: dict[int, int], timeout: float | None) -> None:
    assert _epoll is not None
    with _epoll() as group:
        for number, mask in masks.items():
            try:
                group.register(number, mask & ~_ALWAYS)
            except PermissionError:
                continue  # A regular file. It never has what was asked for, or it were ready.
        try:
            _wait.fd(group.fileno(), _wait.READ, timeout)
        finally:
            _wait.forget(group.fileno())


def _number(fileobj: Any) -> int:
    return fileobj if isinstance(fileobj, int) else fileobj.fileno()


def _listed(fileobjs: Any) -> Any:
    """What can be gone through twice, or what the stdlib's `select` has an error for."""
    if isinstance(fileobjs, (list, tuple)) or not isinstance(fileobjs, Iterable):
        return fileobjs
    return list(fileobjs)


def select(
    rlist: Any, wlist: Any, xlist: Any, timeout: float | None = None, /
) -> tuple[list[Any], list[Any], list[Any]]:
    """`select.select`."""
    if not _wait.is_green():
        return _select(rlist, wlist, xlist, timeout)
    seconds = _seconds(timeout, 1, lambda ready: _select([ready], [], [], timeout))
    rlist, wlist, xlist = _listed(rlist), _listed(wlist), _listed(xlist)
    _wait.give_way()
    answer = _select(rlist, wlist, xlist, 0)
    if seconds == 0 or any(answer):
        return answer
    masks: dict[int, int] = {}
    for fileobjs, mask in ((rlist, _READ), (wlist, _WRITE), (xlist, _original.POLLPRI)):
        for fileobj in fileobjs:
            number = _number(fileobj)
            masks[number] = masks.get(number, 0) | mask

    def ask() -> tuple[list[Any], list[Any], list[Any]] | None:
        answer = _select(rlist, wlist, xlist, 0)
        return answer if any(answer) else None

    found = _until(ask, lambda left: _until_any(masks, left), seconds)
    return ([], [], []) if found is None else found


class poll:
    """`select.poll`."""

    __slots__ = ("_masks", "_poll", "_waits")

    def __init__(self) -> None:
        self._poll = _poll()
        self._masks: dict[int, int] = {}
        self._waits = False

    def register(self, fd: Any, eventmask: int = _DEFAULT, /) -> None:
        self._poll.register(fd, eventmask)
        self._masks[_number(fd)] = eventmask

    def modify(self, fd: Any, eventmask: int, /) -> None:
        self._poll.modify(fd, eventmask)
        self._masks[_number(fd)] = eventmask

    def unregister(self, fd: Any, /) -> None:
        self._poll.unregister(fd)
        del self._masks[_number(fd)]

    def poll(self, timeout: float | None = None, /) -> list[tuple[int, int]]:
        if self._waits:
            raise RuntimeError("concurrent poll() invocation")
        if not _wait.is_green():
            return self._poll.poll(timeout)

        def check(ready: int) -> None:
            other = _poll()
            other.register(ready)
            other.poll(timeout)

        seconds = _seconds(timeout, 0.001, check)
        _wait.give_way()
        answer = self._poll.poll(0)
        if answer or seconds == 0:
            return answer
        self._waits = True
        try:
            # A copy: what is registered in the meantime counts from the next call on.
            masks = dict(self._masks)
            return _until(lambda: self._poll.poll(0), lambda left: _until_any(masks, left), seconds)
        finally:
            self._waits = False


REPLACED: dict[str, Any] = {"select": select, "poll": poll}


if _epoll is not None:
    _Epoll = _epoll

    class _EitherEpoll(type):
        """An epoll object that was made before the module was patched is one all the same."""

        def __instancecheck__(cls, instance: Any) -> bool:
            return isinstance(instance, _Epoll) or super().__instancecheck__(instance)

    class epoll(metaclass=_EitherEpoll):
        """`select.epoll`, which can't be a base class: this one holds one of the stdlib's."""

        __slots__ = ("_epoll", "fileno", "modify", "register", "unregister")

        def __init__(self, sizehint: int = -1, flags: int = 0) -> None:
            self._hold(_Epoll(sizehint, flags))

        @classmethod
        def fromfd(cls, fd: int, /) -> epoll:
            self = cls.__new__(cls)
            self._hold(_Epoll.fromfd(fd))
            return self

        def _hold(self, held: _original.epoll) -> None:
            # What can't wait is the stdlib's own method: a selector calls these often.
            self._epoll = held
            self.fileno = held.fileno
            self.register = held.register
            self.modify = held.modify
            self.unregister = held.unregister

        @property
        def closed(self) -> bool:
            return self._epoll.closed

        def close(self) -> None:
            if self._epoll.closed:
                return
            _wait.end(self._epoll.fileno(), lambda _fd: self._epoll.close())

        def __enter__(self) -> epoll:
            self._epoll.__enter__()  # It refuses one that is closed.
            return self

        def __exit__(self, *exc: object) -> None:
            self.close()

        def poll(self, timeout: float | None = None, maxevents: int = -1) -> list[tuple[int, int]]:
            held = self._epoll
            if not _wait.is_green():
                return held.poll(timeout, maxevents)

            def check(ready: int) -> None:
                with _Epoll() as other:
                    other.register(ready)
                    other.poll(timeout)

            seconds = _seconds(timeout, 1, check)
            _wait.give_way()
            answer = held.poll(0, maxevents)
            if answer or seconds == 0:
                return answer
            number = held.fileno()
            return _until(
                lambda: held.poll(0, maxevents),
                lambda left: _wait.fd(number, _wait.READ, left),
                seconds,
            )

    REPLACED["epoll"] = epoll

_twin.make(globals(), _original, REPLACED)
