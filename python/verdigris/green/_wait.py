"""What green modules wait with. (A stand-in in Python; the engine's reactor takes its place.)

Everything here is dual-mode: where the caller cannot wait without blocking a loop (`is_green()` is
False), it does exactly what the stdlib does.
"""

from __future__ import annotations

import _thread
import asyncio
import os
import socket as _socket_module
import ssl as _ssl
import sys
import time as _time
from collections.abc import Callable, Iterable
from typing import Any

from verdigris import loops
from verdigris._engine import await_, can_await

READ, WRITE = 1, 2

_sleep = _time.sleep
_allocate_lock = _thread.allocate_lock
_get_ident = _thread.get_ident


def is_green() -> bool:
    """Whether a wait here suspends a function, and not the thread."""
    return can_await() and loops.current() is not None


def starts_green_threads() -> bool:
    """Whether a thread that is started here shall be a green one.

    True in a sync function that runs green, False in async code that such a function awaits: its
    threads (asyncio's executor, Trio's worker threads) are real ones. (The stand-in can't tell.)
    """
    return is_green()


def fd(fileno: int, events: int, timeout: float | None = None) -> int:
    """Waits until a descriptor is ready. Only where `is_green()`.

    Args:
        fileno: The descriptor.
        events: READ, WRITE or both.
        timeout: Seconds, or None.

    Returns:
        The events that came, or 0 when the time is over.
    """
    return READ | WRITE if fds([(fileno, events)], timeout) else 0


def fds(pairs: Iterable[tuple[int, int]], timeout: float | None = None) -> bool:
    """Waits until one of several descriptors is ready. False when the time is over."""
    return await_(_fds(list(pairs), timeout))


async def _fds(pairs: list[tuple[int, int]], timeout: float | None) -> bool:
    if "trio" in sys.modules and sys.modules["trio"].lowlevel.in_trio_task():
        import trio

        ready = False
        with trio.move_on_after(float("inf") if timeout is None else timeout):
            async with trio.open_nursery() as nursery:

                async def one(wait: Any, number: int) -> None:
                    nonlocal ready
                    await wait(number)
                    ready = True
                    nursery.cancel_scope.cancel()

                copies = []
                try:
                    for number, events in pairs:
                        copies.append(os.dup(number))
                        if events & READ:
                            nursery.start_soon(one, trio.lowlevel.wait_readable, copies[-1])
                        if events & WRITE:
                            nursery.start_soon(one, trio.lowlevel.wait_writable, copies[-1])
                    await trio.sleep_forever()
                finally:
                    for copy in copies:
                        trio.lowlevel.notify_closing(copy)
                        os.close(copy)
        return ready
    loop = asyncio.get_running_loop()
    future = loop.create_future()

    def wake() -> None:
        if not future.done():
            future.set_result(True)

    copies = []
    try:
        for number, events in pairs:
            copies.append(os.dup(number))
            if events & READ:
                loop.add_reader(copies[-1], wake)
            if events & WRITE:
                loop.add_writer(copies[-1], wake)
        await asyncio.wait((future,), timeout=timeout)
        return future.done()
    finally:
        for copy in copies:
            loop.remove_reader(copy)
            loop.remove_writer(copy)
            os.close(copy)


def forget(fileno: int) -> None:
    """To be called before a descriptor is closed: its waiters wake up, and find it closed."""


def retry(sock: Any, events: int, function: Callable[..., Any], *args: Any) -> Any:
    """Calls a function of a socket until it need not block, waiting between, with the socket's
    own timeout for all of it. Only where `is_green()`.

    Args:
        sock: A `_socket.socket`. While `function` runs it does not block, and raises
            BlockingIOError in place of waiting; afterwards its mode is as before.
        events: What to wait for when `function` raised BlockingIOError; after SSLWantReadError
            and SSLWantWriteError it is what these say.
        function: Called with `args`.

    Raises:
        TimeoutError: "timed out", as the stdlib's sockets.
        BlockingIOError: The socket is in non-blocking mode, and `function` would have to wait.
    """
    timeout = _socket_module.socket.gettimeout(sock)
    if timeout == 0:
        return function(*args)
    deadline = None if timeout is None else _time.monotonic() + timeout
    while True:
        _socket_module.socket.settimeout(sock, 0)
        try:
            return function(*args)
        except BlockingIOError:
            wanted = events
        except _ssl.SSLWantReadError:
            wanted = READ
        except _ssl.SSLWantWriteError:
            wanted = WRITE
        finally:
            if sock.fileno() >= 0:
                _socket_module.socket.settimeout(sock, timeout)
        left = None if deadline is None else deadline - _time.monotonic()
        if left is not None and left <= 0:
            raise TimeoutError("timed out")
        if not fd(sock.fileno(), wanted, left):
            raise TimeoutError("timed out")


def sleep(seconds: float, /) -> None:
    """`time.sleep`."""
    if not is_green():
        return _sleep(seconds)
    if seconds < 0:
        raise ValueError("sleep length must be non-negative")
    await_(_pause(seconds))


async def _pause(seconds: float) -> None:
    if "trio" in sys.modules and sys.modules["trio"].lowlevel.in_trio_task():
        await sys.modules["trio"].sleep(seconds)
    else:
        await asyncio.sleep(seconds)


def get_ident() -> int:
    """`threading.get_ident`: a number of the function that runs green, or of the thread."""
    owner = current()
    return _get_ident() if owner is None else id(owner)


def current() -> object | None:
    """What stands for the function that runs green here: an object that lives as long as the
    function, can be referred to weakly, and is the same in all calls below it; None elsewhere."""
    if not is_green():
        return None
    if "trio" in sys.modules and sys.modules["trio"].lowlevel.in_trio_task():
        return sys.modules["trio"].lowlevel.current_task()
    return asyncio.current_task()


def offload(function: Callable[..., Any], /, *args: Any) -> Any:
    """Calls a function that blocks: in an OS thread where `is_green()`, right here elsewhere."""
    if not is_green():
        return function(*args)
    if "trio" in sys.modules and sys.modules["trio"].lowlevel.in_trio_task():
        import trio

        return await_(trio.to_thread.run_sync(lambda: function(*args), abandon_on_cancel=True))
    return await_(asyncio.get_running_loop().run_in_executor(None, function, *args))


class Lock:
    """`_thread.lock`, which green functions, loops and OS threads share."""

    __slots__ = ("__weakref__", "_inner")

    def __init__(self) -> None:
        self._inner = _allocate_lock()

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        if not blocking or not is_green():
            return self._inner.acquire(blocking, timeout)
        end = None if timeout < 0 else _time.monotonic() + timeout
        while not self._inner.acquire(False):
            if end is not None and _time.monotonic() > end:
                return False
            sleep(0.001)
        return True

    def release(self) -> None:
        self._inner.release()

    def locked(self) -> bool:
        return self._inner.locked()

    acquire_lock, release_lock, locked_lock = acquire, release, locked

    def __enter__(self) -> bool:
        return self.acquire()

    def __exit__(self, *exc: object) -> None:
        self.release()

    def _at_fork_reinit(self) -> None:
        self._inner = _allocate_lock()


class RLock:
    """`_thread.RLock`, whose owner may be a green function."""

    __slots__ = ("__weakref__", "_block", "_count", "_owner")

    def __init__(self) -> None:
        self._block, self._owner, self._count = Lock(), None, 0

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        me = get_ident()
        if self._owner == me:
            self._count += 1
            return True
        if not self._block.acquire(blocking, timeout):
            return False
        self._owner, self._count = me, 1
        return True

    def release(self) -> None:
        if self._owner != get_ident():
            raise RuntimeError("cannot release un-acquired lock")
        self._count -= 1
        if not self._count:
            self._owner = None
            self._block.release()

    def locked(self) -> bool:
        return self._count > 0

    def __enter__(self) -> bool:
        return self.acquire()

    def __exit__(self, *exc: object) -> None:
        self.release()

    def _is_owned(self) -> bool:
        return self._owner == get_ident()

    def _recursion_count(self) -> int:
        return self._count if self._is_owned() else 0

    def _acquire_restore(self, state: tuple[int, int]) -> None:
        self._block.acquire()
        self._count, self._owner = state

    def _release_save(self) -> tuple[int, int]:
        if not self._count:
            raise RuntimeError("cannot release un-acquired lock")
        state = (self._count, self._owner)
        self._count, self._owner = 0, None
        self._block.release()
        return state

    def _at_fork_reinit(self) -> None:
        self._block._at_fork_reinit()
        self._owner, self._count = None, 0


def _method(name: str, events: int) -> Callable[..., Any]:
    original = getattr(_socket_module.socket, name)

    def method(self: Any, *args: Any) -> Any:
        if not is_green():
            return original(self, *args)
        return retry(self, events, original, self, *args)

    method.__name__ = name
    return method


def _sendall(self: Any, data: Any, flags: int = 0, /) -> None:
    if not is_green():
        return _socket_module.socket.sendall(self, data, flags)
    with memoryview(data) as view, view.cast("B") as rest:
        sent = 0
        while sent < len(rest):
            sent += retry(self, WRITE, _socket_module.socket.send, self, rest[sent:], flags)


SOCKET_METHODS: dict[str, Callable[..., Any]] = {
    "recv": _method("recv", READ),
    "recv_into": _method("recv_into", READ),
    "send": _method("send", WRITE),
    "sendall": _sendall,
}
"""The methods of sockets that are called most, for `METHODS["socket"]`."""
