"""GETs with urllib3: one pool for all workers, with a connection for each."""

from __future__ import annotations

from typing import TYPE_CHECKING

from net.row import Row, Work
from net.rows.aiohttp_get import native

if TYPE_CHECKING:
    import urllib3

WORKERS = 100


def _sync(address: str) -> Work:
    import urllib3

    pool: urllib3.PoolManager | None = None

    def open_pool() -> urllib3.PoolManager:
        nonlocal pool
        if pool is None:
            pool = urllib3.PoolManager(maxsize=WORKERS, block=True)
        run(pool, 1)
        return pool

    def run(pool: urllib3.PoolManager, count: int) -> None:
        for _ in range(count):
            response = pool.request("GET", address)
            if response.status != 200:
                raise RuntimeError(f"nginx answered {response.status}")

    return Work(run, open_pool)


ROW = Row(
    name="urllib3",
    title="urllib3: GET",
    server="nginx",
    count=4000,
    workers=WORKERS,
    sync=_sync,
    native=native,
    native_name="aiohttp",
    distributions=("urllib3", "aiohttp"),
)
