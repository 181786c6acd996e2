"""`smtplib`."""

import smtplib
import ssl
from email.message import EmailMessage

from libraries.probe import probe, servers

HOST, PORT, TLS_PORT = (servers.smtp[name] for name in ("host", "port", "tls_port"))
CONTEXT = ssl.create_default_context(cafile=servers.certificates["authority"])


def message(to: str = "someone@example.com") -> EmailMessage:
    made = EmailMessage()
    made["From"], made["To"], made["Subject"] = "me@example.com", to, "word"
    made.set_content("line\n" * 1000)
    made.add_attachment(b"x" * 10_000, maintype="application", subtype="octet-stream")
    return made


@probe
def sent() -> None:
    with smtplib.SMTP(HOST, PORT, timeout=10) as server:
        assert server.send_message(message()) == {}


@probe
def what_it_says() -> None:
    with smtplib.SMTP(HOST, PORT, timeout=10) as server:
        server.ehlo()
        server.mail("me@example.com")
        server.rcpt("someone@example.com")
        assert server.data("line") == (250, b"6 bytes")


@probe
def starttls() -> None:
    with smtplib.SMTP(HOST, PORT, timeout=10) as server:
        assert server.starttls(context=CONTEXT)[0] == 220
        assert server.send_message(message()) == {}


@probe
def tls() -> None:
    with smtplib.SMTP_SSL(HOST, TLS_PORT, context=CONTEXT, timeout=10) as server:
        assert server.send_message(message()) == {}


@probe(raises=ssl.SSLCertVerificationError)
def tls_of_an_unknown_authority() -> None:
    smtplib.SMTP_SSL(HOST, TLS_PORT, context=ssl.create_default_context(), timeout=10)


@probe(raises=ConnectionRefusedError)
def refused() -> None:
    smtplib.SMTP("127.0.0.1", servers.refused)


@probe(raises=smtplib.SMTPServerDisconnected)
def read_timeout() -> None:
    smtplib.SMTP(HOST, TLS_PORT, timeout=0.2)  # which waits for the client to speak


@probe(slow=True)
def slow() -> None:
    # Not `with`: whatever ends it, that says QUIT, and takes the late answer for the answer to it.
    server = smtplib.SMTP(HOST, PORT, timeout=10)
    try:
        assert server.send_message(message("slow@example.com")) == {}
    finally:
        server.close()
