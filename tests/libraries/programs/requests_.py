"""requests."""

import requests
from requests.adapters import HTTPAdapter
from urllib3.util import Retry

from libraries.probe import probe, servers

HTTP, HTTPS = servers.nginx["http"], servers.nginx["https"]
AUTHORITY = servers.certificates["authority"]

# As programs have it: one for all their functions.
shared = requests.Session()


@probe
def get() -> None:
    assert requests.get(f"{HTTP}/hello", timeout=10).text == "hello"


@probe
def kept_alive() -> None:
    with requests.Session() as session:
        assert session.get(f"{HTTP}/hello").text == "hello"
        assert session.get(f"{HTTP}/requests").text == "2"


@probe
def posted() -> None:
    response = shared.post(f"{HTTP}/echo", json={"name": ["value"]}, timeout=10)
    assert response.text == 'POST {"name": ["value"]}'


@probe
def uploaded_in_chunks() -> None:
    response = shared.put(f"{HTTP}/echo", data=(b"x" * 10_000 for _ in range(50)))
    assert len(response.content) == len("PUT ") + 500_000


@probe
def streamed() -> None:
    with requests.get(f"{HTTP}/big", stream=True, timeout=10) as response:
        assert sum(map(len, response.iter_content(65536))) == 8 << 20


@probe
def redirected() -> None:
    response = shared.get(f"{HTTP}/moved", timeout=10)
    assert (response.text, len(response.history)) == ("hello", 1)


@probe
def tls() -> None:
    with requests.Session() as session:
        session.verify = AUTHORITY
        assert session.get(f"{HTTPS}/hello").text == "hello"
        assert session.get(f"{HTTPS}/requests").text == "2"


@probe(raises=requests.exceptions.SSLError)
def tls_of_an_unknown_authority() -> None:
    requests.get(f"{HTTPS}/hello", timeout=10)


@probe(raises=requests.exceptions.RetryError)
def retried() -> None:
    with requests.Session() as session:
        retries = Retry(total=2, backoff_factor=0.05, status_forcelist=[503])
        session.mount("http://", HTTPAdapter(max_retries=retries))
        session.get(f"{HTTP}/error")


@probe(raises=requests.ConnectionError)
def refused() -> None:
    requests.get(f"http://127.0.0.1:{servers.refused}/", timeout=10)


@probe(raises=requests.ReadTimeout)
def read_timeout() -> None:
    requests.get(f"{HTTP}/never", timeout=(5, 0.2))


@probe(raises=requests.ConnectionError)
def read_timeout_in_the_body() -> None:
    with requests.get(f"{HTTP}/trickle", stream=True, timeout=0.3) as response:
        assert list(response.iter_lines()) == []


@probe(raises=requests.ConnectTimeout)
def connect_timeout() -> None:
    requests.get(f"http://127.0.0.1:{servers.full}/", timeout=0.2)


@probe(slow=True)
def slow() -> None:
    assert shared.get(f"{HTTP}/slow", timeout=10).text == "slow"


@probe(slow=True)
def slow_over_tls() -> None:
    assert shared.get(f"{HTTPS}/slow", timeout=10, verify=AUTHORITY).text == "slow"
