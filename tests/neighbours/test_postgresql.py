"""A PostgreSQL server through asyncpg: by SQLAlchemy in both directions, and without it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest

asyncpg = pytest.importorskip("asyncpg", reason="asyncpg is not installed")
pytest.importorskip("sqlalchemy", reason="sqlalchemy is not installed")
pytest.importorskip("greenlet", reason="greenlet is not installed")

from sqlalchemy import Engine, create_engine, event, select, text  # noqa: E402
from sqlalchemy.exc import IntegrityError, ProgrammingError  # noqa: E402
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine  # noqa: E402
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column  # noqa: E402
from sqlalchemy.util import await_only, greenlet_spawn  # noqa: E402

from verdigris import async_context, async_def, await_  # noqa: E402
from verdigris.compat.awaitlet import awaitlet  # noqa: E402

from .conftest import Entry  # noqa: E402

# What the server calls the connections of the engines here.
NAMED = {"server_settings": {"application_name": "program"}}
OURS = "select from pg_stat_activity where application_name = 'program'"
CONNECTED = f"select exists ({OURS})"
SLEEPING = f"select exists ({OURS} and wait_event = 'PgSleep')"


class Base(DeclarativeBase):
    pass


class Item(Base):
    __tablename__ = "item"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)


@pytest.fixture
def url(postgresql: str) -> str:
    return postgresql.replace("postgresql:", "postgresql+asyncpg:")


async def until(address: str, query: str, wanted: bool) -> None:
    """Asks the server on a connection apart, until it says so."""
    connection = await asyncpg.connect(address)
    try:
        async with asyncio.timeout(60):
            while await connection.fetchval(query) is not wanted:
                await asyncio.sleep(0.01)
    finally:
        await connection.close()


@contextlib.asynccontextmanager
async def engine_of(address: str, **options: Any) -> AsyncIterator[Engine]:
    """A synchronous engine for the tasks of a test, which give all connections back."""
    url = address.replace("postgresql:", "postgresql+asyncpg:")
    engine = create_engine(url, connect_args=NAMED, **options)
    try:
        yield engine
        assert engine.pool.checkedout() == 0  # type: ignore[attr-defined]
    finally:
        await async_def(engine.dispose)
    await until(address, CONNECTED, False)


@contextlib.asynccontextmanager
async def items_in(address: str, **options: Any) -> AsyncIterator[Engine]:
    async with engine_of(address, **options) as engine:
        await async_def(Base.metadata.create_all, engine)
        try:
            yield engine
        finally:
            await async_def(Base.metadata.drop_all, engine)


# --- a synchronous engine ----------------------------------------------------


def program(engine: Engine, name: str) -> list[str]:
    """Nothing in it knows that the driver is async."""
    with Session(engine) as session:
        session.add_all([Item(name=f"{name} {n}") for n in range(3)])
        session.commit()
        session.add(Item(name=f"{name}, undone"))
        session.flush()
        session.rollback()
        ours = select(Item).where(Item.name.startswith(name)).order_by(Item.id)
        return [item.name for item in session.scalars(ours)]


def test_sessions_of_a_synchronous_engine(
    aio: Any, sqlalchemys_way: str, entry: Entry, postgresql: str
) -> None:
    names = [f"<{n}>" for n in range(20)]

    async def main() -> list[list[str]]:
        async with items_in(postgresql) as engine:
            return await asyncio.gather(*(entry(program, engine, name) for name in names))

    assert aio.run(main) == [[f"{name} {n}" for n in range(3)] for name in names]


def test_hundreds_of_tasks_share_a_pool(
    aio: Any, sqlalchemys_way: str, entry: Entry, postgresql: str
) -> None:
    def doubled(engine: Engine, n: int) -> tuple[int, int]:
        with engine.connect() as connection:
            query = text("select :n * 2, pg_backend_pid() from pg_sleep(0.001)")
            return tuple(connection.execute(query, {"n": n}).one())

    async def main() -> list[tuple[int, int]]:
        async with engine_of(postgresql, pool_size=10, max_overflow=0) as engine:
            results = await asyncio.gather(*(entry(doubled, engine, n) for n in range(300)))
            assert engine.pool.checkedin() == 10  # type: ignore[attr-defined]
        return results

    results = aio.run(main)
    assert [result for result, _ in results] == [2 * n for n in range(300)]
    assert len({server for _, server in results}) == 10


def test_a_result_is_streamed_while_another_task_asks(
    aio: Any, sqlalchemys_way: str, entry: Entry, postgresql: str
) -> None:
    def stream(engine: Engine, begun: asyncio.Event, go_on: asyncio.Event) -> list[int]:
        seen = []
        query = text("select generate_series(1, 1000)").execution_options(yield_per=100)
        with engine.connect() as connection:
            for n in connection.scalars(query):
                seen.append(n)
                if n == 250:
                    # The server has kept the rest.
                    kept = "select count(*) from pg_cursors where name <> ''"
                    assert connection.scalar(text(kept)) == 1
                    begun.set()
                    await_(go_on.wait())
        return seen

    def ask(engine: Engine, begun: asyncio.Event, go_on: asyncio.Event) -> int:
        await_(begun.wait())
        with engine.connect() as connection:
            answer: int = connection.scalar(text("select 42"))
        go_on.set()
        return answer

    async def main() -> Any:
        begun, go_on = asyncio.Event(), asyncio.Event()
        async with engine_of(postgresql) as engine:
            return await asyncio.gather(*(entry(f, engine, begun, go_on) for f in (stream, ask)))

    assert aio.run(main) == [list(range(1, 1001)), 42]


def test_errors_of_the_server_are_sqlalchemys(
    aio: Any, sqlalchemys_way: str, entry: Entry, postgresql: str
) -> None:
    def twice(engine: Engine) -> str:
        with Session(engine) as session:
            session.add_all([Item(name="tea"), Item(name="tea")])
            with pytest.raises(IntegrityError) as unique:
                session.commit()
            assert unique.value.orig.sqlstate == "23505"  # type: ignore[union-attr]
            session.rollback()
            with pytest.raises(ProgrammingError, match='relation "nothing" does not exist'):
                session.execute(text("select * from nothing"))
            session.rollback()
            return str(session.scalar(text("select 'goes on'")))

    async def main() -> str:
        async with items_in(postgresql) as engine:
            return str(await entry(twice, engine))

    assert aio.run(main) == "goes on"


def sleep(connection: Any) -> None:
    connection.execute(text("select pg_sleep(3600)"))


async def cancelled_in_the_middle(address: str, task: asyncio.Task[Any]) -> None:
    await until(address, SLEEPING, True)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert task.cancelled()
    await until(address, SLEEPING, False)


def test_cancelled_in_the_middle_of_a_query(
    aio: Any, sqlalchemys_way: str, entry: Entry, postgresql: str
) -> None:
    def sleeps(engine: Engine) -> None:
        with engine.begin() as connection:
            sleep(connection)

    def asks(engine: Engine) -> Any:
        with engine.begin() as connection:
            return connection.scalar(text("select 42"))

    async def main() -> Any:
        async with engine_of(postgresql, pool_size=1, max_overflow=0) as engine:
            task = asyncio.create_task(entry(sleeps, engine))
            await cancelled_in_the_middle(postgresql, task)
            return await asyncio.gather(*(entry(asks, engine) for _ in range(3)))

    assert aio.run(main) == [42, 42, 42]


# --- SQLAlchemy's asyncio extension ------------------------------------------


def test_async_sessions_of_plain_tasks(aio: Any, sqlalchemys_way: str, url: str) -> None:
    async def one(engine: Any, name: str) -> list[str]:
        async with AsyncSession(engine) as session:
            session.add(Item(name=name))
            await session.commit()
        async with AsyncSession(engine) as session:
            streamed = await session.stream_scalars(select(Item).where(Item.name == name))
            return [item.name async for item in streamed]

    async def main() -> list[list[str]]:
        engine = create_async_engine(url)
        async with engine.begin() as connection:
            await connection.run_sync(Base.metadata.create_all)
        try:
            return await asyncio.gather(*(one(engine, f"<{n}>") for n in range(20)))
        finally:
            async with engine.begin() as connection:
                await connection.run_sync(Base.metadata.drop_all)
            await engine.dispose()

    assert aio.run(main) == [[f"<{n}>"] for n in range(20)]


def test_an_async_connection_cancelled_in_the_middle_of_a_query(
    aio: Any, sqlalchemys_way: str, postgresql: str, url: str
) -> None:
    async def sleeps(engine: Any) -> None:
        async with engine.begin() as connection:
            await connection.run_sync(sleep)

    async def main() -> Any:
        engine = create_async_engine(url, pool_size=1, max_overflow=0, connect_args=NAMED)
        await cancelled_in_the_middle(postgresql, asyncio.create_task(sleeps(engine)))
        async with engine.connect() as connection:
            answer = await connection.scalar(text("select 42"))
        assert engine.pool.checkedout() == 0  # type: ignore[attr-defined]
        await engine.dispose()
        return answer

    assert aio.run(main) == 42


def each_way_to_ask(driver: Any) -> list[Any]:
    """Asks by the driver's own connection."""
    ways = {"ours": await_, "awaitlet's": awaitlet, "theirs": await_only}
    return [wait(driver.fetchval("select $1", name)) for name, wait in ways.items()]


@pytest.mark.parametrize("spawn", [greenlet_spawn, async_def])
def test_each_way_to_wait_for_the_driver(
    aio: Any, sqlalchemys_way: str, postgresql: str, spawn: Any
) -> None:
    async def main() -> Any:
        driver = await asyncpg.connect(postgresql)
        try:
            return await spawn(each_way_to_ask, driver)
        finally:
            await driver.close()

    assert aio.run(main) == ["ours", "awaitlet's", "theirs"]


def test_each_way_to_wait_in_run_sync_and_in_a_hook_of_the_pool(
    aio: Any, sqlalchemys_way: str, url: str
) -> None:
    seen: list[Any] = []

    async def main() -> Any:
        engine = create_async_engine(url)

        @event.listens_for(engine.sync_engine, "connect")
        def connected(connection: Any, _: object) -> None:
            seen.append(each_way_to_ask(connection.driver_connection))

        async with engine.connect() as connection:
            result = await connection.run_sync(
                lambda sync: each_way_to_ask(sync.connection.driver_connection)
            )
        await engine.dispose()
        return result

    assert aio.run(main) == ["ours", "awaitlet's", "theirs"]
    assert seen == [["ours", "awaitlet's", "theirs"]]


# --- without SQLAlchemy ------------------------------------------------------


def test_asyncpg_in_a_plain_function(aio: Any, entry: Entry, postgresql: str) -> None:
    def orders() -> list[str]:
        connection = await_(asyncpg.connect(postgresql))
        try:
            await_(connection.execute("create temporary table item (name text)"))
            with async_context(connection.transaction()):
                await_(connection.execute("insert into item values ('tea')"))
            with contextlib.suppress(KeyError), async_context(connection.transaction()):
                await_(connection.execute("insert into item values ('salt')"))
                raise KeyError("no salt")
            return [row["name"] for row in await_(connection.fetch("select name from item"))]
        finally:
            await_(connection.close())

    async def main() -> Any:
        return await asyncio.gather(*(entry(orders) for _ in range(5)))

    assert aio.run(main) == [["tea"]] * 5
