"""The servers, and where the results go."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from certificates import certificates  # noqa: F401
from servers import (  # noqa: F401
    ftp,
    imap,
    mariadb,
    nginx,
    pop3,
    postgresql,
    rabbitmq,
    redis,
    s3,
    smtp,
    ssh,
    websocket,
)


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
