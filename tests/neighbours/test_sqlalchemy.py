"""SQLAlchemy over an async driver, in both directions, and patched."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from conftest import needs_native_stacks

sqlalchemy = pytest.importorskip("sqlalchemy", reason="sqlalchemy is not installed")
pytest.importorskip("aiosqlite", reason="aiosqlite is not installed")
pytest.importorskip("greenlet", reason="greenlet is not installed")

from sqlalchemy import create_engine, event, text  # noqa: E402
from sqlalchemy.exc import AwaitRequired, MissingGreenlet  # noqa: E402
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine  # noqa: E402
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column  # noqa: E402
from sqlalchemy.pool import StaticPool  # noqa: E402
from sqlalchemy.util import await_only, greenlet_spawn  # noqa: E402
from sqlalchemy.util.concurrency import in_greenlet  # noqa: E402

from verdigris import (  # noqa: E402
    async_def,
    await_,
    can_await,
    ensure_portal,
    patch_sqlalchemy,
    with_portal_run_tree,
)
from verdigris.compat.awaitlet import awaitlet  # noqa: E402

URL = "sqlite+aiosqlite:///:memory:"


class Base(DeclarativeBase):
    pass


class Item(Base):
    __tablename__ = "item"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]


def orm(name: str) -> list[str]:
    """A synchronous program: nothing in it knows that the driver is async."""
    engine = create_engine(URL, poolclass=StaticPool)
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        session.add_all([Item(name=f"{name} {n}") for n in range(3)])
        session.commit()
        names = [item.name for item in session.query(Item).order_by(Item.id)]
    engine.dispose()
    return names


def names_of(name: str) -> list[str]:
    return [f"{name} {n}" for n in range(3)]


def test_a_synchronous_program_in_async_def(aio: Any, sqlalchemys_way: str) -> None:
    async def main() -> list[list[str]]:
        return await asyncio.gather(*(async_def(orm, f"item {n}") for n in range(20)))

    assert aio.run(main) == [names_of(f"item {n}") for n in range(20)]


def test_a_synchronous_program_below_a_portal(aio: Any, sqlalchemys_way: str) -> None:
    async def task(name: str) -> list[str]:
        return orm(name)

    async def main() -> list[list[str]]:
        return await asyncio.gather(*(task(f"item {n}") for n in range(20)))

    assert aio.run(with_portal_run_tree, main) == [names_of(f"item {n}") for n in range(20)]


async def asynchronous(name: str) -> list[Any]:
    engine = create_async_engine(URL, poolclass=StaticPool)
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    async with AsyncSession(engine) as session:
        session.add_all([Item(name=f"{name} {n}") for n in range(3)])
        await session.commit()
        streamed = await session.stream_scalars(sqlalchemy.select(Item).order_by(Item.id))
        names = [item.name async for item in streamed]
    await engine.dispose()
    return names


@pytest.mark.parametrize("below", ["a plain task", "a portal", "async_def"])
def test_its_asyncio_extension(aio: Any, sqlalchemys_way: str, below: str) -> None:
    # In a task with a portal a greenlet of theirs lives from one native wait to the next.
    async def one(name: str) -> list[Any]:
        if below == "a portal":
            await ensure_portal()
        elif below == "async_def":
            return await async_def(lambda: await_(asynchronous(name)))
        return await asynchronous(name)

    async def main() -> list[list[Any]]:
        return await asyncio.gather(*(one(f"item {n}") for n in range(20)))

    assert aio.run(main) == [names_of(f"item {n}") for n in range(20)]


def ways_to_wait(sleep: Callable[..., Any]) -> tuple[Any, ...]:
    return (
        can_await(),
        await_(sleep(0, "ours")),
        awaitlet(sleep(0, "awaitlet's")),
        await_only(sleep(0, "theirs")),
    )


@pytest.mark.parametrize("spawn", [greenlet_spawn, async_def])
def test_each_way_to_wait_works_in_each_others_place(
    aio: Any, sqlalchemys_way: str, spawn: Any
) -> None:
    async def main() -> Any:
        return await spawn(ways_to_wait, asyncio.sleep)

    assert aio.run(main) == (True, "ours", "awaitlet's", "theirs")


@pytest.mark.parametrize("spawn", [greenlet_spawn, async_def])
def test_it_knows_where_it_can_wait(aio: Any, sqlalchemys_way: str, spawn: Any) -> None:
    # Where it can't, it cuts a connection off, and the server goes on with a cancelled query.
    async def main() -> Any:
        return await spawn(in_greenlet), in_greenlet()

    assert aio.run(main) == (True, False)


def test_waiting_in_run_sync_and_in_an_event_hook(aio: Any, sqlalchemys_way: str) -> None:
    seen: list[str] = []

    async def main() -> Any:
        engine = create_async_engine(URL)

        @event.listens_for(engine.sync_engine, "before_cursor_execute")
        def hook(*_: object) -> None:
            seen.append(await_(asyncio.sleep(0, "hook")))

        async with engine.connect() as connection:
            result = await connection.run_sync(
                lambda sync: (ways_to_wait(asyncio.sleep), sync.scalar(text("select 42")))
            )
        await engine.dispose()
        return result

    assert aio.run(main) == ((True, "ours", "awaitlet's", "theirs"), 42)
    assert seen == ["hook"]


def test_an_error_comes_out_where_it_belongs(aio: Any, sqlalchemys_way: str) -> None:
    async def fails() -> None:
        await asyncio.sleep(0)
        raise KeyError("driver")

    def function() -> str:
        with pytest.raises(KeyError):
            await_only(fails())
        raise ValueError("function")

    async def main() -> None:
        with pytest.raises(ValueError, match="function"):
            await greenlet_spawn(function)

    aio.run(main)


def test_cancelled_while_it_waits(aio: Any, sqlalchemys_way: str) -> None:
    seen: list[str] = []

    def function() -> None:
        try:
            await_only(asyncio.Event().wait())
        finally:
            seen.append("cleaned up")

    async def main() -> None:
        task = asyncio.create_task(greenlet_spawn(function))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    aio.run(main)
    assert seen == ["cleaned up"]


def test_where_nothing_can_wait_theirs_says_so(aio: Any, sqlalchemys_way: str) -> None:
    async def main() -> None:
        with pytest.raises(MissingGreenlet):
            await_only(asyncio.sleep(0))

    aio.run(main)


def test_a_wait_that_was_required(aio: Any, sqlalchemys_way: str) -> None:
    async def main() -> Any:
        with pytest.raises(AwaitRequired):
            await greenlet_spawn(lambda: None, _require_await=True)
        return await greenlet_spawn(ways_to_wait, asyncio.sleep, _require_await=True)

    assert aio.run(main)[3] == "theirs"


@needs_native_stacks
def test_the_patch_makes_no_greenlet_and_is_undone(aio: Any) -> None:
    from greenlet import getcurrent

    def parents() -> bool:
        return getcurrent().parent is not None

    async def in_a_greenlet() -> Any:
        return await greenlet_spawn(parents)

    code = greenlet_spawn.__code__
    assert aio.run(in_a_greenlet) is True
    with patch_sqlalchemy() as patch:
        assert patch_sqlalchemy() is patch
        assert aio.run(in_a_greenlet) is False
    assert aio.run(in_a_greenlet) is True
    assert greenlet_spawn.__code__ is code
    patch.undo()


def test_a_coroutine_that_was_made_before_the_patch_was_undone(aio: Any) -> None:
    async def main() -> Any:
        with patch_sqlalchemy():
            coroutine = greenlet_spawn(ways_to_wait, asyncio.sleep)
        return await coroutine

    assert aio.run(main)[3] == "theirs"


def test_a_series_that_is_not_known_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("verdigris._sqlalchemy._version", lambda: "3.0.1")
    with pytest.raises(RuntimeError, match=r"knows SQLAlchemy 2.0 and 2.1, and this is 3.0.1"):
        patch_sqlalchemy()
