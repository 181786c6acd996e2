"""SQLAlchemy over a driver: the programs of `sqlalchemy_*` name it."""

import threading
import uuid
from typing import Any

from sqlalchemy import String, create_engine, func, select, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import IntegrityError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    Session,
    mapped_column,
    scoped_session,
    sessionmaker,
)

from libraries.probe import probe


class Base(DeclarativeBase):
    pass


class Item(Base):
    __tablename__ = f"item_{uuid.uuid4().hex[:8]}"
    id: Mapped[int] = mapped_column(primary_key=True)
    owner: Mapped[str] = mapped_column(String(40))
    name: Mapped[str] = mapped_column(String(40))


def note_probes(driver: str, address: str | URL, refused_port: int, sleep: str) -> None:
    """Notes the probes for a driver.

    Args:
        driver: SQLAlchemy's name of it, after that of the database.
        address: The database's.
        refused_port: Where nobody listens.
        sleep: A statement that takes 0.3 s.
    """
    url = make_url(address).set(drivername=driver)
    engine = create_engine(url, pool_size=5, max_overflow=10)

    @probe
    def core() -> None:
        with engine.connect() as connection:
            assert connection.execute(text("select 40 + 2")).scalar_one() == 42

    @probe
    def orm() -> None:
        Base.metadata.create_all(engine)
        owner = uuid.uuid4().hex
        with Session(engine) as session:
            session.add_all([Item(owner=owner, name=f"name {n}") for n in range(20)])
            session.commit()
            mine = select(Item).where(Item.owner == owner).order_by(Item.id)
            items = session.scalars(mine).all()
            assert [item.name for item in items] == [f"name {n}" for n in range(20)]
            items[0].name = "changed"
            session.delete(items[1])
            session.commit()
            assert items[0].name == "changed"  # loaded again: commit expired it
            assert session.scalar(select(func.count()).select_from(mine.subquery())) == 19

    @probe(raises=IntegrityError)
    def rolled_back() -> None:
        Base.metadata.create_all(engine)
        with Session(engine) as session, session.begin():
            session.add(Item(owner="", name="name"))
            session.flush()
            session.add(Item(owner=None, name="name"))

    @probe
    def session_of_each_thread() -> None:
        Base.metadata.create_all(engine)
        sessions = scoped_session(sessionmaker(engine))
        found: dict[str, list[str]] = {}
        ids = set()

        def work(owner: str) -> None:
            ids.add(id(sessions()))
            for number in range(3):
                sessions.add(Item(owner=owner, name=f"{number}"))
                sessions.flush()
            items = sessions.scalars(select(Item).where(Item.owner == owner).order_by(Item.id))
            found[owner] = [item.name for item in items]
            ready.wait(5)
            sessions.remove()

        owners = [uuid.uuid4().hex for _ in range(3)]
        ready = threading.Barrier(3)
        workers = [threading.Thread(target=work, args=(owner,)) for owner in owners]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        assert found == {owner: ["0", "1", "2"] for owner in owners}
        assert len(ids) == 3

    @probe(raises=PoolTimeout)
    def exhausted_pool() -> None:
        small = create_engine(url, pool_size=1, max_overflow=0, pool_timeout=0.2)
        try:
            with small.connect(), small.connect():
                pass
        finally:
            small.dispose()

    @probe
    def more_users_than_connections() -> None:
        small = create_engine(url, pool_size=2, max_overflow=0, pool_timeout=10)
        found: list[Any] = []

        def work(number: int) -> None:
            with small.connect() as connection:
                found.append(connection.execute(text(f"select {number}")).scalar_one())

        workers = [threading.Thread(target=work, args=(number,)) for number in range(8)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        small.dispose()
        assert sorted(found) == list(range(8))

    @probe(raises=OperationalError)
    def refused() -> None:
        create_engine(url.set(port=refused_port)).connect()

    @probe(slow=True)
    def slow() -> None:
        with engine.connect() as connection:
            connection.execute(text(sleep))
            assert connection.execute(text("select 42")).scalar_one() == 42
