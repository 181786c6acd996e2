"""Redis GETs with redis-py: one client for all workers, whose pool gives a connection to each."""

from __future__ import annotations

from typing import TYPE_CHECKING

from net.peers import GREENLETIO
from net.row import Row, Work

if TYPE_CHECKING:
    import redis
    import redis.asyncio

KEY, VALUE = "greeting", b"hello, world"


def _sync(address: str) -> Work:
    import redis

    client: redis.Redis | None = None

    def open_client() -> redis.Redis:
        nonlocal client
        if client is None:
            client = redis.Redis.from_url(address)
        client.set(KEY, VALUE)
        run(client, 1)
        return client

    def run(client: redis.Redis, count: int) -> None:
        for _ in range(count):
            if client.get(KEY) != VALUE:
                raise RuntimeError("Redis gave another value")

    return Work(run, open_client)


def _native(address: str) -> Work:
    import redis.asyncio

    client: redis.asyncio.Redis | None = None

    async def open_client() -> redis.asyncio.Redis:
        nonlocal client
        if client is None:
            client = redis.asyncio.Redis.from_url(address)
        await client.set(KEY, VALUE)
        await run(client, 1)
        return client

    async def run(client: redis.asyncio.Redis, count: int) -> None:
        for _ in range(count):
            if await client.get(KEY) != VALUE:
                raise RuntimeError("Redis gave another value")

    return Work(run, open_client)


ROW = Row(
    name="redis",
    title="redis-py: GET",
    server="redis",
    count=12000,
    workers=100,
    sync=_sync,
    native=_native,
    native_name="redis.asyncio",
    cannot={
        GREENLETIO: "redis-py asks with timeout 0 for stray bytes, and greenletio waits for them"
    },
    distributions=("redis",),
)
