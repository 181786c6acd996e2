"""Small messages, one by one, from a peer that answers after a pause: every read has to wait.

`system_calls.py` counts what that takes. There is one worker, so that no wait serves two.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from net.row import Row, Work

if TYPE_CHECKING:
    import asyncio
    import socket

QUESTION, ANSWER = b"?", b"a small message\n"


def _check(answer: bytes) -> None:
    if answer != ANSWER:
        raise RuntimeError(f"the peer answered {answer!r}")


def _sync(address: str) -> Work:
    import socket

    host, _, port = address.partition(":")

    def connect() -> socket.socket:
        connection = socket.create_connection((host, int(port)))
        run(connection, 1)
        return connection

    def run(connection: socket.socket, count: int) -> None:
        for _ in range(count):
            connection.sendall(QUESTION)
            _check(connection.recv(1024))

    return Work(run, connect)


def _native(address: str) -> Work:
    import asyncio

    host, _, port = address.partition(":")

    async def connect() -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        streams = await asyncio.open_connection(host, int(port))
        await run(streams, 1)
        return streams

    async def run(streams: tuple[asyncio.StreamReader, asyncio.StreamWriter], count: int) -> None:
        reader, writer = streams
        for _ in range(count):
            writer.write(QUESTION)
            _check(await reader.read(1024))

    return Work(run, connect)


ROW = Row(
    name="messages",
    title="a message after a pause",
    server="answering",
    count=500,
    workers=1,
    sync=_sync,
    native=_native,
    native_name="asyncio streams",
)
