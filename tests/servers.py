"""Servers for the tests: each on loopback, on a free port, for one session of pytest.

A server that is not installed skips the tests that ask for it, by its name.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from server_processes import NotInstalled, postgresql_server

# --- PostgreSQL --------------------------------------------------------------


@pytest.fixture(scope="session")
def postgresql() -> Iterator[str]:
    """The address of a PostgreSQL server."""
    try:
        with postgresql_server() as address:
            yield address
    except NotInstalled as missing:
        pytest.skip(str(missing))
