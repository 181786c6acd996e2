"""psycopg2."""

import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from io import StringIO
from typing import Any

import psycopg2
import psycopg2.extras
from psycopg2.pool import ThreadedConnectionPool

from libraries.probe import probe, servers


@contextmanager
def cursor(**options: Any) -> Iterator[Any]:
    # Not `with connection`: where the wait callback raised, psycopg2 has closed the connection,
    # and the rollback of that `with` raises InterfaceError in place of the cancellation.
    with (
        closing(psycopg2.connect(servers.postgresql, **options)) as connection,
        connection.cursor() as cursor,
    ):
        yield cursor


@probe
def select() -> None:
    with cursor() as db:
        db.execute("select %s::int + 1, %s", (41, "text"))
        assert db.fetchone() == (42, "text")


@probe
def rows() -> None:
    with cursor(cursor_factory=psycopg2.extras.RealDictCursor) as db:
        db.execute("create temp table item (id serial primary key, name text)")
        psycopg2.extras.execute_values(
            db, "insert into item (name) values %s", [(f"name {n}",) for n in range(500)]
        )
        db.execute("select count(*) as many, max(id) as last from item")
        assert dict(db.fetchone()) == {"many": 500, "last": 500}


@probe
def large_result() -> None:
    with cursor() as db:
        db.execute("select repeat('x', 2000000)")
        assert len(db.fetchone()[0]) == 2_000_000


@probe
def server_side_cursor() -> None:
    with (
        closing(psycopg2.connect(servers.postgresql)) as connection,
        connection,
        connection.cursor("named") as db,
    ):
        db.itersize = 100
        db.execute("select generate_series(1, 1000)")
        assert sum(number for (number,) in db) == 500_500


@probe
def notification() -> None:
    with cursor() as db:
        db.execute("listen channel; notify channel, 'word'")
        db.connection.commit()
        db.connection.poll()
        assert [notice.payload for notice in db.connection.notifies] == ["word"]


@probe
def pool_of_connections() -> None:
    pool = ThreadedConnectionPool(1, 4, servers.postgresql)
    found = []

    def work(number: int) -> None:
        connection = pool.getconn()
        try:
            with connection, connection.cursor() as db:
                db.execute("select %s", (number,))
                found.append(db.fetchone()[0])
        finally:
            pool.putconn(connection)

    workers = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    pool.closeall()
    assert sorted(found) == [0, 1, 2, 3]


@probe(raises=psycopg2.errors.UniqueViolation)
def error_of_the_server() -> None:
    with cursor() as db:
        db.execute("create temp table one (id int primary key)")
        db.execute("insert into one values (1), (1)")


@probe(raises=psycopg2.errors.QueryCanceled)
def statement_timeout() -> None:
    with cursor(options="-c statement_timeout=200") as db:
        db.execute("select pg_sleep(5)")


@probe(raises=psycopg2.OperationalError)
def refused() -> None:
    psycopg2.connect(host="127.0.0.1", port=servers.refused, user="postgres")


@probe
def copy() -> None:
    """psycopg2 refuses it where it waits by a callback: it says so, and the loop isn't blocked."""
    with cursor() as db:
        db.execute("create temp table item (name text)")
        try:
            db.copy_expert("copy item from stdin", StringIO("one\ntwo\n"))
        except psycopg2.ProgrammingError as error:
            assert "asynchronous" in str(error) or "green" in str(error) or "wait" in str(error)
            db.connection.rollback()
        else:
            db.execute("select count(*) from item")
            assert db.fetchone() == (2,)


@probe(slow=True)
def slow() -> None:
    with cursor() as db:
        db.execute("select pg_sleep(0.3), 'slow'")
        assert db.fetchone()[1] == "slow"


kept = ThreadedConnectionPool(0, 3, servers.postgresql)


@probe(slow=True)
def slow_on_a_kept_connection() -> None:
    connection = kept.getconn()
    broken = True
    try:
        with connection.cursor() as db:
            db.execute("select pg_sleep(0.3), 'slow'")
            assert db.fetchone()[1] == "slow"
        connection.commit()
        broken = False
    finally:
        kept.putconn(connection, close=broken)
