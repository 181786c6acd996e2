"""The servers that the rows ask: real ones, started for the run, on loopback."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from net.rows.messages import ANSWER, QUESTION

# The tests have the same servers.
sys.path.append(str(Path(__file__).resolve().parents[2] / "tests"))

from server_processes import (
    DidNotStart,
    NotInstalled,
    directory_for,
    free_port,
    listening,
    postgresql_programs,
    postgresql_server,
    program,
    running,
    unprivileged,
)

__all__ = ["STARTS", "VERSIONS", "DidNotStart", "NotInstalled"]

# How long a peer that answers takes for it: longer than a client takes to wait.
PAUSE = 0.002

# One process, which serves everyone from memory. Without a limit on the requests of a connection
# the clients would measure how they reconnect.
NGINX = """
daemon off;
master_process off;
pid nginx.pid;
error_log stderr crit;
events {{ worker_connections 1024; }}
http {{
    access_log off;
    keepalive_requests 1000000;
    client_body_temp_path body;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
    server {{
        listen 127.0.0.1:{port} backlog=1024;
        location / {{
            default_type text/plain;
            return 200 "hello, world\\n";
        }}
    }}
}}
"""


@contextlib.contextmanager
def nginx() -> Iterator[str]:
    """nginx with one small static response, over connections that stay open."""
    server, user, port = program("nginx"), unprivileged("www-data", "nobody"), free_port()
    with directory_for(user) as directory:
        configuration = directory / "nginx.conf"
        configuration.write_text(NGINX.format(port=port))
        with running(
            [server, "-e", "stderr", "-p", directory, "-c", configuration],
            listening(port),
            cwd=directory,
            **user,
        ):
            yield f"http://127.0.0.1:{port}/"


@contextlib.contextmanager
def redis() -> Iterator[str]:
    """Redis that keeps nothing on disk."""
    server, port = program("redis-server"), free_port()
    with (
        directory_for({}) as directory,
        running(
            [
                server,
                *("--bind", "127.0.0.1", "--port", str(port), "--dir", directory),
                *("--save", "", "--appendonly", "no"),
            ],
            listening(port),
        ),
    ):
        yield f"redis://127.0.0.1:{port}/0"


@contextlib.contextmanager
def postgresql() -> Iterator[str]:
    """PostgreSQL, with room for a client whose predecessor's connections are still ending."""
    with postgresql_server(max_connections=200) as address:
        yield address


@contextlib.contextmanager
def answering() -> Iterator[str]:
    """A thread of this process that answers each question after a pause."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer(connection: socket.socket) -> None:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with connection:
                while connection.recv(len(QUESTION)):
                    time.sleep(PAUSE)
                    connection.sendall(ANSWER)

        def accept() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return  # the block is over
                threading.Thread(target=answer, args=(connection,), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        yield f"127.0.0.1:{listener.getsockname()[1]}"
        # Closing alone does not wake a thread that waits in accept.
        listener.shutdown(socket.SHUT_RDWR)


STARTS: dict[str, Callable[[], contextlib.AbstractContextManager[str]]] = {
    "nginx": nginx,
    "redis": redis,
    "postgresql": postgresql,
    "answering": answering,
}


def _says(command: list[str | Path]) -> str:
    ran = subprocess.run(command, capture_output=True, text=True, check=True)
    return (ran.stdout + ran.stderr).strip()  # nginx tells it on stderr


# What tells a server's version.
VERSIONS: dict[str, Callable[[], str]] = {
    "nginx": lambda: _says([program("nginx"), "-v"]).rpartition("/")[2],
    "redis": lambda: _says([program("redis-server"), "-v"]).partition("v=")[2].split()[0],
    "postgresql": lambda: _says([postgresql_programs() / "postgres", "-V"]).split()[2],
}
