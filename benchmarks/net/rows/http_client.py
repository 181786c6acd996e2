"""GETs with http.client, a connection for each worker, beside the bare streams of asyncio."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from net.row import Row, Work

if TYPE_CHECKING:
    import asyncio
    import http.client


def _sync(address: str) -> Work:
    import http.client

    host = urlsplit(address).netloc

    def connect() -> http.client.HTTPConnection:
        connection = http.client.HTTPConnection(host)
        run(connection, 1)
        return connection

    def run(connection: http.client.HTTPConnection, count: int) -> None:
        for _ in range(count):
            connection.request("GET", "/")
            response = connection.getresponse()
            response.read()
            if response.status != 200:
                raise RuntimeError(f"nginx answered {response.status}")

    return Work(run, connect)


def _native(address: str) -> Work:
    import asyncio

    url = urlsplit(address)
    request = f"GET / HTTP/1.1\r\nHost: {url.netloc}\r\nAccept-Encoding: identity\r\n\r\n".encode()

    async def connect() -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        streams = await asyncio.open_connection(url.hostname, url.port)
        await run(streams, 1)
        return streams

    async def run(streams: tuple[asyncio.StreamReader, asyncio.StreamWriter], count: int) -> None:
        reader, writer = streams
        for _ in range(count):
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            if not head.startswith(b"HTTP/1.1 200 "):
                raise RuntimeError(f"nginx answered {head!r}")
            _, _, rest = head.lower().partition(b"\r\ncontent-length:")
            await reader.readexactly(int(rest.partition(b"\r\n")[0]))

    return Work(run, connect)


ROW = Row(
    name="http.client",
    title="http.client: GET",
    server="nginx",
    count=10000,
    workers=100,
    sync=_sync,
    native=_native,
    native_name="asyncio streams",
)
