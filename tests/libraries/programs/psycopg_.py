"""psycopg 3."""

import threading
from typing import Any

import psycopg
from psycopg.rows import dict_row

from libraries.probe import probe, servers


def connect(**options: Any) -> Any:
    return psycopg.connect(servers.postgresql, **options)


@probe
def select() -> None:
    with connect() as db:
        assert db.execute("select %s::int + 1, %s::text", (41, "text")).fetchone() == (42, "text")


@probe
def rows() -> None:
    with connect(row_factory=dict_row) as db, db.cursor() as cursor:
        cursor.execute("create temp table item (id serial primary key, name text)")
        cursor.executemany(
            "insert into item (name) values (%s)", [(f"name {n}",) for n in range(200)]
        )
        found = cursor.execute("select count(*) as many, max(id) as last from item").fetchone()
        assert found == {"many": 200, "last": 200}


@probe
def large_result() -> None:
    with connect() as db:
        (text,) = db.execute("select repeat('x', 2000000)").fetchone()
        assert len(text) == 2_000_000


@probe
def server_side_cursor() -> None:
    with connect() as db, db.cursor("named") as cursor:
        cursor.itersize = 100
        cursor.execute("select generate_series(1, 1000)")
        assert sum(number for (number,) in cursor) == 500_500


@probe
def copy() -> None:
    with connect() as db, db.cursor() as cursor:
        cursor.execute("create temp table item (name text)")
        with cursor.copy("copy item from stdin") as copy:
            for number in range(1000):
                copy.write_row([f"name {number}"])
        with cursor.copy("copy item to stdout") as copy:
            assert len(list(copy.rows())) == 1000


@probe
def pipeline() -> None:
    with connect() as db, db.pipeline():
        cursors = [db.execute("select %s::int", (number,)) for number in range(20)]
        assert [cursor.fetchone()[0] for cursor in cursors] == list(range(20))


@probe
def notification() -> None:
    with connect(autocommit=True) as db:
        db.execute("listen channel")
        db.execute("notify channel, 'word'")
        for notice in db.notifies(timeout=5, stop_after=1):
            assert notice.payload == "word"
            break
        else:
            raise AssertionError("no notification")
        assert list(db.notifies(timeout=0.1)) == []


@probe
def one_connection_of_several_threads() -> None:
    found = []
    with connect() as db:

        def work(number: int) -> None:
            found.append(db.execute("select %s::int", (number,)).fetchone()[0])

        workers = [threading.Thread(target=work, args=(number,)) for number in range(4)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
    assert sorted(found) == [0, 1, 2, 3]


@probe(raises=psycopg.errors.UniqueViolation)
def error_of_the_server() -> None:
    with connect() as db:
        db.execute("create temp table one (id int primary key)")
        db.execute("insert into one values (1), (1)")


@probe(raises=psycopg.errors.QueryCanceled)
def statement_timeout() -> None:
    with connect(options="-c statement_timeout=200") as db:
        db.execute("select pg_sleep(5)")


@probe(raises=psycopg.OperationalError)
def refused() -> None:
    psycopg.connect(host="127.0.0.1", port=servers.refused, user="postgres")


@probe(raises=psycopg.errors.ConnectionTimeout)
def connect_timeout() -> None:
    # psycopg takes no less than 2 s.
    psycopg.connect(host="127.0.0.1", port=servers.full, user="postgres", connect_timeout=2)


@probe(slow=True)
def slow() -> None:
    with connect() as db:
        assert db.execute("select pg_sleep(0.3), 'slow'").fetchone()[1] == "slow"
