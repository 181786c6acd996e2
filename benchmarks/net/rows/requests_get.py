"""GETs with requests: a session for each worker, as a session is not for several threads."""

from __future__ import annotations

from typing import TYPE_CHECKING

from net.row import Row, Work
from net.rows.aiohttp_get import native

if TYPE_CHECKING:
    import requests


def _sync(address: str) -> Work:
    import requests

    def open_session() -> requests.Session:
        session = requests.Session()
        run(session, 1)
        return session

    def run(session: requests.Session, count: int) -> None:
        for _ in range(count):
            session.get(address).raise_for_status()

    return Work(run, open_session)


ROW = Row(
    name="requests",
    title="requests: GET",
    server="nginx",
    count=2000,
    workers=100,
    sync=_sync,
    native=native,
    native_name="aiohttp",
    distributions=("requests", "aiohttp"),
)
