"""An echo server on loopback, for the two echo programs to talk to.

It runs in threads of its own, so that it neither helps nor hinders the event loop of
`echo_asyncio.py`, and both programs meet the same server.
"""

from __future__ import annotations

import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager


class _EchoLines(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        for line in self.rfile:
            self.wfile.write(line)


class _Server(socketserver.ThreadingTCPServer):
    request_queue_size = 128  # the default of 5 makes a burst of clients wait for a SYN retry


@contextmanager
def echo_server() -> Iterator[tuple[str, int]]:
    """Serve on a free port of 127.0.0.1 for as long as the block runs; gives (host, port)."""
    host = "127.0.0.1"
    with _Server((host, 0), _EchoLines) as server:
        port: int = server.socket.getsockname()[1]
        # serve_forever looks for shutdown() once every poll interval.
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), name="echo-server")
        thread.start()
        try:
            yield host, port
        finally:
            server.shutdown()
            thread.join()
