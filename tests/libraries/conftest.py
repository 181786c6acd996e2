"""The servers, their certificates, and where the results go."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from servers import (  # noqa: F401
    ftp,
    imap,
    mariadb,
    nginx,
    pop3,
    postgresql,
    redis,
    s3,
    smtp,
    ssh,
    websocket,
)


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """Paths of a private authority (`authority`), and of what a server called localhost needs."""
    trustme = pytest.importorskip("trustme", reason="trustme is not installed")
    directory = tmp_path_factory.mktemp("certificates")
    made = SimpleNamespace(
        authority=directory / "authority",
        certificate=directory / "certificate",
        key=directory / "key",
    )
    authority = trustme.CA()
    server = authority.issue_cert("localhost", "127.0.0.1")
    authority.cert_pem.write_to_path(str(made.authority))
    server.private_key_pem.write_to_path(str(made.key))
    for index, part in enumerate(server.cert_chain_pems):
        part.write_to_path(str(made.certificate), append=index > 0)
    return made


@pytest.fixture(scope="session")
def results() -> Iterator[dict[str, Any]]:
    """What the table of docs/compatibility.md is made from: checks by library and mode.

    Written to the file that VERDIGRIS_COMPATIBILITY names.
    """
    found: dict[str, Any] = {}
    yield found
    if "VERDIGRIS_COMPATIBILITY" in os.environ:
        file = Path(os.environ["VERDIGRIS_COMPATIBILITY"])
        file.write_text(json.dumps(found, indent=1, sort_keys=True) + "\n")
