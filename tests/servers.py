"""Servers for the tests: each on loopback, on a free port, for one session of pytest.

A server that is not installed skips the tests that ask for it, by its name. A fixture's value is
the server's addresses. Those that speak TLS ask for a fixture `certificates`, which has the paths
`certificate` and `key` of a server called localhost.

What is called slow takes a server 0.3 s, so that several clients can be seen to wait at once.
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
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

SECONDS_TO_START = SECONDS_TO_STOP = 60

# Servers that are programs of ours, over libraries that serve.
PEERS = Path(__file__).resolve().parent / "peers"


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


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


def program(name: str, *directories: str) -> str:
    """The path of a server's program."""
    path = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", *directories])
    found = shutil.which(name, path=path)
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


def listening(*ports: int) -> Callable[[], bool]:
    """Whether all of these ports take connections."""

    def ready() -> bool:
        try:
            for port in ports:
                socket.create_connection(("127.0.0.1", port), timeout=5).close()
        except OSError:
            return False
        return True

    return ready


@contextlib.contextmanager
def running(
    command: Sequence[str | Path],
    ready: Callable[[], bool],
    stop: signal.Signals = signal.SIGTERM,
    **options: Any,
) -> Iterator[None]:
    """Runs a server in the block, from when it is ready on. `options` are `subprocess`'s."""
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
                    pytest.fail(f"{command[0]} did not start:\n{output.read()}", pytrace=False)
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
    """The directory of the newest release. Debian has a directory for each, and none on PATH."""
    found = [path.parent for path in Path("/usr/lib/postgresql").glob("*/bin/postgres")]
    found.sort(key=lambda path: [int(number) for number in re.findall(r"\d+", str(path))])
    on_path = shutil.which("postgres")
    if not found and not on_path:
        pytest.skip("postgresql is not installed")
    return found[-1] if found else Path(str(on_path)).resolve().parent


@pytest.fixture(scope="session")
def postgresql() -> Iterator[str]:
    """The address of a PostgreSQL server."""
    programs = postgresql_programs()
    user = unprivileged("postgres", "nobody")
    port = free_port()
    with directory_for(user) as directory:
        data = directory / "data"
        made = subprocess.run(
            [
                programs / "initdb",
                *("--no-sync", "--auth=trust", "--username=postgres"),
                *("--encoding=UTF8", "--locale=C", "--pgdata", data),
            ],
            capture_output=True,
            text=True,
            check=False,
            cwd=directory,
            **user,
        )
        assert made.returncode == 0, made.stdout + made.stderr
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": port,
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


# --- Redis -------------------------------------------------------------------


@pytest.fixture(scope="session")
def redis() -> Iterator[str]:
    """The address of a Redis server."""
    command = program("redis-server")
    user = unprivileged("redis", "nobody")
    port = free_port()
    settings = ["--bind", "127.0.0.1", "--port", str(port), "--save", "", "--appendonly", "no"]
    with (
        directory_for(user) as directory,
        running([command, *settings], listening(port), cwd=directory, **user),
    ):
        yield f"redis://127.0.0.1:{port}/0"


# --- MariaDB -----------------------------------------------------------------


@pytest.fixture(scope="session")
def mariadb() -> Iterator[dict[str, Any]]:
    """Host, port, user, password and database of a MariaDB server, as drivers want them."""
    installs, command = program("mariadb-install-db"), program("mariadbd")
    user = unprivileged("mysql", "nobody")
    port = free_port()
    with directory_for(user) as directory:
        data = directory / "data"
        made = subprocess.run(
            [
                installs,
                "--no-defaults",
                "--skip-name-resolve",
                "--skip-test-db",
                "--auth-root-authentication-method=normal",
                f"--datadir={data}",
            ],
            capture_output=True,
            text=True,
            check=False,
            cwd=directory,
            **user,
        )
        assert made.returncode == 0, made.stdout + made.stderr
        settings = {
            "datadir": data,
            "socket": directory / "socket",
            "pid-file": directory / "pid",
            "bind-address": "127.0.0.1",
            "port": port,
            "innodb-flush-log-at-trx-commit": 0,
        }
        with running(
            [
                command,
                *("--no-defaults", "--skip-name-resolve"),
                *(f"--{name}={value}" for name, value in settings.items()),
            ],
            listening(port),
            cwd=directory,
            **user,
        ):
            yield {
                "host": "127.0.0.1",
                "port": port,
                "user": "root",
                "password": "",
                "database": "mysql",
            }


# --- nginx -------------------------------------------------------------------

NGINX_MODULES = ["/usr/lib/nginx/modules", "/usr/share/nginx/modules"]

# /echo gives a request back, /requests counts those of a connection, /trickle stops half way.
NGINX = """
load_module {module};
daemon off;
master_process off;
error_log stderr;
pid {directory}/pid;
events {{ worker_connections 512; }}
http {{
    access_log off;
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
    client_max_body_size 16m;
    client_body_buffer_size 16m;
    keepalive_timeout 60s;
    server {{
        listen 127.0.0.1:{port};
        listen 127.0.0.1:{tls_port} ssl;
        ssl_certificate {directory}/certificate;
        ssl_certificate_key {directory}/key;
        root {directory};
        location = /hello    {{ echo -n hello; }}
        location = /echo     {{
            echo_read_request_body;
            echo -n "$request_method ";
            echo_request_body;
        }}
        location = /requests {{ echo -n $connection_requests; }}
        location = /moved    {{ return 302 /hello; }}
        location = /error    {{ return 503 busy; }}
        location = /slow     {{ echo_sleep 0.3; echo -n slow; }}
        location = /never    {{ echo_sleep 20; echo -n never; }}
        location = /trickle  {{ echo first; echo_flush; echo_sleep 20; echo second; }}
    }}
}}
"""


@pytest.fixture(scope="session")
def nginx(certificates: Any) -> Iterator[dict[str, str]]:
    """The addresses of an nginx by `http` and by `https`. /big has 8 MiB, /huge 64 MiB."""
    command = program("nginx")
    modules = [Path(each) / "ngx_http_echo_module.so" for each in NGINX_MODULES]
    module = next((path for path in modules if path.exists()), None)
    if module is None:
        pytest.skip("libnginx-mod-http-echo, nginx's module that waits, is not installed")
    user = unprivileged("www-data", "nobody")
    port, tls_port = free_port(), free_port()
    with directory_for(user) as directory:
        (directory / "certificate").write_bytes(certificates.certificate.read_bytes())
        (directory / "key").write_bytes(certificates.key.read_bytes())
        (directory / "big").write_bytes(bytes(range(256)) * (8 * 4096))
        (directory / "huge").touch()
        os.truncate(directory / "huge", 64 << 20)
        settings = directory / "nginx.conf"
        settings.write_text(
            NGINX.format(module=module, directory=directory, port=port, tls_port=tls_port)
        )
        with running(
            [command, "-p", directory, "-c", settings],
            listening(port, tls_port),
            signal.SIGTERM,
            cwd=directory,
            **user,
        ):
            yield {
                "http": f"http://127.0.0.1:{port}",
                "https": f"https://localhost:{tls_port}",
            }


# --- a port that says nothing ------------------------------------------------


@contextlib.contextmanager
def filled_up() -> Iterator[int]:
    """A port where a connection is neither taken nor refused: its queue is full."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(8):
            client = stack.enter_context(socket.socket())
            client.setblocking(False)
            client.connect_ex(listener.getsockname())
        yield listener.getsockname()[1]


# --- programs of ours --------------------------------------------------------


@contextlib.contextmanager
def peer(name: str, needs: str, *arguments: object, ports: list[int]) -> Iterator[None]:
    """Runs a program of tests/peers, which serves with the library `needs`."""
    pytest.importorskip(needs, reason=f"{needs} is not installed")
    command = [sys.executable, str(PEERS / f"{name}.py"), *map(str, arguments)]
    with running(command, listening(*ports)):
        yield


@contextlib.contextmanager
def peer_with_tls(name: str, needs: str, certificates: Any) -> Iterator[dict[str, Any]]:
    """A peer with a plain port and one with TLS from the start."""
    ports = [free_port(), free_port()]
    with peer(name, needs, *ports, certificates.certificate, certificates.key, ports=ports):
        yield {"host": "localhost", "port": ports[0], "tls_port": ports[1]}


@pytest.fixture(scope="session")
def smtp(certificates: Any) -> Iterator[dict[str, Any]]:
    """Host and ports of an SMTP server."""
    with peer_with_tls("smtp", "aiosmtpd", certificates) as address:
        yield address


@pytest.fixture(scope="session")
def imap(certificates: Any) -> Iterator[dict[str, Any]]:
    """Host and ports of an IMAP server."""
    with peer_with_tls("imap", "ssl", certificates) as address:
        yield address


@pytest.fixture(scope="session")
def pop3(certificates: Any) -> Iterator[dict[str, Any]]:
    """Host and ports of a POP3 server."""
    with peer_with_tls("pop3", "ssl", certificates) as address:
        yield address


@pytest.fixture(scope="session")
def websocket(certificates: Any) -> Iterator[dict[str, Any]]:
    """Host and ports of a WebSocket server."""
    with peer_with_tls("websocket_echo", "websockets", certificates) as address:
        yield address


@pytest.fixture(scope="session")
def ftp(certificates: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """Host and port of an FTP server."""
    pytest.importorskip("OpenSSL", reason="pyopenssl is not installed")
    port, directory = free_port(), tmp_path_factory.mktemp("ftp")
    made = certificates.certificate, certificates.key
    with peer("ftp", "pyftpdlib", port, directory, *made, ports=[port]):
        yield {"host": "localhost", "port": port}


@pytest.fixture(scope="session")
def ssh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """Host and port of an SSH server; the password is "right"."""
    port, directory = free_port(), tmp_path_factory.mktemp("ssh")
    with peer("ssh", "asyncssh", port, directory, ports=[port]):
        yield {"host": "127.0.0.1", "port": port}


@pytest.fixture(scope="session")
def s3() -> Iterator[str]:
    """The address of moto's S3."""
    pytest.importorskip("flask_cors", reason="flask-cors is not installed")
    port = free_port()
    with peer("s3", "moto", port, ports=[port]):
        yield f"http://127.0.0.1:{port}"
