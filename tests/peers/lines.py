"""What the servers of mail share: a thread for each client, lines, and TLS at once or later."""

from __future__ import annotations

import socketserver
import ssl
import threading


class LineHandler(socketserver.StreamRequestHandler):
    """Gives `self.line()` and `self.say(...)`."""

    tls: ssl.SSLContext
    tls_at_once = False
    connection: ssl.SSLSocket

    def setup(self) -> None:
        if self.tls_at_once:
            self.request = self.tls.wrap_socket(self.request, server_side=True)
        super().setup()

    def start_tls(self) -> None:
        self.request = self.tls.wrap_socket(self.request, server_side=True)
        super().setup()

    def line(self) -> str:
        return self.rfile.readline().decode().rstrip("\r\n")

    def say(self, *lines: str) -> None:
        self.wfile.write("".join(f"{line}\r\n" for line in lines).encode())


class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        """A client that went away is what the tests of cancellation do."""


def serve(handler: type[LineHandler], port: str, tls_port: str, certificate: str, key: str) -> None:
    """Serves plainly on one port, and with TLS from the start on the other."""
    handler.tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    handler.tls.load_cert_chain(certificate, key)
    wrapped = type("Wrapped", (handler,), {"tls_at_once": True})
    tls_server = Server(("127.0.0.1", int(tls_port)), wrapped)
    threading.Thread(target=tls_server.serve_forever, daemon=True).start()
    Server(("127.0.0.1", int(port)), handler).serve_forever()
