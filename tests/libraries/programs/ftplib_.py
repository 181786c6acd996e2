"""`ftplib`."""

import ftplib
import ssl
import uuid
from io import BytesIO

from libraries.probe import probe, servers

HOST, PORT = servers.ftp["host"], servers.ftp["port"]
CONTEXT = ssl.create_default_context(cafile=servers.certificates["authority"])
BODY = bytes(range(256)) * 4000


def connect(timeout: float = 10) -> ftplib.FTP:
    ftp = ftplib.FTP(timeout=timeout)
    ftp.connect(HOST, PORT)
    ftp.login()
    return ftp


def there_and_back(ftp: ftplib.FTP) -> None:
    name = uuid.uuid4().hex
    got = BytesIO()
    ftp.storbinary(f"STOR {name}", BytesIO(BODY))
    assert ftp.size(name) == len(BODY)
    assert name in ftp.nlst()
    ftp.retrbinary(f"RETR {name}", got.write)
    ftp.delete(name)
    assert got.getvalue() == BODY


@probe
def passive() -> None:
    with connect() as ftp:
        there_and_back(ftp)


@probe
def active() -> None:
    with connect() as ftp:
        ftp.set_pasv(False)
        there_and_back(ftp)


@probe
def tls() -> None:
    with ftplib.FTP_TLS(context=CONTEXT, timeout=10) as ftp:
        ftp.connect(HOST, PORT)
        ftp.login()
        ftp.prot_p()
        there_and_back(ftp)


@probe(raises=ftplib.error_perm)
def error_of_the_server() -> None:
    with connect() as ftp:
        ftp.cwd("nowhere")


@probe(raises=ConnectionRefusedError)
def refused() -> None:
    ftplib.FTP().connect("127.0.0.1", servers.refused)


@probe(raises=TimeoutError)
def read_timeout() -> None:
    with connect(timeout=0.2) as ftp:
        try:
            ftp.sendcmd("SLOW")
        finally:
            ftp.close()


@probe(slow=True)
def slow() -> None:
    with connect() as ftp:
        assert ftp.sendcmd("SLOW") == "200 slow"
