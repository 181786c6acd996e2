"""GETs with aiohttp: one session, as it asks for. The counterpart of requests and of urllib3."""

from __future__ import annotations

from typing import TYPE_CHECKING

from net.row import Work

if TYPE_CHECKING:
    import aiohttp


def native(address: str) -> Work:
    """The async workers for the two rows."""
    import aiohttp

    session: aiohttp.ClientSession | None = None

    async def open_session() -> aiohttp.ClientSession:
        nonlocal session
        if session is None:
            session = aiohttp.ClientSession(raise_for_status=True)
        await run(session, 1)
        return session

    async def run(session: aiohttp.ClientSession, count: int) -> None:
        for _ in range(count):
            async with session.get(address) as response:
                await response.read()

    return Work(run, open_session)
