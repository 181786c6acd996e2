"""Certificates for tests of TLS, on loopback: good ones, and those that must be refused."""

from __future__ import annotations

import datetime
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

HOST = "localhost"


@dataclass(frozen=True)
class Certificates:
    """Files in PEM. Each server's holds its key and its chain.

    Attributes:
        authority: The certificate of the authority that clients trust.
        good: For HOST and 127.0.0.1.
        expired: For HOST, and no longer valid.
        self_signed: For HOST, signed by nobody else.
        wrong_host: Good, for another host.
        client: What a client shows.
        bad: The three that a client refuses, by name.
    """

    authority: Path
    good: Path
    expired: Path
    self_signed: Path
    wrong_host: Path
    client: Path

    @property
    def bad(self) -> dict[str, Path]:
        return {
            "expired": self.expired,
            "self_signed": self.self_signed,
            "wrong_host": self.wrong_host,
        }

    def client_context(self, certificate: Path | None = None) -> ssl.SSLContext:
        """A context that trusts the authority, and shows a certificate if one is given."""
        context = ssl.create_default_context(cafile=str(self.authority))
        if certificate:
            context.load_cert_chain(certificate)
        return context

    def server_context(self, certificate: Path | None = None) -> ssl.SSLContext:
        """A server's context, with the good certificate unless another one is given."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate or self.good)
        return context


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """An authority of this run's own, and what it signed."""
    trustme: Any = pytest.importorskip("trustme", reason="trustme is not installed")
    directory = tmp_path_factory.mktemp("certificates")
    authority = trustme.CA()
    (directory / "authority.pem").write_bytes(authority.cert_pem.bytes())

    def signed(name: str, *hosts: str, **validity: datetime.datetime) -> Path:
        leaf = authority.issue_cert(*hosts, **validity)
        return _written(directory / f"{name}.pem", leaf.private_key_and_cert_chain_pem.bytes())

    year = datetime.timedelta(days=365)
    now = datetime.datetime.now(datetime.UTC)
    return Certificates(
        authority=directory / "authority.pem",
        good=signed("good", HOST, "127.0.0.1"),
        expired=signed("expired", HOST, not_before=now - 2 * year, not_after=now - year),
        self_signed=_written(directory / "self_signed.pem", _self_signed(now, now + year)),
        wrong_host=signed("wrong_host", "elsewhere.example"),
        client=signed("client", "someone@client.example"),
    )


def _written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def _self_signed(begin: datetime.datetime, end: datetime.datetime) -> bytes:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, HOST)])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(end)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(HOST)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    secret = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return secret + certificate.public_bytes(serialization.Encoding.PEM)
