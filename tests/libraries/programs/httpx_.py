"""httpx, its sync client."""

import ssl
import threading

import httpx

from libraries.probe import probe, servers

HTTP, HTTPS = servers.nginx["http"], servers.nginx["https"]
CONTEXT = ssl.create_default_context(cafile=servers.certificates["authority"])

shared = httpx.Client(timeout=10, verify=CONTEXT)


@probe
def kept_alive() -> None:
    with httpx.Client(verify=CONTEXT) as client:
        assert client.get(f"{HTTP}/hello").text == "hello"
        assert client.get(f"{HTTP}/requests").text == "2"


@probe
def posted() -> None:
    assert shared.post(f"{HTTP}/echo", content=b"body").text == "POST body"


@probe
def streamed() -> None:
    with shared.stream("GET", f"{HTTP}/big") as response:
        assert sum(map(len, response.iter_bytes())) == 8 << 20


@probe
def tls() -> None:
    with httpx.Client(verify=CONTEXT) as client:
        assert client.get(f"{HTTPS}/hello").text == "hello"
        assert client.get(f"{HTTPS}/requests").text == "2"


@probe
def more_users_than_connections() -> None:
    said = []
    with httpx.Client(limits=httpx.Limits(max_connections=2), verify=CONTEXT) as client:
        users = [
            threading.Thread(target=lambda: said.append(client.get(f"{HTTP}/hello").text))
            for _ in range(6)
        ]
        for user in users:
            user.start()
        for user in users:
            user.join()
    assert said == ["hello"] * 6


@probe(raises=httpx.PoolTimeout)
def empty_pool() -> None:
    timeout = httpx.Timeout(10, pool=0.2)
    limits = httpx.Limits(max_connections=1)
    with (
        httpx.Client(limits=limits, timeout=timeout, verify=CONTEXT) as client,
        client.stream("GET", f"{HTTP}/trickle"),
    ):
        client.get(f"{HTTP}/hello")


@probe(raises=httpx.ConnectError)
def tls_of_an_unknown_authority() -> None:
    httpx.get(f"{HTTPS}/hello", verify=ssl.create_default_context())


@probe(raises=httpx.ConnectError)
def refused() -> None:
    shared.get(f"http://127.0.0.1:{servers.refused}/")


@probe(raises=httpx.ReadTimeout)
def read_timeout() -> None:
    shared.get(f"{HTTP}/never", timeout=0.2)


@probe(raises=httpx.ConnectTimeout)
def connect_timeout() -> None:
    shared.get(f"http://127.0.0.1:{servers.full}/", timeout=0.2)


@probe(slow=True)
def slow() -> None:
    assert shared.get(f"{HTTP}/slow").text == "slow"


@probe(slow=True)
def slow_over_tls() -> None:
    assert shared.get(f"{HTTPS}/slow").text == "slow"
