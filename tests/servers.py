"""Servers for the tests: each on loopback, on a free port, for one session of pytest.

A server that is not installed skips the tests that ask for it, by its name. A fixture's value is
the server's addresses. Those that speak TLS have the good certificate of `certificates`.

What is called slow takes a server 0.3 s, so that several clients can be seen to wait at once.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import server_processes
from certificates import Certificates
from server_processes import (
    NotInstalled,
    directory_for,
    free_port,
    listening,
    postgresql_server,
    running,
    unprivileged,
)

# Servers that are programs of ours, over libraries that serve.
PEERS = Path(__file__).resolve().parent / "peers"


def program(name: str) -> str:
    """The path of a server's program. Skips where it is not installed."""
    try:
        return server_processes.program(name)
    except NotInstalled as missing:
        pytest.skip(str(missing))


# --- PostgreSQL --------------------------------------------------------------


@pytest.fixture(scope="session")
def postgresql() -> Iterator[str]:
    """The address of a PostgreSQL server."""
    try:
        with postgresql_server() as address:
            yield address
    except NotInstalled as missing:
        pytest.skip(str(missing))


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


# --- RabbitMQ ----------------------------------------------------------------

# Debian's /usr/sbin/rabbitmq-server changes to a user and a directory of its own, and calls this.
RABBITMQ = "/usr/lib/rabbitmq/bin/rabbitmq-server"


RABBITMQ_SETTINGS = """
listeners.tcp.1 = 127.0.0.1:{port}
listeners.ssl.1 = 127.0.0.1:{tls_port}
ssl_options.certfile = {directory}/certificate
ssl_options.keyfile = {directory}/certificate
ssl_options.verify = verify_none
"""


@pytest.fixture(scope="session")
def rabbitmq(certificates: Certificates) -> Iterator[dict[str, Any]]:
    """Host, ports, user and password of a RabbitMQ server. Its virtual host is "/"."""
    command = RABBITMQ if Path(RABBITMQ).exists() else program("rabbitmq-server")
    names = program("epmd")
    user = unprivileged("rabbitmq", "nobody")
    port, tls_port, names_port, nodes_port = (free_port() for _ in range(4))
    with directory_for(user) as directory:
        (directory / "certificate").write_bytes(certificates.good.read_bytes())
        (directory / "plugins").write_text("[].\n")
        (directory / "rabbitmq.conf").write_text(
            RABBITMQ_SETTINGS.format(directory=directory, port=port, tls_port=tls_port)
        )
        settings = {
            "HOME": directory,  # of the secret that Erlang's nodes share
            # A node must be known to an epmd. Without one it starts one that stays for good, so
            # this has its own, and is told to start none.
            "ERL_EPMD_PORT": names_port,
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "ERL_FLAGS": "-start_epmd false",
            "RABBITMQ_NODENAME": f"tests-{port}@localhost",
            "RABBITMQ_DIST_PORT": nodes_port,
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1}",
            "RABBITMQ_CONF_ENV_FILE": directory / "none",
            "RABBITMQ_CONFIG_FILE": directory / "rabbitmq.conf",
            "RABBITMQ_ENABLED_PLUGINS_FILE": directory / "plugins",
            "RABBITMQ_MNESIA_BASE": directory / "data",
            "RABBITMQ_LOG_BASE": directory / "logs",
            "RABBITMQ_LOGS": "-",
            # The script becomes the server then, rather than waiting for it.
            "RABBITMQ_ALLOW_INPUT": "1",
        }
        options = {
            **user,
            "cwd": directory,
            "env": {**os.environ, **{name: str(value) for name, value in settings.items()}},
        }
        with (
            running(
                [names, "-port", str(names_port), "-address", "127.0.0.1"],
                listening(names_port),
                **options,
            ),
            running([command, "-noinput"], listening(port, tls_port), **options),
        ):
            yield {
                "host": "127.0.0.1",
                "port": port,
                "tls_port": tls_port,
                "user": "guest",
                "password": "guest",
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
        ssl_certificate_key {directory}/certificate;
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
def nginx(certificates: Certificates) -> Iterator[dict[str, str]]:
    """The addresses of an nginx by `http` and by `https`. /big has 8 MiB, /huge 64 MiB."""
    command = program("nginx")
    modules = [Path(each) / "ngx_http_echo_module.so" for each in NGINX_MODULES]
    module = next((path for path in modules if path.exists()), None)
    if module is None:
        pytest.skip("libnginx-mod-http-echo, nginx's module that waits, is not installed")
    user = unprivileged("www-data", "nobody")
    port, tls_port = free_port(), free_port()
    with directory_for(user) as directory:
        (directory / "certificate").write_bytes(certificates.good.read_bytes())
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
def peer_with_tls(name: str, needs: str, certificates: Certificates) -> Iterator[dict[str, Any]]:
    """A peer with a plain port and one with TLS from the start."""
    ports = [free_port(), free_port()]
    with peer(name, needs, *ports, certificates.good, certificates.good, ports=ports):
        yield {"host": "localhost", "port": ports[0], "tls_port": ports[1]}


@pytest.fixture(scope="session")
def smtp(certificates: Certificates) -> Iterator[dict[str, Any]]:
    """Host and ports of an SMTP server."""
    with peer_with_tls("smtp", "aiosmtpd", certificates) as address:
        yield address


@pytest.fixture(scope="session")
def imap(certificates: Certificates) -> Iterator[dict[str, Any]]:
    """Host and ports of an IMAP server."""
    with peer_with_tls("imap", "ssl", certificates) as address:
        yield address


@pytest.fixture(scope="session")
def pop3(certificates: Certificates) -> Iterator[dict[str, Any]]:
    """Host and ports of a POP3 server."""
    with peer_with_tls("pop3", "ssl", certificates) as address:
        yield address


@pytest.fixture(scope="session")
def websocket(certificates: Certificates) -> Iterator[dict[str, Any]]:
    """Host and ports of a WebSocket server."""
    with peer_with_tls("websocket_echo", "websockets", certificates) as address:
        yield address


@pytest.fixture(scope="session")
def ftp(
    certificates: Certificates, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Any]]:
    """Host and port of an FTP server."""
    pytest.importorskip("OpenSSL", reason="pyopenssl is not installed")
    port, directory = free_port(), tmp_path_factory.mktemp("ftp")
    made = certificates.good, certificates.good
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
