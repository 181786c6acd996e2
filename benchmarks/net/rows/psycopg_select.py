"""`select 1` with psycopg 3, a connection for each worker, beside its own AsyncConnection."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from net.peers import GREENLETIO
from net.row import Row, Work

if TYPE_CHECKING:
    import psycopg


def _sync(address: str) -> Work:
    import psycopg

    def connect() -> psycopg.Connection[Any]:
        connection = psycopg.connect(address, autocommit=True)
        run(connection, 1)
        return connection

    def run(connection: psycopg.Connection[Any], count: int) -> None:
        for _ in range(count):
            if connection.execute("select 1").fetchone() != (1,):
                raise RuntimeError("PostgreSQL gave another row")

    return Work(run, connect)


def _native(address: str) -> Work:
    import psycopg

    async def connect() -> psycopg.AsyncConnection[Any]:
        connection = await psycopg.AsyncConnection.connect(address, autocommit=True)
        await run(connection, 1)
        return connection

    async def run(connection: psycopg.AsyncConnection[Any], count: int) -> None:
        for _ in range(count):
            cursor = await connection.execute("select 1")
            if await cursor.fetchone() != (1,):
                raise RuntimeError("PostgreSQL gave another row")

    return Work(run, connect)


ROW = Row(
    name="psycopg",
    title="psycopg 3: select 1",
    server="postgresql",
    count=12000,
    workers=50,
    sync=_sync,
    native=_native,
    native_name="AsyncConnection",
    driver="psycopg",
    cannot={GREENLETIO: "psycopg's C code waits by itself, and blocks greenletio's loop"},
    distributions=("psycopg", "psycopg-binary"),
)
