"""`socketserver`: server and clients in one program."""

import socket
import socketserver
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from libraries.probe import probe


class Echo(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        for line in self.rfile:
            if line == b"slow\n":
                time.sleep(0.3)
            self.wfile.write(line)


class Datagrams(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        data, sock = self.request
        sock.sendto(data.upper(), self.client_address)


@contextmanager
def serving(server: socketserver.BaseServer) -> Iterator[tuple[str, int]]:
    with server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield server.server_address  # type: ignore[misc]
        finally:
            server.shutdown()
            thread.join()


def ask(address: tuple[str, int], word: bytes) -> bytes:
    with socket.create_connection(address, timeout=5) as client:
        client.sendall(word)
        with client.makefile("rb") as answer:
            return answer.readline()


@probe
def one_client() -> None:
    with serving(socketserver.TCPServer(("127.0.0.1", 0), Echo)) as address:
        assert ask(address, b"word\n") == b"word\n"


@probe
def a_thread_for_each_client() -> None:
    said = []
    together = threading.Barrier(5)

    class Together(Echo):
        def handle(self) -> None:
            together.wait(5)
            super().handle()

    with serving(socketserver.ThreadingTCPServer(("127.0.0.1", 0), Together)) as address:
        clients = [
            threading.Thread(target=lambda: said.append(ask(address, b"word\n"))) for _ in range(5)
        ]
        for client in clients:
            client.start()
        for client in clients:
            client.join()
    assert said == [b"word\n"] * 5


@probe
def datagrams() -> None:
    with (
        serving(socketserver.ThreadingUDPServer(("127.0.0.1", 0), Datagrams)) as address,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client,
    ):
        client.settimeout(5)
        client.sendto(b"word", address)
        assert client.recvfrom(100) == (b"WORD", address)


@probe(raises=TimeoutError)
def timeout() -> None:
    with (
        serving(socketserver.ThreadingTCPServer(("127.0.0.1", 0), Echo)) as address,
        socket.create_connection(address, timeout=0.1) as client,
    ):
        client.recv(1)


@probe(slow=True)
def slow() -> None:
    with serving(socketserver.ThreadingTCPServer(("127.0.0.1", 0), Echo)) as address:
        assert ask(address, b"slow\n") == b"slow\n"
