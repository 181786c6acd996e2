"""`poplib`."""

import poplib
import ssl

from libraries.probe import probe, servers

HOST, PORT, TLS_PORT = (servers.pop3[name] for name in ("host", "port", "tls_port"))
CONTEXT = ssl.create_default_context(cafile=servers.certificates["authority"])


def read(box: poplib.POP3) -> None:
    box.user("user")
    box.pass_("password")
    assert box.stat() == (2, 100)
    assert box.retr(2)[1] == [b"Subject: two", b"", b"second"]
    box.quit()


@probe
def plain() -> None:
    read(poplib.POP3(HOST, PORT, timeout=10))


@probe
def starttls() -> None:
    box = poplib.POP3(HOST, PORT, timeout=10)
    box.stls(CONTEXT)
    read(box)


@probe
def tls() -> None:
    read(poplib.POP3_SSL(HOST, TLS_PORT, context=CONTEXT, timeout=10))


@probe(raises=ConnectionRefusedError)
def refused() -> None:
    poplib.POP3("127.0.0.1", servers.refused)


@probe(raises=TimeoutError)
def read_timeout() -> None:
    box = poplib.POP3(HOST, PORT, timeout=0.2)
    try:
        box.noop()
    finally:
        box.close()


@probe(slow=True)
def slow() -> None:
    box = poplib.POP3(HOST, PORT, timeout=10)
    try:
        assert box.noop() == b"+OK slow"
    finally:
        box.close()
