"""Names are resolved in a thread where a function runs green, and numbers need none."""

from __future__ import annotations

import _socket
import socket as stdlib
import threading
from collections.abc import Callable
from typing import Any

import pytest

from verdigris import async_def
from verdigris.green import _dns
from verdigris.green import socket as _twin_socket

socket: Any = _twin_socket
ORIGINALS = ("getaddrinfo", "gethostbyname", "gethostbyname_ex", "gethostbyaddr", "getnameinfo")


def run(loop: Any, function: Callable[..., Any], *args: Any) -> Any:
    return loop.run(async_def, function, *args)


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """For each call of a resolver, whether it was in a thread other than this one."""
    here, calls = threading.get_ident(), []

    def watched(original: Callable[..., Any]) -> Callable[..., Any]:
        def resolve(*args: Any) -> Any:
            calls.append(threading.get_ident() != here)
            return original(*args)

        return resolve

    for name in ORIGINALS:
        monkeypatch.setattr(_dns, f"_{name}", watched(getattr(_dns, f"_{name}")))
    monkeypatch.setattr(_socket, "getaddrinfo", watched(_socket.getaddrinfo))
    return calls


NAMES: dict[str, Callable[[Any], Any]] = {
    "getaddrinfo": lambda m: m.getaddrinfo("localhost", 80, type=m.SOCK_STREAM),
    "service": lambda m: m.getaddrinfo("127.0.0.1", "http", 0, m.SOCK_STREAM),
    "gethostbyname": lambda m: m.gethostbyname("localhost"),
    "gethostbyname_ex": lambda m: m.gethostbyname_ex("localhost"),
    "gethostbyaddr": lambda m: m.gethostbyaddr("127.0.0.1"),
    "getnameinfo": lambda m: m.getnameinfo(("127.0.0.1", 80), 0),
    "getfqdn": lambda m: m.getfqdn("localhost"),
}
NUMBERS: dict[str, Callable[[Any], Any]] = {
    "getaddrinfo": lambda m: m.getaddrinfo("127.0.0.1", 80),
    "bytes": lambda m: m.getaddrinfo(b"127.0.0.1", b"80"),
    "IPv6": lambda m: m.getaddrinfo("::1", "80", m.AF_INET6, m.SOCK_STREAM),
    "scope": lambda m: m.getaddrinfo("fe80::1%lo", 80),
    "None": lambda m: m.getaddrinfo(None, 80, flags=m.AI_PASSIVE),
    "gethostbyname": lambda m: m.gethostbyname("127.0.0.1"),
    "empty": lambda m: m.gethostbyname(""),
    "gethostbyname_ex": lambda m: m.gethostbyname_ex("127.0.0.1"),
    "getnameinfo": lambda m: m.getnameinfo(("127.0.0.1", 80), m.NI_NUMERICHOST | m.NI_NUMERICSERV),
}
WRONG: dict[str, Callable[[Any], Any]] = {
    "unknown": lambda m: m.getaddrinfo("nowhere.invalid", 80),
    "unknown service": lambda m: m.getaddrinfo("localhost", "no-such-service"),
    "name": lambda m: m.gethostbyname("nowhere.invalid"),
    "ex": lambda m: m.gethostbyname_ex("nowhere.invalid"),
    "address": lambda m: m.gethostbyaddr("nowhere.invalid"),
    "too long": lambda m: m.getaddrinfo("a" * 70, 80),
    "no name": lambda m: m.gethostbyname(),
    "no host": lambda m: m.getaddrinfo(1, 80),
    "no address": lambda m: m.getnameinfo("127.0.0.1", 0),
    "a name for getnameinfo": lambda m: m.getnameinfo(("localhost", 1), 0),
    "NUL": lambda m: m.gethostbyname("a\0b"),
    "connect unknown": lambda m: with_socket(m, "connect", ("nowhere.invalid", 1)),
    "connect NUL": lambda m: with_socket(m, "connect", ("local\0host", 1)),
    "connect too long": lambda m: with_socket(m, "connect", ("a" * 70, 1)),
    "connect port": lambda m: with_socket(m, "connect", ("nowhere.invalid", "1")),
    "connect large port": lambda m: with_socket(m, "connect", ("localhost", 2**16)),
    "connect triple": lambda m: with_socket(m, "connect", ("localhost", 1, 2)),
    "connect text": lambda m: with_socket(m, "connect", "localhost"),
    "connect_ex unknown": lambda m: with_socket(m, "connect_ex", ("nowhere.invalid", 1)),
    "bind unknown": lambda m: with_socket(m, "bind", ("nowhere.invalid", 1)),
    "sendto unknown": lambda m: with_socket(m, "sendto", b"", ("nowhere.invalid", 1)),
    "sendto nothing": lambda m: with_socket(m, "sendto", b""),
    "wrong family": lambda m: with_socket(m, "connect", ("::1", 1)),
}


def with_socket(module: Any, method: str, *args: Any) -> Any:
    with module.socket(type=stdlib.SOCK_DGRAM) as sock:
        return getattr(sock, method)(*args)


@pytest.mark.parametrize("resolve", NAMES.values(), ids=NAMES)
def test_a_name_is_resolved_in_a_thread(loop: Any, resolve: Any, elsewhere: list[bool]) -> None:
    expected = resolve(stdlib)
    elsewhere.clear()  # the stdlib's own `getaddrinfo` was watched too
    assert run(loop, resolve, socket) == expected
    assert elsewhere and all(elsewhere)


@pytest.mark.parametrize("resolve", NUMBERS.values(), ids=NUMBERS)
def test_a_number_needs_no_thread(loop: Any, resolve: Any, elsewhere: list[bool]) -> None:
    expected = resolve(stdlib)
    elsewhere.clear()
    assert run(loop, resolve, socket) == expected
    assert elsewhere and not any(elsewhere)


@pytest.mark.parametrize("resolve", NAMES.values(), ids=NAMES)
def test_elsewhere_it_is_resolved_right_here(resolve: Any, elsewhere: list[bool]) -> None:
    resolve(socket)
    assert elsewhere and not any(elsewhere)


@pytest.mark.parametrize("resolve", WRONG.values(), ids=WRONG)
def test_errors_are_the_stdlibs(loop: Any, resolve: Any) -> None:
    def error(module: Any) -> tuple[type, Any]:
        with pytest.raises((OSError, TypeError, ValueError, OverflowError)) as raised:
            resolve(module)
        return type(raised.value), raised.value.args

    assert run(loop, error, socket) == error(stdlib)


@pytest.mark.parametrize("host", ["localhost", b"localhost", bytearray(b"localhost")])
@pytest.mark.parametrize("method", ["connect", "connect_ex", "bind"])
def test_a_socket_is_given_numbers(
    loop: Any, host: Any, method: str, elsewhere: list[bool]
) -> None:
    with stdlib.socket(type=stdlib.SOCK_DGRAM) as peer, socket.socket(type=peer.type) as sock:
        peer.bind(("127.0.0.1", 0))
        port = 0 if method == "bind" else peer.getsockname()[1]
        run(loop, getattr(sock, method), (host, port))
        assert sock.getsockname()[0] == "127.0.0.1"
        assert method == "bind" or sock.getpeername() == peer.getsockname()
    assert elsewhere == [True]


def test_the_loop_runs_meanwhile(loop: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The resolver answers only after another task of the loop has run."""
    asked = threading.Event()
    monkeypatch.setattr(_dns, "_gethostbyname", lambda name: asked.wait(60) and "127.0.0.1")

    async def main() -> Any:
        async with loop.tasks() as start:
            task = start(async_def, socket.gethostbyname, "localhost")
            await loop.sleep(0.01)
            asked.set()
        return task.outcome.value

    assert loop.run(main) == "127.0.0.1"


def test_a_look_up_that_is_cancelled(loop: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    done = threading.Event()
    monkeypatch.setattr(_dns, "_gethostbyname", lambda name: done.wait(60))

    async def main() -> Any:
        async with loop.tasks() as start:
            task = start(async_def, socket.gethostbyname, "localhost")
            await loop.sleep(0.01)
            task.cancel()
            await task.wait()
            done.set()
        return task.outcome.cancelled

    assert loop.run(main)


def test_in_place(python: Any) -> None:
    """asyncio resolves with the patched functions, in threads of its own."""
    done = python(
        """
        import asyncio, socket, threading
        from verdigris import async_def
        from verdigris.green import _dns, _twin, socket as green

        _twin.patch(socket, green.REPLACED, green.METHODS)
        here, threads = threading.get_ident(), []
        original = _dns._getaddrinfo

        def watched(*args):
            threads.append(threading.get_ident())
            return original(*args)

        _dns._getaddrinfo = watched

        async def main():
            await asyncio.get_running_loop().getaddrinfo("localhost", 80)
            await async_def(socket.getaddrinfo, "localhost", 80)
            print([thread != here for thread in threads])
            socket.getaddrinfo("localhost", 80)
            print(threads[2:] == [here])

        asyncio.run(main())
        """
    )
    assert done.stdout == "[True, True]\nTrue\n"
