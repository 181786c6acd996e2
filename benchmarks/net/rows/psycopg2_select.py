"""`select 1` with psycopg2, a connection for each worker, beside asyncpg."""

from __future__ import annotations

from typing import TYPE_CHECKING

from net.row import Row, Work

if TYPE_CHECKING:
    import asyncpg  # type: ignore[import-untyped]
    from psycopg2.extensions import (  # type: ignore[import-untyped]
        connection as Connection,
    )


def _sync(address: str) -> Work:
    import psycopg2  # type: ignore[import-untyped]

    def connect() -> Connection:
        connection = psycopg2.connect(address)
        connection.autocommit = True
        run(connection, 1)
        return connection

    def run(connection: Connection, count: int) -> None:
        with connection.cursor() as cursor:
            for _ in range(count):
                cursor.execute("select 1")
                if cursor.fetchone() != (1,):
                    raise RuntimeError("PostgreSQL gave another row")

    return Work(run, connect)


def _native(address: str) -> Work:
    import asyncpg

    async def connect() -> asyncpg.Connection:
        connection = await asyncpg.connect(address)
        await run(connection, 1)
        return connection

    async def run(connection: asyncpg.Connection, count: int) -> None:
        for _ in range(count):
            if await connection.fetchval("select 1") != 1:
                raise RuntimeError("PostgreSQL gave another row")

    return Work(run, connect)


ROW = Row(
    name="psycopg2",
    title="psycopg2: select 1",
    server="postgresql",
    count=30000,
    workers=50,
    sync=_sync,
    native=_native,
    native_name="asyncpg",
    driver="psycopg2",
    distributions=("psycopg2-binary", "asyncpg"),
)
