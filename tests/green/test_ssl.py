"""Green TLS: `ssl.SSLSocket` made green in place, with the stdlib's checks and errors.

Mostly both ends are green functions on one loop. Beside the twin `socket`, all of it also runs with
the stdlib's `socket` made green in place.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import socket as stdlib
import ssl as stdlib_ssl
import struct
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

# Contexts of before; the import of the twin makes `SSLSocket` green.
BEFORE, BEFORE_TOO = (stdlib_ssl.create_default_context() for _ in range(2))

from certificates import HOST, Certificates, certificates  # noqa: E402

from green.together import run, run_one  # noqa: E402
from verdigris import async_def  # noqa: E402
from verdigris.green import _twin, _wait  # noqa: E402
from verdigris.green import socket as _twin_socket  # noqa: E402
from verdigris.green import ssl as _twin_ssl  # noqa: E402

__all__ = ["certificates"]

IN_PLACE = "VERDIGRIS_IN_PLACE" in os.environ
socket: Any = _twin_socket
ssl: Any = _twin_ssl
if IN_PLACE:
    _twin.patch(stdlib, _twin_socket.REPLACED, _twin_socket.METHODS)
    _twin.patch(stdlib_ssl, _twin_ssl.REPLACED, _twin_ssl.METHODS)
    socket, ssl = stdlib, stdlib_ssl

LARGE = b"0123456789abcdef" * 2**16
VERSIONS = ["TLSv1_2", "TLSv1_3"]


@pytest.mark.skipif(IN_PLACE, reason="this is what it runs")
def test_all_of_this_with_the_stdlib_patched_in_place(python: Any) -> None:
    done = python(
        "-m", "pytest", "-q", "-p", "no:cacheprovider", __file__,
        env={"VERDIGRIS_IN_PLACE": "1"},
    )  # fmt: skip
    assert " passed" in done.stdout


def version(context: Any, name: str) -> Any:
    context.minimum_version = context.maximum_version = stdlib_ssl.TLSVersion[name]
    return context


@contextlib.contextmanager
def connected(certificates: Certificates, protocol: str = "TLSv1_3") -> Iterator[tuple[Any, Any]]:
    """Two sockets with TLS between them. (An OS thread makes one of them, as the stdlib does.)"""
    a, b = socket.socketpair()
    client = version(certificates.client_context(), protocol)
    box: list[Any] = []
    server = certificates.server_context()
    thread = threading.Thread(target=lambda: box.append(server.wrap_socket(b, server_side=True)))
    thread.start()
    with client.wrap_socket(a, server_hostname=HOST) as tls:
        thread.join()
        with box[0]:
            yield tls, box[0]


def read_all(sock: Any) -> bytes:
    return b"".join(iter(lambda: sock.recv(2**16), b""))


# --- certificates ------------------------------------------------------------


def hello(loop: Any, server: Any, ask: Callable[[Any], Any]) -> list[Any]:
    """A server that says "hello", and what a client gets of it that is given the address."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> Any:
            connection, _ = listener.accept()
            try:
                with server.wrap_socket(connection, server_side=True) as tls:
                    tls.sendall(b"hello")
                    shown = tls.getpeercert()
                    tls.recv(1)
                    return shown
            except (ssl.SSLError, ConnectionError) as error:
                return error

        return run(loop, serve, lambda: ask(listener.getsockname()))


def greeting(context: Any, host: str = HOST) -> Callable[[Any], bytes]:
    def ask(address: Any) -> bytes:
        with (
            socket.create_connection(address) as sock,
            context.wrap_socket(sock, server_hostname=host) as tls,
        ):
            return bytes(tls.recv(100))

    return ask


@pytest.mark.parametrize("protocol", VERSIONS)
@pytest.mark.parametrize("host", [HOST, "127.0.0.1"])
def test_a_good_certificate(
    loop: Any, certificates: Certificates, host: str, protocol: str
) -> None:
    context = version(certificates.client_context(), protocol)
    assert hello(loop, certificates.server_context(), greeting(context, host))[1] == b"hello"


REASONS = {
    "expired": "certificate has expired",
    "self_signed": "self.signed certificate",
    "wrong_host": "Hostname mismatch, certificate is not valid for 'localhost'",
}


@pytest.mark.parametrize("protocol", VERSIONS)
@pytest.mark.parametrize("bad", REASONS)
def test_a_bad_certificate_is_refused(
    loop: Any, certificates: Certificates, bad: str, protocol: str
) -> None:
    server = certificates.server_context(certificates.bad[bad])
    context = version(certificates.client_context(), protocol)
    with pytest.raises(ssl.SSLCertVerificationError, match=REASONS[bad]) as refused:
        hello(loop, server, greeting(context))
    assert refused.value.verify_code

    def by_connect(address: Any) -> None:
        with context.wrap_socket(socket.socket(), server_hostname=HOST) as tls:
            tls.connect(address)

    with pytest.raises(ssl.SSLCertVerificationError, match=REASONS[bad]):
        hello(loop, server, by_connect)


def test_an_authority_that_is_unknown(loop: Any, certificates: Certificates) -> None:
    with pytest.raises(ssl.SSLCertVerificationError, match="unable to get local issuer"):
        hello(loop, certificates.server_context(), greeting(BEFORE))


def test_a_context_made_before(loop: Any, certificates: Certificates) -> None:
    BEFORE_TOO.load_verify_locations(certificates.authority)
    assert hello(loop, certificates.server_context(), greeting(BEFORE_TOO))[1] == b"hello"


@pytest.mark.parametrize("protocol", VERSIONS)
def test_a_clients_certificate(loop: Any, certificates: Certificates, protocol: str) -> None:
    server = version(certificates.server_context(), protocol)
    server.load_verify_locations(certificates.authority)
    server.verify_mode = stdlib_ssl.CERT_REQUIRED
    context = certificates.client_context(certificates.client)
    shown, said = hello(loop, server, greeting(context))
    assert said == b"hello"
    assert ("email", "someone@client.example") in shown["subjectAltName"]

    def nothing_shown(address: Any) -> None:
        with pytest.raises((ssl.SSLError, ConnectionResetError)):
            greeting(certificates.client_context())(address)

    (error, _) = hello(loop, server, nothing_shown)
    assert "PEER_DID_NOT_RETURN_A_CERTIFICATE" in str(error)


def test_get_server_certificate(loop: Any, certificates: Certificates) -> None:
    def ask(address: Any) -> str:
        return str(ssl.get_server_certificate(address, ca_certs=certificates.authority, timeout=60))

    _, pem = hello(loop, certificates.server_context(), lambda a: ask((HOST, a[1])))
    assert pem.strip() in certificates.good.read_text()


# --- contexts ----------------------------------------------------------------


def load_chain(certificates: Certificates, fifo: Path) -> Callable[[], Any]:
    (fifo.parent / "certificate").write_bytes(certificates.good.read_bytes())
    return lambda: BEFORE_TOO.load_cert_chain(fifo.parent / "certificate", fifo)


LOADERS: dict[str, Callable[[Certificates, Path], Callable[[], Any]]] = {
    "load_verify_locations": lambda _, fifo: lambda: BEFORE_TOO.load_verify_locations(fifo),
    "set_default_verify_paths": lambda *_: BEFORE_TOO.set_default_verify_paths,
    "load_default_certs": lambda *_: BEFORE_TOO.load_default_certs,
    "create_default_context": lambda *_: stdlib_ssl.create_default_context,
    "load_cert_chain": load_chain,
}


@pytest.mark.parametrize("loader", LOADERS.values(), ids=LOADERS)
def test_files_are_read_beside_the_loop(
    loop: Any, certificates: Certificates, tmp_path: Path, monkeypatch: Any, loader: Any
) -> None:
    """A FIFO that a task of the loop writes to. If nobody does, an OS thread does it."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    monkeypatch.setenv("SSL_CERT_FILE", str(fifo))
    load = loader(certificates, fifo)
    source = certificates.good if loader is load_chain else certificates.authority
    rescuer = threading.Timer(20, fifo.write_bytes, (source.read_bytes(),))
    rescuer.start()

    async def feed() -> bool:
        while rescuer.is_alive():
            with contextlib.suppress(OSError):  # nobody reads yet
                number = os.open(fifo, os.O_WRONLY | os.O_NONBLOCK)
                rescuer.cancel()
                os.write(number, source.read_bytes())
                os.close(number)
                return True
            await loop.sleep(0.005)
        return False

    async def main() -> Any:
        async with loop.tasks() as start:
            loading, feeding = start(async_def, load), start(feed)
        return loading.outcome, feeding.outcome.value

    loaded, fed = loop.run(main)
    rescuer.cancel()
    rescuer.join()
    assert loaded.error is None and fed, "the loop was blocked"


def test_errors_of_files_are_the_stdlibs(loop: Any, certificates: Certificates) -> None:
    def errors() -> list[Any]:
        said: list[Any] = []
        for call in (
            lambda: BEFORE_TOO.load_verify_locations("/no/such/file"),
            lambda: BEFORE_TOO.load_cert_chain(certificates.authority),
            lambda: BEFORE_TOO.load_verify_locations(),
            lambda: BEFORE_TOO.load_verify_locations(cadata="no certificate"),
            lambda: BEFORE_TOO.load_cert_chain(certificates.good, wrong=1),  # type: ignore[call-arg]
            lambda: BEFORE_TOO.load_default_certs(0),  # type: ignore[arg-type]
        ):
            with pytest.raises((OSError, TypeError)) as raised:
                call()  # type: ignore[no-untyped-call]
            said.append((type(raised.value), raised.value.args))
        return said

    assert run_one(loop, errors) == errors()


@pytest.fixture
def locked_key(certificates: Certificates, tmp_path: Path) -> Path:
    """The good certificate's key, under the password "secret"."""
    from cryptography.hazmat.primitives import serialization

    key = serialization.load_pem_private_key(certificates.good.read_bytes(), None)
    locked = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.TraditionalOpenSSL,
        serialization.BestAvailableEncryption(b"secret"),
    )
    (tmp_path / "locked.pem").write_bytes(locked)
    return tmp_path / "locked.pem"


@pytest.mark.parametrize("by_name", [False, True])
def test_a_password_is_asked_for_in_the_function(
    loop: Any, certificates: Certificates, locked_key: Path, by_name: bool
) -> None:
    asked: list[Any] = []

    def password() -> str:
        asked.append((threading.get_native_id(), _wait.current()))
        return "secret"

    def load() -> Any:
        context = stdlib_ssl.SSLContext(stdlib_ssl.PROTOCOL_TLS_SERVER)
        if by_name:
            context.load_cert_chain(certificates.good, keyfile=locked_key, password=password)
        else:
            context.load_cert_chain(certificates.good, locked_key, password)
        context.load_cert_chain(certificates.good, locked_key, "secret")
        with pytest.raises(ssl.SSLError):
            context.load_cert_chain(certificates.good, locked_key, b"wrong")
        return _wait.current()

    me = run_one(loop, load)
    assert me is not None and asked == [(threading.get_native_id(), me)]


# --- sockets -----------------------------------------------------------------


def test_an_echo_by_accept_and_connect(loop: Any, certificates: Certificates) -> None:
    """On an unconnected socket and on a listener, with a file at one end."""
    server = certificates.server_context()
    with (
        socket.create_server(("127.0.0.1", 0)) as plain,
        server.wrap_socket(plain, server_side=True) as listener,
    ):

        def serve() -> None:
            connection, _ = listener.accept()
            with connection, connection.makefile("rb") as lines:
                for line in lines:
                    connection.sendall(line.upper())

        def ask() -> bytes:
            context = certificates.client_context()
            with context.wrap_socket(socket.socket(), server_hostname=HOST) as tls:
                tls.connect((HOST, listener.getsockname()[1]))
                assert isinstance(tls, socket.socket) and tls.version() == "TLSv1.3"
                tls.sendall(b"one\n")
                buffer = bytearray(10)
                return bytes(buffer[: tls.recv_into(buffer)])

        assert run(loop, serve, ask)[1] == b"ONE\n"


@pytest.mark.parametrize("protocol", VERSIONS)
def test_large_data_both_ways(loop: Any, certificates: Certificates, protocol: str) -> None:
    with connected(certificates, protocol) as (a, b):

        def receive(sock: Any) -> bytes:
            data = b""
            while len(data) < len(LARGE):
                data += sock.recv(2**16)
            return data

        got = run(
            loop, lambda: receive(a), lambda: receive(b),
            lambda: a.sendall(LARGE), lambda: b.sendall(LARGE),
        )  # fmt: skip
        assert got[:2] == [LARGE, LARGE]


def test_sendfile(loop: Any, certificates: Certificates, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(LARGE)
    with connected(certificates) as (a, b), open(tmp_path / "file", "rb") as file:

        def receive() -> bytes:
            received = b""
            while len(received) < len(LARGE):
                received += b.recv(2**16)
            return received

        assert run(loop, lambda: a.sendfile(file), receive) == [len(LARGE), LARGE]


def test_a_handshake_of_its_own(loop: Any, certificates: Certificates) -> None:
    a, b = socket.socketpair()
    client, server = certificates.client_context(), certificates.server_context()
    with (
        client.wrap_socket(a, server_hostname=HOST, do_handshake_on_connect=False) as one,
        server.wrap_socket(b, server_side=True, do_handshake_on_connect=False) as other,
    ):
        assert one.version() is None
        run(loop, one.do_handshake, other.do_handshake)
        assert one.version() == "TLSv1.3"


def test_a_handshake_that_blocks_nevertheless(loop: Any, certificates: Certificates) -> None:
    a, b = socket.socketpair()
    a.setblocking(False)
    client, server = certificates.client_context(), certificates.server_context()
    with (
        client.wrap_socket(a, server_hostname=HOST, do_handshake_on_connect=False) as one,
        server.wrap_socket(b, server_side=True, do_handshake_on_connect=False) as other,
    ):
        with pytest.raises(ssl.SSLWantReadError):
            run_one(loop, one.do_handshake)
        run(loop, lambda: one.do_handshake(block=True), other.do_handshake)
        assert one.gettimeout() == 0 and not os.get_blocking(one.fileno())


@pytest.mark.parametrize("protocol", VERSIONS)
def test_unwrap(loop: Any, certificates: Certificates, protocol: str) -> None:
    with connected(certificates, protocol) as (a, b):

        def close() -> bytes:
            with a.unwrap() as plain:
                return bytes(plain.recv(10))

        def answer() -> None:
            assert b.recv(10) == b""
            with b.unwrap() as plain:
                plain.send(b"in clear")

        assert run(loop, close, answer)[0] == b"in clear"


def received(tls: Any) -> Any:
    """What is received, or the kind of error."""
    try:
        return tls.recv(1)
    except OSError as error:
        return type(error)


@pytest.mark.parametrize("suppress", [True, False])
def test_a_peer_that_goes_without_a_word(
    loop: Any, certificates: Certificates, suppress: bool
) -> None:
    """As with the stdlib, whose answer is its OpenSSL's: some take it for an end, and 3.6 sends
    an alert then, which may break the pipe."""
    with connected(certificates) as (a, b):
        a.suppress_ragged_eofs = suppress
        b.close()
        of_stdlib = received(a)
    assert of_stdlib in (b"", ssl.SSLEOFError, BrokenPipeError)
    with connected(certificates) as (a, b):
        a.suppress_ragged_eofs = suppress
        assert run(loop, lambda: received(a), b.close)[0] == of_stdlib


def test_a_peer_that_resets(loop: Any, certificates: Certificates) -> None:
    def ask(address: Any) -> None:
        with socket.create_connection(address) as sock:
            sock.setsockopt(stdlib.SOL_SOCKET, stdlib.SO_LINGER, struct.pack("ii", 1, 0))
            _wait.sleep(0.05)  # a reset before there is a TLS socket is another thing

    error, _ = hello(loop, certificates.server_context(), ask)
    assert isinstance(error, ConnectionError | ssl.SSLError)


# --- timeouts and modes ------------------------------------------------------


def fill(tls: Any) -> None:
    tls.setblocking(False)
    with contextlib.suppress(ssl.SSLWantWriteError):
        while True:
            tls.send(b"x" * 1000)


TIMEOUTS: dict[str, tuple[Callable[[Any], Any], str]] = {
    "recv": (lambda tls: tls.recv(1), "read"),
    "recv_into": (lambda tls: tls.recv_into(bytearray(1)), "read"),
    "read": (lambda tls: tls.read(), "read"),
    "unwrap": (lambda tls: tls.unwrap(), "read"),
    "sendall": (lambda tls: tls.sendall(LARGE * 8), "write"),
}


@pytest.mark.parametrize(("call", "operation"), TIMEOUTS.values(), ids=TIMEOUTS)
def test_timeouts(loop: Any, certificates: Certificates, call: Any, operation: str) -> None:
    with connected(certificates) as (a, _):
        a.settimeout(0.02)
        with pytest.raises(TimeoutError) as late:
            run_one(loop, call, a)
        assert type(late.value) is TimeoutError
        assert late.value.args == (f"The {operation} operation timed out",)


def test_the_handshake_times_out(loop: Any, certificates: Certificates) -> None:
    a, b = socket.socketpair()
    a.settimeout(0.02)
    with b, pytest.raises(TimeoutError, match=r"The handshake operation timed out$"):
        run_one(loop, lambda: certificates.client_context().wrap_socket(a, server_hostname=HOST))


def test_non_blocking_mode(loop: Any, certificates: Certificates) -> None:
    def attempts() -> None:
        with pytest.raises(ssl.SSLWantReadError):
            a.recv(1)
        fill(a)
        with pytest.raises(ssl.SSLWantWriteError):
            a.send(b"x" * 1000)
        assert not os.get_blocking(a.fileno())

    with connected(certificates, "TLSv1_2") as (a, _):
        a.setblocking(False)
        run_one(loop, attempts)


def test_non_blocking_handshake_on_connect(loop: Any, certificates: Certificates) -> None:
    a, b = socket.socketpair()
    a.setblocking(False)
    with b, pytest.raises(ValueError, match="should not be specified for non-blocking sockets"):
        run_one(loop, lambda: certificates.client_context().wrap_socket(a, server_hostname=HOST))


# --- closed, shared, cancelled -----------------------------------------------


CLOSED: dict[str, Callable[[Any], Any]] = {
    "recv": lambda tls: tls.recv(1),
    "read": lambda tls: tls.read(),
    "send": lambda tls: tls.send(b"x"),
    "write": lambda tls: tls.write(b"x"),
    "unwrap": lambda tls: tls.unwrap(),
    "do_handshake": lambda tls: tls.do_handshake(),
    "verify": lambda tls: tls.verify_client_post_handshake(),
}
NEVER: dict[str, Callable[[Any], Any]] = {
    "sendto": lambda tls: tls.sendto(b"x", "path"),
    "sendmsg": lambda tls: tls.sendmsg([b"x"]),
    "recvmsg": lambda tls: tls.recvmsg(1),
    "peek": lambda tls: tls.recv(1, stdlib.MSG_PEEK),
    "flags": lambda tls: tls.send(b"x", stdlib.MSG_OOB),
    "dup": lambda tls: tls.dup(),
    "connect": lambda tls: tls.connect("path"),
}


@pytest.mark.parametrize(
    ("call", "closed"),
    [*((call, True) for call in (CLOSED | NEVER).values()), *((c, False) for c in NEVER.values())],
    ids=[*CLOSED, *NEVER, *(f"open-{name}" for name in NEVER)],
)
def test_errors_are_the_stdlibs(
    loop: Any, certificates: Certificates, call: Any, closed: bool
) -> None:
    """In a green function, and outside of it, where the stdlib's own code runs."""

    def error() -> tuple[type, Any]:
        with pytest.raises((OSError, ValueError, NotImplementedError)) as raised:
            call(a)
        return type(raised.value), raised.value.args

    with connected(certificates) as (a, _):
        if closed:
            a.close()
        assert run_one(loop, error) == error()


def test_closing_wakes_a_reader(loop: Any, certificates: Certificates) -> None:
    with connected(certificates) as (a, _):

        def read() -> None:
            with pytest.raises(OSError, match="Bad file descriptor"):
                a.recv(1)

        run(loop, read, a.close)


def test_shutting_down_wakes_a_reader(loop: Any, certificates: Certificates) -> None:
    with connected(certificates) as (a, _):
        # Below TLS, so that it reads as one who waited before, and in vain: see the peer above.
        stdlib.SocketType.shutdown(a, stdlib.SHUT_RDWR)
        of_stdlib = received(a)
    assert of_stdlib in (b"", BrokenPipeError)
    with connected(certificates) as (a, _):
        assert run(loop, lambda: received(a), lambda: a.shutdown(stdlib.SHUT_RDWR))[0] == of_stdlib


def test_from_everywhere(loop: Any, certificates: Certificates) -> None:
    """From a green function, then an OS thread, then directly."""
    with connected(certificates) as (a, b):
        box: list[bytes] = []
        run(loop, lambda: box.append(a.recv(1)), lambda: b.send(b"1"))
        thread = threading.Thread(target=lambda: box.append(a.recv(1)))
        thread.start()
        b.send(b"2")
        thread.join()
        b.send(b"3")
        box.append(a.recv(1))
        a.settimeout(0.02)
        with pytest.raises(TimeoutError, match="The read operation timed out"):
            a.recv(1)
    assert b"".join(box) == b"123"


def cancelled(loop: Any, function: Callable[[], Any]) -> None:
    """Starts a function green, and cancels it where it waits."""

    async def main() -> Any:
        async with loop.tasks() as start:
            task = start(async_def, function)
            await loop.sleep(0.02)
            task.cancel()
        return task.outcome

    assert loop.run(main).cancelled


def test_a_cancelled_read_leaves_it_usable(loop: Any, certificates: Certificates) -> None:
    with connected(certificates) as (a, b):
        cancelled(loop, lambda: a.recv(1))
        b.send(b"x")
        assert run_one(loop, a.recv, 1) == b"x"


def test_a_cancelled_handshake_closes(loop: Any, certificates: Certificates) -> None:
    context = certificates.client_context()
    a, b = socket.socketpair()
    with b:
        cancelled(loop, lambda: context.wrap_socket(a, server_hostname=HOST))
        b.recv(2**16)
        assert select.select([b], [], [], 60)[0] and b.recv(1) == b""
    a, b = socket.socketpair()
    with (
        b,
        context.wrap_socket(a, server_hostname=HOST, do_handshake_on_connect=False) as explicit,
    ):
        cancelled(loop, explicit.do_handshake)
        assert explicit.fileno() >= 0


def test_a_cancelled_connect_closes(loop: Any, certificates: Certificates) -> None:
    """In the handshake: the peer listens, and says nothing."""
    context = certificates.client_context()
    with (
        socket.create_server(("127.0.0.1", 0)) as silent,
        context.wrap_socket(socket.socket(), server_hostname=HOST) as tls,
    ):
        cancelled(loop, lambda: tls.connect(silent.getsockname()))
        assert tls.fileno() == -1


def test_a_cancelled_accept_leaves_the_listener(loop: Any, certificates: Certificates) -> None:
    """In the handshake of a connection, which is closed."""
    with (
        socket.create_server(("127.0.0.1", 0)) as plain,
        certificates.server_context().wrap_socket(plain, server_side=True) as listener,
        socket.create_connection(listener.getsockname()) as silent,
    ):
        cancelled(loop, listener.accept)
        assert select.select([silent], [], [], 60)[0] and silent.recv(1) == b""
        assert listener.fileno() >= 0


# --- asyncio's own -----------------------------------------------------------


def test_asyncio_and_a_green_function(aio: Any, certificates: Certificates) -> None:
    """asyncio's TLS, on SSLObject, is as it was: a server of it, and a client that's green."""

    async def main() -> list[bytes]:
        async def serve(_: Any, writer: Any) -> None:
            writer.write(b"hello")
            await writer.drain()
            writer.close()

        server = certificates.server_context()
        async with await asyncio.start_server(serve, "127.0.0.1", 0, ssl=server) as listening:
            address = listening.sockets[0].getsockname()
            context = certificates.client_context()
            said = await async_def(greeting(context), address)
            reader, writer = await asyncio.open_connection(
                *address, ssl=context, server_hostname=HOST
            )
            also = await reader.read()
            writer.close()
            return [said, also]

    assert aio.run(main) == [b"hello", b"hello"]


def test_memory_bios_are_the_stdlibs(certificates: Certificates) -> None:
    assert ssl.SSLObject is stdlib_ssl.SSLObject and ssl.MemoryBIO is stdlib_ssl.MemoryBIO
    tls = certificates.client_context().wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO(), False, HOST)
    with pytest.raises(ssl.SSLWantReadError):
        tls.do_handshake()


def test_the_twin_has_what_the_stdlib_has() -> None:
    public = {name for name in vars(stdlib_ssl) if not name.startswith("__")}
    assert public <= set(vars(ssl))
    assert ssl.SSLSocket is stdlib_ssl.SSLSocket
    assert stdlib_ssl.SSLContext.sslsocket_class is stdlib_ssl.SSLSocket
