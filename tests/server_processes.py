"""Servers in processes of their own: each on loopback, on a free port, from when it is ready on.

The tests and the benchmark start them from here, so nothing in this file knows pytest.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

SECONDS_TO_START = SECONDS_TO_STOP = 60


class NotInstalled(Exception):
    """The server is not on this machine. The message names it."""


class DidNotStart(Exception):
    """The server ended, or was not ready in time. The message has what it wrote."""


def program(name: str, *directories: str) -> str:
    """The path of a server's program. Debian has some of them off the PATH of users.

    Raises:
        NotInstalled: It is not there.
    """
    path = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", *directories])
    found = shutil.which(name, path=path)
    if found is None:
        raise NotInstalled(f"{name} is not installed")
    return found


def free_port() -> int:
    """A port of loopback that nothing listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def listening(*ports: int) -> Callable[[], bool]:
    """Asks whether all of these ports of loopback take connections."""

    def ready() -> bool:
        try:
            for port in ports:
                socket.create_connection(("127.0.0.1", port), timeout=5).close()
        except OSError:
            return False
        return True

    return ready


def unprivileged(*names: str) -> dict[str, Any]:
    """For servers that refuse to run as root: `subprocess`'s arguments to run as one of the users.

    Empty where this process isn't root.
    """
    if os.geteuid() != 0:
        return {}
    known = {user.pw_name: user for user in pwd.getpwall()}
    user = next(known[name] for name in names if name in known)
    return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}


@contextlib.contextmanager
def directory_for(user: dict[str, Any]) -> Iterator[Path]:
    """A temporary directory of that user's. pytest's own ones are closed to other users."""
    with tempfile.TemporaryDirectory() as name:
        if user:
            os.chown(name, user["user"], user["group"])
        yield Path(name)


@contextlib.contextmanager
def running(
    command: Sequence[str | Path],
    ready: Callable[[], bool],
    stop: signal.Signals = signal.SIGTERM,
    **options: Any,
) -> Iterator[None]:
    """Runs a server in the block, from when it is ready on. `options` are `subprocess`'s.

    Raises:
        DidNotStart: It ended early, or was not ready in time.
    """
    # The signal also stops it when this process is killed.
    tied = ["setpriv", "--pdeathsig", stop.name.removeprefix("SIG"), "--", *command]
    with (
        tempfile.TemporaryFile("w+") as output,
        subprocess.Popen(tied, stdout=output, stderr=subprocess.STDOUT, **options) as server,
    ):
        try:
            limit = time.monotonic() + SECONDS_TO_START
            while not ready():
                if server.poll() is not None or time.monotonic() > limit:
                    output.seek(0)
                    raise DidNotStart(f"{command[0]} did not start:\n{output.read()}")
                time.sleep(0.02)
            yield
        finally:
            server.send_signal(stop)
            try:
                server.wait(SECONDS_TO_STOP)
            except subprocess.TimeoutExpired:
                server.kill()


# --- PostgreSQL --------------------------------------------------------------


def postgresql_programs() -> Path:
    """The directory of the newest release. Debian has a directory for each, and none on PATH.

    Raises:
        NotInstalled: There is none.
    """
    found = [path.parent for path in Path("/usr/lib/postgresql").glob("*/bin/postgres")]
    found.sort(key=lambda path: [int(number) for number in re.findall(r"\d+", str(path))])
    on_path = shutil.which("postgres")
    if not found and not on_path:
        raise NotInstalled("postgresql is not installed")
    return found[-1] if found else Path(str(on_path)).resolve().parent


@contextlib.contextmanager
def postgresql_server(max_connections: int = 100) -> Iterator[str]:
    """Runs PostgreSQL in the block, and gives its address.

    Raises:
        NotInstalled: It is not there.
        DidNotStart: It ended early, or was not ready in time.
    """
    programs = postgresql_programs()
    user = unprivileged("postgres", "nobody")
    port = free_port()
    with directory_for(user) as directory:
        data = directory / "data"
        initdb: list[str | Path] = [
            programs / "initdb",
            *("--no-sync", "--auth=trust", "--username=postgres"),
            *("--encoding=UTF8", "--locale=C", "--pgdata", data),
        ]
        made = subprocess.run(
            initdb,
            capture_output=True,
            text=True,
            check=False,
            cwd=directory,
            **user,
        )
        if made.returncode != 0:
            raise DidNotStart(made.stdout + made.stderr)
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": port,
            "max_connections": max_connections,
            "unix_socket_directories": "",
            "fsync": "off",
        }

        def ready() -> bool:
            asked: list[str | Path] = [
                programs / "pg_isready",
                "--quiet",
                "--host=127.0.0.1",
                f"--port={port}",
            ]
            return subprocess.run(asked, check=False).returncode == 0

        with running(
            [
                programs / "postgres",
                *("-D", data),
                *(f"--{name}={value}" for name, value in settings.items()),
            ],
            ready,
            signal.SIGINT,  # it would wait for open connections at SIGTERM
            cwd=directory,
            **user,
        ):
            yield f"postgresql://postgres@127.0.0.1:{port}/postgres"
