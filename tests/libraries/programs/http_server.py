"""`http.server`: server and clients in one program."""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, HTTPServer, ThreadingHTTPServer
from urllib.request import urlopen

from libraries.probe import probe


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        if self.path == "/slow":
            time.sleep(0.3)
        self.answer(self.path.encode())

    def do_POST(self) -> None:
        self.answer(self.rfile.read(int(self.headers["Content-Length"])))

    def answer(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def serving(
    kind: type[HTTPServer] = ThreadingHTTPServer, handler: type[Handler] = Handler
) -> Iterator[int]:
    with kind(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


def get(port: int, path: str) -> bytes:
    connection = HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", path)
        return connection.getresponse().read()
    finally:
        connection.close()


@probe
def one_after_another() -> None:
    with serving(HTTPServer) as port:
        assert [get(port, path) for path in ("/one", "/two")] == [b"/one", b"/two"]


@probe
def posted() -> None:
    with (
        serving() as port,
        urlopen(f"http://127.0.0.1:{port}/", b"x" * 1_000_000, timeout=5) as response,
    ):
        assert len(response.read()) == 1_000_000


@probe
def several_at_once() -> None:
    together = threading.Barrier(5)

    class Together(Handler):
        def do_GET(self) -> None:
            together.wait(5)
            super().do_GET()

    with serving(handler=Together) as port, ThreadPoolExecutor(5) as pool:
        assert list(pool.map(lambda _: get(port, "/"), range(5))) == [b"/"] * 5


@probe(slow=True)
def slow() -> None:
    with serving() as port:
        assert get(port, "/slow") == b"/slow"
