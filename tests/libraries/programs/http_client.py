"""`http.client`."""

import http.client
import socket
import ssl
from urllib.parse import urlsplit

from libraries.probe import probe, servers

HTTP = urlsplit(servers.nginx["http"])
HTTPS = urlsplit(servers.nginx["https"])


def connect(timeout: float = 10) -> http.client.HTTPConnection:
    return http.client.HTTPConnection(str(HTTP.hostname), HTTP.port, timeout=timeout)


def get(connection: http.client.HTTPConnection, path: str) -> bytes:
    connection.request("GET", path)
    return connection.getresponse().read()


@probe
def kept_alive() -> None:
    connection = connect()
    assert get(connection, "/hello") == b"hello"
    assert get(connection, "/requests") == b"2"
    connection.close()


@probe
def large_body_both_ways() -> None:
    body = b"x" * 4_000_000
    connection = connect()
    connection.request("POST", "/echo", body)
    assert connection.getresponse().read() == b"POST " + body
    connection.close()


@probe
def chunked_body() -> None:
    connection = connect()
    connection.request("PUT", "/echo", iter([b"one ", b"two"]), encode_chunked=True)
    assert connection.getresponse().read() == b"PUT one two"
    connection.close()


@probe
def line_by_line() -> None:
    connection = connect(timeout=0.3)
    connection.request("GET", "/trickle")
    response = connection.getresponse()
    assert response.readline() == b"first\n"
    try:
        response.readline()
    except TimeoutError:
        return
    finally:
        response.close()
        connection.close()
    raise AssertionError("did not time out")


@probe
def answer_that_never_pauses() -> None:
    """There is always more to read, so that nothing here has to wait."""
    connection = connect()
    connection.request("GET", "/huge")
    response = connection.getresponse()
    assert sum(len(part) for part in iter(lambda: response.read(4096), b"")) == 64 << 20
    connection.close()


@probe
def tls() -> None:
    context = ssl.create_default_context(cafile=servers.certificates["authority"])
    connection = http.client.HTTPSConnection(
        str(HTTPS.hostname), HTTPS.port, context=context, timeout=10
    )
    assert get(connection, "/hello") == b"hello"
    assert get(connection, "/requests") == b"2"
    assert len(get(connection, "/big")) == 8 << 20
    connection.close()


@probe(raises=ssl.SSLCertVerificationError)
def tls_of_an_unknown_authority() -> None:
    connection = http.client.HTTPSConnection(str(HTTPS.hostname), HTTPS.port, timeout=10)
    try:
        get(connection, "/hello")
    finally:
        connection.close()


@probe(raises=ConnectionRefusedError)
def refused() -> None:
    get(http.client.HTTPConnection("127.0.0.1", servers.refused), "/")


@probe(raises=socket.gaierror)
def unknown_host() -> None:
    get(http.client.HTTPConnection("no-such-host.invalid", 80), "/")


@probe(raises=TimeoutError)
def connect_timeout() -> None:
    get(http.client.HTTPConnection("127.0.0.1", servers.full, timeout=0.2), "/")


@probe(raises=TimeoutError)
def read_timeout() -> None:
    connection = connect(timeout=0.2)
    try:
        get(connection, "/never")
    finally:
        connection.close()


@probe(slow=True)
def slow() -> None:
    connection = connect()
    try:
        assert get(connection, "/slow") == b"slow"
    finally:
        connection.close()
