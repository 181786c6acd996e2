"""Green sockets: the same errors, modes and timeouts as the stdlib's, and the loop stays free.

The two ends of a connection are mostly two green functions on one loop: if one of them blocked the
thread, the other could never answer. The whole file runs a second time with the stdlib's `socket`
made green in place.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import io
import os
import socket as stdlib
import struct
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from green.together import run, run_one
from verdigris import async_def
from verdigris.green import _twin, _wait
from verdigris.green import socket as _twin_socket

IN_PLACE = "VERDIGRIS_IN_PLACE" in os.environ
socket: Any = _twin_socket
if IN_PLACE:
    _twin.patch(stdlib, _twin_socket.REPLACED, _twin_socket.METHODS)
    socket = stdlib

LOOPBACK = ("127.0.0.1", 0)
LARGE = b"0123456789abcdef" * 2**16  # a MiB, more than a socket takes at once


@pytest.mark.skipif(IN_PLACE, reason="this is what it runs")
def test_all_of_this_with_the_stdlib_patched_in_place(python: Any) -> None:
    done = python(
        "-m", "pytest", "-q", "-p", "no:cacheprovider", __file__,
        env={"VERDIGRIS_IN_PLACE": "1"},
    )  # fmt: skip
    assert " passed" in done.stdout


KIND = (stdlib.AF_UNIX, stdlib.SOCK_STREAM)


@contextlib.contextmanager
def pair(*args: Any) -> Iterator[tuple[Any, Any]]:
    a, b = socket.socketpair(*args)
    with a, b:
        yield a, b


def read_all(sock: Any) -> bytes:
    return b"".join(iter(lambda: sock.recv(2**16), b""))


# --- connections -------------------------------------------------------------


@pytest.mark.parametrize("family", ["AF_INET", "AF_INET6", "AF_UNIX"])
def test_an_echo(loop: Any, family: str, tmp_path: Path) -> None:
    kind = getattr(stdlib, family)
    with socket.socket(kind) as listener:
        address = {"AF_INET": LOOPBACK, "AF_INET6": ("::1", 0), "AF_UNIX": str(tmp_path / "s")}
        try:
            listener.bind(address[family])
        except OSError:
            pytest.skip(f"there is no {family} here")
        listener.listen()

        def serve() -> None:
            connection, _ = listener.accept()
            with connection, connection.makefile("rb") as lines:
                for line in lines:
                    connection.sendall(line.upper())

        def ask() -> bytes:
            with socket.socket(kind) as client:
                client.connect(listener.getsockname())
                with client.makefile("rwb") as file:
                    file.write(b"one\ntwo\n")
                    file.flush()
                    return bytes(file.readline() + file.readline())

        assert run(loop, serve, ask)[1] == b"ONE\nTWO\n"


def test_create_server_and_create_connection(loop: Any) -> None:
    with socket.create_server(LOOPBACK) as listener:

        def serve() -> type:
            connection, peer = listener.accept()
            with connection:
                connection.sendall(repr(peer).encode())
            return type(connection)

        def ask() -> bool:
            with socket.create_connection(listener.getsockname(), timeout=10) as client:
                assert type(client) is socket.socket and client.gettimeout() == 10
                return read_all(client) == repr(client.getsockname()).encode()

        assert run(loop, serve, ask) == [socket.socket, True]


def test_a_refused_connection(loop: Any) -> None:
    with socket.socket() as bound:
        bound.bind(LOOPBACK)  # and doesn't listen

        def connect() -> int:
            with pytest.raises(ConnectionRefusedError) as refused:
                socket.create_connection(bound.getsockname())
            assert refused.value.args == (errno.ECONNREFUSED, "Connection refused")
            with socket.socket() as client:
                return int(client.connect_ex(bound.getsockname()))

        assert run_one(loop, connect) == errno.ECONNREFUSED


@pytest.fixture
def full() -> Iterator[Any]:
    """A listener on TCP whose queue is full: the kernel lets connections to it wait."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(LOOPBACK, backlog=0))
        for _ in range(4):
            client = stack.enter_context(socket.socket())
            client.setblocking(False)
            client.connect_ex(listener.getsockname())
        yield listener


def test_a_connection_that_times_out(loop: Any, full: Any) -> None:
    def connect() -> int:
        with pytest.raises(TimeoutError) as late:
            socket.create_connection(full.getsockname(), timeout=0.05)
        assert late.value.args == ("timed out",)
        with socket.socket() as client:
            client.settimeout(0.05)
            return int(client.connect_ex(full.getsockname()))

    assert run_one(loop, connect) == errno.EWOULDBLOCK


def test_connect_in_non_blocking_mode(loop: Any, full: Any) -> None:
    def connect() -> int:
        with socket.socket() as client:
            client.setblocking(False)
            with pytest.raises(BlockingIOError) as going_on:
                client.connect(full.getsockname())
            assert going_on.value.errno == errno.EINPROGRESS
            return int(client.connect_ex(full.getsockname()))

    assert run_one(loop, connect) == errno.EALREADY


def test_a_path_whose_queue_is_full(loop: Any, tmp_path: Path) -> None:
    path, order = str(tmp_path / "s"), []
    with socket.socket(stdlib.AF_UNIX) as listener, contextlib.ExitStack() as stack:
        listener.bind(path)
        listener.listen(0)

        def connect() -> None:
            with socket.socket(stdlib.AF_UNIX) as impatient:
                impatient.settimeout(1)
                with pytest.raises(BlockingIOError):  # as the stdlib, without a wait
                    impatient.connect(path)
            order.append("full")
            client = stack.enter_context(socket.socket(stdlib.AF_UNIX))
            client.connect(path)
            order.append("connected")

        def accept() -> None:
            order.append("accept")
            for _ in range(2):
                stack.enter_context(listener.accept()[0])

        stack.enter_context(socket.socket(stdlib.AF_UNIX)).connect(path)
        run(loop, connect, accept)
    assert order == ["full", "accept", "connected"]


# --- what waits --------------------------------------------------------------


def receive_into(method: str) -> Callable[[Any], bytes]:
    def receive(sock: Any) -> bytes:
        buffer = bytearray(8)
        arguments = ([buffer],) if method == "recvmsg_into" else (buffer,)
        result = getattr(sock, method)(*arguments)
        return bytes(buffer[: result if isinstance(result, int) else result[0]])

    return receive


def read_file(sock: Any) -> Any:
    with sock.makefile("rb", buffering=0) as file:
        return file.read(8)


RECEIVERS: dict[str, Callable[[Any], bytes]] = {
    "recv": lambda sock: sock.recv(8),
    "recv_into": receive_into("recv_into"),
    "recvfrom": lambda sock: sock.recvfrom(8)[0],
    "recvfrom_into": receive_into("recvfrom_into"),
    "recvmsg": lambda sock: sock.recvmsg(8)[0],
    "recvmsg_into": receive_into("recvmsg_into"),
    "recv_fds": lambda sock: socket.recv_fds(sock, 8, 1)[0],
    "makefile": lambda sock: read_file(sock),
}
receivers = pytest.mark.parametrize("receive", RECEIVERS.values(), ids=RECEIVERS)


@receivers
@pytest.mark.parametrize("kind", ["SOCK_STREAM", "SOCK_DGRAM"])
@pytest.mark.parametrize("timeout", [None, 30])
def test_receiving_waits(loop: Any, receive: Any, kind: str, timeout: float | None) -> None:
    order = []
    with pair(stdlib.AF_UNIX, getattr(stdlib, kind)) as (a, b):
        a.settimeout(timeout)

        def wait() -> bytes:
            order.append("wait")
            data = receive(a)
            order.append("received")
            return bytes(data)

        def send() -> None:
            order.append("send")
            b.send(b"data")

        assert run(loop, wait, send)[0] == b"data"
        assert os.get_blocking(a.fileno()) is (timeout is None)
    assert order == ["wait", "send", "received"]


@receivers
def test_receiving_times_out(loop: Any, receive: Any) -> None:
    with pair() as (a, _):
        a.settimeout(0.02)

        def late() -> tuple[Any, ...]:
            with pytest.raises(TimeoutError) as error:
                receive(a)
            return error.value.args

        assert run_one(loop, late) == ("timed out",)
        assert a.gettimeout() == 0.02


@receivers
def test_receiving_in_non_blocking_mode(loop: Any, receive: Any) -> None:
    with pair() as (a, b):
        a.setblocking(False)

        def attempt() -> Any:
            try:
                return receive(a)  # a file gives None
            except BlockingIOError as error:
                assert error.errno == errno.EAGAIN
            return None

        assert run_one(loop, attempt) is None
        assert not os.get_blocking(a.fileno())
        b.send(b"there")
        assert run_one(loop, receive, a) == b"there"


@receivers
def test_receiving_from_a_closed_socket(loop: Any, receive: Any) -> None:
    with pair() as (a, _):
        a.close()
        with pytest.raises(OSError, match=r"\[Errno 9\] Bad file descriptor"):
            run_one(loop, receive, a)


@pytest.mark.parametrize("name", sorted(RECEIVERS.keys() - {"makefile"}))
def test_closing_wakes_a_receiver(loop: Any, name: str) -> None:
    receive = RECEIVERS[name]
    with pair() as (a, _):

        def wait() -> int | None:
            with pytest.raises(OSError, match="Bad file descriptor") as closed:
                receive(a)
            return closed.value.errno

        assert run(loop, wait, a.close) == [errno.EBADF, None]


SENDERS: dict[str, Callable[[Any], Any]] = {
    "send": lambda sock: sock.send(LARGE),
    "sendall": lambda sock: sock.sendall(LARGE),
    "sendmsg": lambda sock: sock.sendmsg(iter([LARGE]), iter([])),
}
senders = pytest.mark.parametrize("send", SENDERS.values(), ids=SENDERS)


def fill(sock: Any, data: bytes = LARGE) -> int:
    """Sends until the socket takes no more."""
    before, sent = sock.gettimeout(), 0
    sock.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        while True:
            sent += sock.send(data)
    sock.settimeout(before)
    return sent


@senders
def test_sending_waits(loop: Any, send: Any) -> None:
    with pair() as (a, b):
        filled = fill(a)

        def wait() -> int:
            with a:
                sent = send(a)
            return filled + (len(LARGE) if sent is None else int(sent))

        sent, received = run(loop, wait, lambda: len(read_all(b)))
        assert sent == received > filled


@senders
def test_sending_times_out(loop: Any, send: Any) -> None:
    with pair() as (a, _):
        a.settimeout(0.02)
        fill(a)
        with pytest.raises(TimeoutError, match=r"^timed out$"):
            run_one(loop, send, a)


@pytest.mark.parametrize("name", [*SENDERS, "sendfile"])
def test_closing_wakes_a_sender(loop: Any, name: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(LARGE)
    with pair() as (a, _), open(tmp_path / "file", "rb") as file:
        fill(a)

        def wait() -> None:
            with pytest.raises(OSError, match="Bad file descriptor"):
                a.sendfile(file) if name == "sendfile" else SENDERS[name](a)

        run(loop, wait, a.close)


def test_datagrams(loop: Any) -> None:
    with socket.socket(type=stdlib.SOCK_DGRAM) as a, socket.socket(type=stdlib.SOCK_DGRAM) as b:
        a.bind(LOOPBACK)
        b.bind(LOOPBACK)

        def echo() -> None:
            for _ in range(3):
                data, peer = a.recvfrom(100)
                a.sendto(data.upper(), 0, peer)

        def ask() -> list[Any]:
            b.sendto(b"sendto", a.getsockname())
            b.sendto(b"by name", ("localhost", a.getsockname()[1]))
            b.sendmsg([b"send", b"msg"], [], 0, ("localhost", a.getsockname()[1]))
            return [b.recvfrom(100) for _ in range(3)]

        said = [b"SENDTO", b"BY NAME", b"SENDMSG"]
        assert run(loop, echo, ask)[1] == [(data, a.getsockname()) for data in said]


def test_a_datagram_that_must_wait(loop: Any) -> None:
    with pair(stdlib.AF_UNIX, stdlib.SOCK_DGRAM) as (a, b):
        fill(a, b"x")

        def drain() -> bytes:
            return bytes(next(data for data in iter(lambda: b.recv(10), b"") if data != b"x"))

        assert run(loop, lambda: a.sendmsg([b"last"]), drain) == [4, b"last"]


def test_descriptors_travel(loop: Any, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"content")
    with pair() as (a, b), open(tmp_path / "file", "rb") as file:

        def receive() -> bytes:
            _, (copy,), *_ = socket.recv_fds(a, 10, 1)
            with open(copy, "rb") as received:
                return received.read()

        def send() -> None:
            socket.send_fds(b, [b"x"], [file.fileno()])

        assert run(loop, receive, send)[0] == b"content"


@pytest.mark.parametrize("method", ["recv", "recvfrom", "recvmsg"])
def test_a_call_that_shall_not_wait(loop: Any, method: str) -> None:
    flags = (0, stdlib.MSG_DONTWAIT) if method == "recvmsg" else (stdlib.MSG_DONTWAIT,)
    with pair() as (a, _), pytest.raises(BlockingIOError):
        run_one(loop, getattr(a, method), 1, *flags)


@pytest.mark.parametrize("method", ["recv", "recvfrom", "recvmsg"])
def test_a_call_that_waits_for_all(loop: Any, method: str) -> None:
    flags = (0, stdlib.MSG_WAITALL) if method == "recvmsg" else (stdlib.MSG_WAITALL,)
    with pair() as (a, b):

        def receive() -> bytes:
            received = getattr(a, method)(4, *flags)
            return bytes(received if method == "recv" else received[0])

        def send() -> None:
            b.send(b"ab")
            _wait.sleep(0.01)  # the receiver wakes, and has half of it
            b.send(b"cd")

        assert run(loop, receive, send)[0] == b"abcd"


# --- files -------------------------------------------------------------------


def test_a_file_of_a_socket_that_timed_out(loop: Any) -> None:
    def read() -> None:
        with pair() as (a, b), a.makefile("rb") as file:
            a.settimeout(0.02)
            with pytest.raises(TimeoutError, match=r"^timed out$"):
                file.read(1)
            b.send(b"x")
            with pytest.raises(OSError, match=r"^cannot read from timed out object$"):
                file.read(1)

    run_one(loop, read)


@pytest.mark.parametrize("mode", ["rb", "rwb"])
def test_functions_share_a_file_as_threads_do(loop: Any, mode: str) -> None:
    with pair() as (a, b):
        file = run_one(loop, a.makefile, mode)
        got = run(
            loop, file.readline, lambda: file.read(3), lambda: file.peek()[:1], file.close,
            lambda: b.sendall(b"one\ntwofour"),
        )  # fmt: skip
        assert got[:3] == [b"one\n", b"two", b"f"] and file.closed


def test_one_writes_to_a_file_that_another_reads(loop: Any) -> None:
    with pair() as (a, b):
        file = run_one(loop, a.makefile, "rwb")

        def write() -> None:
            file.write(b"question")
            file.flush()
            file.write(b"!")
            file.close()  # sends it, and waits for the one who reads

        def answer() -> bytes:
            asked = b""
            while not asked.endswith(b"!"):
                asked += b.recv(100)
            b.sendall(b"answer\n")
            return asked

        assert run(loop, file.readline, write, answer) == [b"answer\n", None, b"question!"]
        assert file.closed


def test_two_write_to_one_file(loop: Any) -> None:
    with pair() as (a, b):
        file = run_one(loop, a.makefile, "wb")
        size = fill(a)

        def write() -> None:
            a.settimeout(None)
            file.write(LARGE)
            file.flush()

        def read() -> bytes:
            received = b""
            while len(received) < size + 2 * len(LARGE):
                received += b.recv(2**16)
            return received[size:]

        *_, received = run(loop, write, write, read)
        assert received == 2 * LARGE  # one after the other
        run_one(loop, file.close)


def test_a_file_made_elsewhere_is_the_stdlibs() -> None:
    with pair() as (a, _), a.makefile("rwb") as file:
        assert type(file) is io.BufferedRWPair


def test_a_file_whose_peer_is_gone_says_so_when_it_closes(loop: Any) -> None:
    with pair() as (a, b):
        file = run_one(loop, a.makefile, "rwb")
        b.close()
        file.write(b"x")
        with pytest.raises(BrokenPipeError):
            run_one(loop, file.close)
        assert file.closed


@pytest.mark.parametrize("part", [(), (16,), (16, 500_000)], ids=str)
def test_sendfile(loop: Any, tmp_path: Path, part: tuple[int, ...]) -> None:
    (tmp_path / "file").write_bytes(LARGE)
    start, count = (*part, *(0, len(LARGE))[len(part) :])
    expected = LARGE[start : start + count]
    with pair() as (a, b):

        def send() -> tuple[int, int]:
            with a, open(tmp_path / "file", "rb") as file:
                return a.sendfile(file, *part), file.tell()

        told, received = run(loop, send, lambda: read_all(b))
    assert received == expected
    assert told == (len(expected), start + len(expected))


def test_sendfile_of_what_is_no_file(loop: Any) -> None:
    def send() -> int:
        with a:
            return int(a.sendfile(io.BytesIO(LARGE)))

    with pair() as (a, b):
        assert run(loop, send, lambda: read_all(b)) == [len(LARGE), LARGE]


def test_sendfile_refuses_what_the_stdlib_refuses(loop: Any, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(LARGE)
    with pair() as (a, _), open(tmp_path / "file", "rb") as file, open(tmp_path / "file") as text:
        with pytest.raises(ValueError, match="binary mode"):
            run_one(loop, a.sendfile, text)
        with pytest.raises(ValueError, match="positive integer"):
            run_one(loop, a.sendfile, file, 0, -1)
        a.settimeout(0.02)
        with pytest.raises(TimeoutError, match=r"^timed out$"):
            run_one(loop, a.sendfile, file)
        assert file.tell() > 0
        a.setblocking(False)
        with pytest.raises(ValueError, match="non-blocking sockets are not supported"):
            run_one(loop, a.sendfile, file)


# --- descriptors -------------------------------------------------------------


def test_dup_and_fromfd(loop: Any) -> None:
    def copies() -> list[Any]:
        with pair() as (a, b), a.dup() as copy, socket.fromfd(a.fileno(), *KIND) as other:
            assert {type(copy), type(other)} == {socket.socket}
            for sock in (a, copy, other):
                sock.send(b"x")
            return [b.recv(1) for _ in range(3)]

    assert run_one(loop, copies) == [b"x"] * 3


@pytest.mark.parametrize("timeout", [None, 5])
def test_what_is_accepted_blocks(loop: Any, timeout: float | None) -> None:
    with socket.create_server(LOOPBACK) as listener:
        listener.settimeout(timeout)

        def accept() -> Any:
            with listener.accept()[0] as connection:
                return connection.gettimeout(), os.get_blocking(connection.fileno())

        def connect() -> None:
            socket.create_connection(listener.getsockname()).close()

        assert run(loop, accept, connect)[0] == (None, True)


def test_accept_times_out(loop: Any) -> None:
    with socket.create_server(LOOPBACK) as listener:
        listener.settimeout(0.02)
        with pytest.raises(TimeoutError, match=r"^timed out$"):
            run_one(loop, listener.accept)


def test_closing_wakes_accept(loop: Any) -> None:
    with socket.create_server(LOOPBACK) as listener:

        def accept() -> int | None:
            with pytest.raises(OSError, match="Bad file descriptor") as closed:
                listener.accept()
            return closed.value.errno

        assert run(loop, accept, listener.close)[0] == errno.EBADF


def test_a_descriptor_closed_behind_the_socket(loop: Any) -> None:
    def receive() -> None:
        assert _wait.is_green()  # there is a reactor, which would take the number
        with pair() as (a, b):
            for sock, close in ((a, socket.close), (b, os.close)):
                close(sock.fileno())
                with pytest.raises(OSError, match=r"\[Errno 9\] Bad file descriptor"):
                    sock.recv(1)
                sock.detach()

    run_one(loop, receive)


def test_a_foreign_descriptor(loop: Any, tmp_path: Path) -> None:
    def wrap() -> None:
        with open(tmp_path / "file", "wb") as file:
            with pytest.raises(OSError, match="Socket operation on non-socket"):
                socket.socket(fileno=file.fileno())
            with pytest.raises(OSError, match="Socket operation on non-socket"):
                socket.fromfd(file.fileno(), *KIND).recv(1)

    run_one(loop, wrap)


def test_closing_the_number_wakes_a_receiver(loop: Any) -> None:
    with pair() as (a, _):

        def wait() -> None:
            with pytest.raises(OSError, match="Bad file descriptor"):
                a.recv(1)
            a.detach()

        run(loop, wait, lambda: socket.close(a.fileno()))


def test_closing_wakes_a_connection(loop: Any, full: Any) -> None:
    with socket.socket() as client, socket.socket() as other:

        def connect() -> None:
            with pytest.raises(OSError, match="Bad file descriptor"):
                client.connect(full.getsockname())

        codes = run(
            loop, connect, lambda: other.connect_ex(full.getsockname()), client.close, other.close
        )
        assert codes[1] == errno.EBADF


def test_detaching_wakes_a_receiver(loop: Any) -> None:
    with pair() as (a, _):
        fileno = a.fileno()

        def wait() -> None:
            with pytest.raises(OSError, match=r"\[Errno 9\]"):
                a.recv(1)

        assert run(loop, wait, a.detach)[1] == fileno
        os.close(fileno)


def test_two_wait_for_one_listener(loop: Any) -> None:
    with socket.create_server(LOOPBACK) as listener:

        def serve(name: bytes) -> None:
            connection, _ = listener.accept()
            with connection:
                connection.sendall(name)

        def ask() -> bytes:
            with socket.create_connection(listener.getsockname()) as client:
                return read_all(client)

        said = run(loop, lambda: serve(b"a"), lambda: serve(b"b"), ask, ask)[2:]
    assert sorted(said) == [b"a", b"b"]


def test_two_read_one_socket(loop: Any) -> None:
    with pair() as (a, b):

        def send() -> None:
            b.send(b"x")
            b.send(b"y")

        said = run(loop, lambda: a.recv(1), lambda: a.recv(1), send)[:2]
    assert sorted(said) == [b"x", b"y"]


def test_one_reads_while_another_writes(loop: Any) -> None:
    with pair() as (a, b):

        def answer() -> None:
            read = 0
            while read < len(LARGE):
                read += len(b.recv(2**16))
            b.sendall(b"all")

        assert run(loop, lambda: a.recv(3), lambda: a.sendall(LARGE), answer)[0] == b"all"


def test_a_socket_from_everywhere(loop: Any) -> None:
    """From a green function, then an OS thread, then directly, then a plain coroutine."""
    with pair() as (a, b):
        box: list[bytes] = []
        run(loop, lambda: box.append(a.recv(1)), lambda: b.send(b"1"))
        thread = threading.Thread(target=lambda: box.append(a.recv(1)))
        thread.start()
        b.send(b"2")
        thread.join()
        b.send(b"3")
        box.append(a.recv(1))

        async def plain() -> None:
            b.send(b"4")
            box.append(a.recv(1))
            a.settimeout(0.01)
            with pytest.raises(TimeoutError, match="timed out"):
                a.recv(1)

        loop.run(plain)
        a.settimeout(None)
        run(loop, lambda: box.append(a.recv(1)), lambda: b.send(b"5"))
    assert b"".join(box) == b"12345"


def test_fork(python: Any) -> None:
    done = python(
        """
        import asyncio, os, sys
        from verdigris import async_def
        from verdigris.green import socket

        def main():
            a, b = socket.socketpair()
            a.settimeout(30)
            b.send(b"before")
            assert a.recv(10) == b"before"
            child = os.fork()
            if not child:
                b.sendall(b"of the child")
                os._exit(0)
            print(a.recv(20).decode())
            os.waitpid(child, 0)
            b.sendall(b"of the parent")
            print(a.recv(20).decode())

        asyncio.run(async_def(main))
        """,
        options=("-W", "ignore::ResourceWarning", "-W", "ignore::DeprecationWarning"),
    )
    assert done.stdout == "of the child\nof the parent\n"


# --- cancellation ------------------------------------------------------------


def cancelled(loop: Any, function: Callable[[], Any]) -> None:
    """Starts a function green, and cancels it where it waits."""

    async def main() -> Any:
        async with loop.tasks() as start:
            task = start(async_def, function)
            await loop.sleep(0.02)
            task.cancel()
        return task.outcome

    assert loop.run(main).cancelled


def test_a_socket_is_usable_after_a_cancelled_wait(loop: Any) -> None:
    with pair() as (a, b), socket.create_server(LOOPBACK) as listener:
        cancelled(loop, lambda: a.recv(1))
        b.send(b"x")
        assert run_one(loop, a.recv, 1) == b"x"
        cancelled(loop, listener.accept)
        with socket.create_connection(listener.getsockname()):
            run_one(loop, listener.accept)[0].close()


def test_a_cancelled_connection_is_closed(loop: Any, full: Any) -> None:
    cancelled(loop, lambda: socket.create_connection(full.getsockname()))  # nothing is left open
    with socket.socket() as client:
        cancelled(loop, lambda: client.connect(full.getsockname()))
        assert client.fileno() == -1


# --- beside asyncio ----------------------------------------------------------


def test_asyncio_uses_such_sockets(aio: Any) -> None:
    """Its streams, and its own calls on our sockets, with a green function at the other end."""

    def ask(address: Any) -> bytes:
        with socket.create_connection(address) as client:
            client.sendall(b"hello\n")
            return read_all(client)

    async def main() -> None:
        async def serve(reader: Any, writer: Any) -> None:
            writer.write((await reader.readline()).upper())
            writer.close()

        async with await asyncio.start_server(serve, *LOOPBACK) as server:
            address = server.sockets[0].getsockname()
            assert await async_def(ask, address) == b"HELLO\n"
        loop = asyncio.get_running_loop()
        a, b = socket.socketpair()
        with a, b:
            a.setblocking(False)
            waiting = asyncio.create_task(loop.sock_recv(a, 4))
            await asyncio.sleep(0)
            await async_def(b.sendall, b"ping")
            assert await waiting == b"ping"

    aio.run(main)


def test_the_twin_has_what_the_stdlib_has() -> None:
    public = {name for name in vars(stdlib) if not name.startswith("__")}
    assert public <= set(vars(socket))
    assert issubclass(socket.socket, stdlib.socket)
    assert socket.timeout is TimeoutError


def test_reset_by_the_peer(loop: Any) -> None:
    with socket.create_server(LOOPBACK) as listener:

        def reset() -> None:
            connection, _ = listener.accept()
            connection.recv(1)
            connection.setsockopt(stdlib.SOL_SOCKET, stdlib.SO_LINGER, struct.pack("ii", 1, 0))
            connection.close()

        def ask() -> None:
            with socket.create_connection(listener.getsockname()) as client:
                client.send(b"x")
                with pytest.raises(ConnectionResetError):
                    client.recv(1)

        run(loop, reset, ask)
