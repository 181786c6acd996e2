"""A WebSocket server that gives back what it gets, plainly and with TLS.

websocket_echo.py PORT TLS_PORT CERTIFICATE KEY

Giving back "slow" takes 0.3 s; for "never" it never comes.
"""

from __future__ import annotations

import asyncio
import ssl
import sys

from websockets.asyncio.server import ServerConnection, serve


async def echo(connection: ServerConnection) -> None:
    async for message in connection:
        if message == "slow":
            await asyncio.sleep(0.3)
        if message != "never":
            await connection.send(message)


async def main(port: str, tls_port: str, certificate: str, key: str) -> None:
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(certificate, key)
    async with (
        serve(echo, "127.0.0.1", int(port)),
        serve(echo, "127.0.0.1", int(tls_port), ssl=tls),
    ):
        await asyncio.Event().wait()


asyncio.run(main(*sys.argv[1:]))
