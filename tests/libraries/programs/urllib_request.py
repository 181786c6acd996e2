"""`urllib.request`."""

import ssl
from concurrent.futures import ThreadPoolExecutor
from urllib.error import HTTPError, URLError
from urllib.parse import urlencode
from urllib.request import HTTPCookieProcessor, Request, build_opener, urlopen

from libraries.probe import probe, servers

HTTP, HTTPS = servers.nginx["http"], servers.nginx["https"]


@probe
def get() -> None:
    with urlopen(f"{HTTP}/hello", timeout=10) as response:
        assert (response.status, response.read()) == (200, b"hello")


@probe
def form() -> None:
    data = urlencode({"name": "value"}).encode()
    with urlopen(Request(f"{HTTP}/echo", data, {"X-Word": "word"}), timeout=10) as response:
        assert response.read() == b"POST name=value"


@probe
def redirected() -> None:
    with build_opener(HTTPCookieProcessor()).open(f"{HTTP}/moved", timeout=10) as response:
        assert response.geturl().endswith("/hello")
        assert response.read() == b"hello"


@probe
def error_with_a_body() -> None:
    try:
        urlopen(f"{HTTP}/error", timeout=10)
    except HTTPError as error:
        with error:
            assert (error.code, error.read()) == (503, b"busy")
    else:
        raise AssertionError("no error")


@probe
def tls() -> None:
    context = ssl.create_default_context(cafile=servers.certificates["authority"])
    with urlopen(f"{HTTPS}/big", context=context, timeout=10) as response:
        assert sum(len(block) for block in iter(lambda: response.read(65536), b"")) == 8 << 20


@probe
def in_a_pool_of_threads() -> None:
    def load(path: str) -> bytes:
        with urlopen(HTTP + path, timeout=10) as response:
            body: bytes = response.read()
            return body

    with ThreadPoolExecutor(5) as pool:
        assert list(pool.map(load, ["/hello", "/slow"] * 5)) == [b"hello", b"slow"] * 5


@probe(raises=URLError)
def refused() -> None:
    urlopen(f"http://127.0.0.1:{servers.refused}/", timeout=10)


@probe(raises=TimeoutError)
def read_timeout() -> None:
    urlopen(f"{HTTP}/never", timeout=0.2)


@probe(slow=True)
def slow() -> None:
    with urlopen(f"{HTTP}/slow", timeout=10) as response:
        assert response.read() == b"slow"
