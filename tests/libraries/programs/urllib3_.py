"""urllib3."""

import threading

import urllib3
from urllib3.exceptions import (
    ConnectTimeoutError,
    EmptyPoolError,
    MaxRetryError,
    NewConnectionError,
    ReadTimeoutError,
)

from libraries.probe import probe, servers

HTTP, HTTPS = servers.nginx["http"], servers.nginx["https"]

shared = urllib3.PoolManager(maxsize=10, timeout=10)


@probe
def get() -> None:
    assert urllib3.request("GET", f"{HTTP}/hello").data == b"hello"


@probe
def kept_alive() -> None:
    with urllib3.PoolManager() as pool:
        assert pool.request("GET", f"{HTTP}/hello").data == b"hello"
        assert pool.request("GET", f"{HTTP}/requests").data == b"2"


@probe
def streamed() -> None:
    response = shared.request("GET", f"{HTTP}/big", preload_content=False)
    assert sum(map(len, response.stream(65536))) == 8 << 20
    response.release_conn()


@probe
def multipart() -> None:
    response = shared.request("POST", f"{HTTP}/echo", fields={"file": ("name", b"x" * 100_000)})
    assert b"x" * 100_000 in response.data


@probe
def tls() -> None:
    with urllib3.PoolManager(ca_certs=servers.certificates["authority"]) as pool:
        assert pool.request("GET", f"{HTTPS}/hello").data == b"hello"
        assert pool.request("GET", f"{HTTPS}/requests").data == b"2"


@probe
def more_users_than_connections() -> None:
    said = []
    with urllib3.connection_from_url(HTTP, maxsize=2, block=True) as pool:

        def ask() -> None:
            said.append(pool.request("GET", "/hello").data)

        users = [threading.Thread(target=ask) for _ in range(8)]
        for user in users:
            user.start()
        for user in users:
            user.join()
        assert pool.num_connections <= 2
    assert said == [b"hello"] * 8


@probe(raises=EmptyPoolError)
def empty_pool() -> None:
    with urllib3.connection_from_url(HTTP, maxsize=1, block=True) as pool:
        response = pool.request("GET", "/big", preload_content=False)
        try:
            pool.request("GET", "/hello", pool_timeout=0.2)
        finally:
            response.close()


@probe(raises=MaxRetryError)
def retried() -> None:
    retries = urllib3.Retry(3, backoff_factor=0.05, status_forcelist=[503])
    shared.request("GET", f"{HTTP}/error", retries=retries)


@probe(raises=NewConnectionError)
def refused() -> None:
    shared.request("GET", f"http://127.0.0.1:{servers.refused}/", retries=False)


@probe(raises=ReadTimeoutError)
def read_timeout() -> None:
    shared.request("GET", f"{HTTP}/never", timeout=0.2, retries=False)


@probe(raises=ConnectTimeoutError)
def connect_timeout() -> None:
    shared.request("GET", f"http://127.0.0.1:{servers.full}/", timeout=0.2, retries=False)


@probe(slow=True)
def slow() -> None:
    assert shared.request("GET", f"{HTTP}/slow").data == b"slow"


blocking = urllib3.connection_from_url(HTTP, maxsize=3, block=True, timeout=10)


@probe(slow=True)
def slow_in_a_blocking_pool() -> None:
    assert blocking.request("GET", "/slow", pool_timeout=5).data == b"slow"
