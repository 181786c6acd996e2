"""`imaplib`."""

import imaplib
import ssl

from libraries.probe import probe, servers

HOST, PORT, TLS_PORT = (servers.imap[name] for name in ("host", "port", "tls_port"))
CONTEXT = ssl.create_default_context(cafile=servers.certificates["authority"])


def read(box: imaplib.IMAP4) -> None:
    box.login("user", "password")
    assert box.select() == ("OK", [b"2"])
    assert box.search(None, "ALL") == ("OK", [b"1 2"])
    _, parts = box.fetch("2", "(RFC822)")
    assert parts[0] is not None
    assert parts[0][1] == b"Subject: two\r\n\r\nsecond\r\n"


@probe
def plain() -> None:
    with imaplib.IMAP4(HOST, PORT, timeout=10) as box:
        read(box)


@probe
def starttls() -> None:
    with imaplib.IMAP4(HOST, PORT, timeout=10) as box:
        box.starttls(CONTEXT)
        read(box)


@probe
def tls() -> None:
    with imaplib.IMAP4_SSL(HOST, TLS_PORT, ssl_context=CONTEXT, timeout=10) as box:
        read(box)


@probe(raises=ConnectionRefusedError)
def refused() -> None:
    imaplib.IMAP4("127.0.0.1", servers.refused)


@probe(raises=TimeoutError)
def read_timeout() -> None:
    imaplib.IMAP4(HOST, TLS_PORT, timeout=0.2)  # which waits for the client to speak


@probe(slow=True)
def slow() -> None:
    # Not `with`: that says LOGOUT before it closes. Trio cancels every wait of a cancelled task,
    # that for the answer too, and imaplib closes after none but an OSError.
    box = imaplib.IMAP4(HOST, PORT, timeout=10)
    try:
        box.login("user", "password")
        box.select()
        assert box.search(None, "SUBJECT", "slow") == ("OK", [b"1 2"])
    finally:
        box.shutdown()
