"""SQLAlchemy's asyncio extension as it is, and by `patch_sqlalchemy`.

Over aiosqlite, which asks a thread for each statement: what the patch saves is a part of that.
`run_sync` of a function that does nothing is the mediation layer alone.
"""

from __future__ import annotations

import contextlib
import importlib.util
from collections.abc import Awaitable, Callable, Coroutine
from time import perf_counter_ns
from typing import Any

from measure import Case, Contender, with_own_code
from peers import OURS, Peer

AS_IT_IS, PATCHED = "as it is", "patch_sqlalchemy"
URL = "sqlite+aiosqlite:///:memory:"

# Makes the work out of a connection of AsyncEngine.
Work = Callable[[Any], Callable[[], Awaitable[Any]]]


def _run_sync(connection: Any) -> Callable[[], Awaitable[Any]]:
    def nothing(_: Any) -> None:
        pass

    return lambda: connection.run_sync(nothing)


def _execute(connection: Any) -> Callable[[], Awaitable[Any]]:
    from sqlalchemy import text

    select = text("select 1")
    return lambda: connection.scalar(select)


def _session(connection: Any) -> Callable[[], Awaitable[Any]]:
    from sqlalchemy import text
    from sqlalchemy.ext.asyncio import AsyncSession

    select = text("select 1")

    async def work() -> None:
        async with AsyncSession(connection) as session:
            await session.scalar(select)

    return work


def _timed(work: Work, patched: bool) -> Callable[[int], Coroutine[Any, Any, int]]:
    async def timed(count: int) -> int:
        from sqlalchemy.ext.asyncio import create_async_engine

        from verdigris import patch_sqlalchemy

        engine = create_async_engine(URL)
        with patch_sqlalchemy() if patched else contextlib.nullcontext():
            async with engine.connect() as connection:
                once = work(connection)
                started = perf_counter_ns()
                for _ in range(count):
                    await once()
                spent = perf_counter_ns() - started
        await engine.dispose()
        return spent

    return with_own_code(timed)


WORKS: dict[str, Work] = {
    "AsyncConnection.run_sync of nothing": _run_sync,
    "AsyncConnection.scalar, select 1": _execute,
    "AsyncSession with one select": _session,
}


def cases(peers: list[Peer]) -> list[Case]:
    found = all(importlib.util.find_spec(name) for name in ("sqlalchemy", "aiosqlite"))
    if not found or not any(peer.name == OURS for peer in peers):
        return []
    return [
        Case(
            row="sqlalchemy",
            title=f"SQLAlchemy: {title}",
            contenders=[
                Contender(AS_IT_IS, _timed(work, patched=False)),
                Contender(PATCHED, _timed(work, patched=True)),
            ],
            baseline=AS_IT_IS,
        )
        for title, work in WORKS.items()
    ]
