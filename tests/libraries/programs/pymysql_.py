"""PyMySQL."""

from typing import Any

import pymysql
import pymysql.cursors

from libraries.probe import probe, servers


def connect(**options: Any) -> "pymysql.Connection[Any]":
    return pymysql.connect(**{**servers.mariadb, **options})


@probe
def select() -> None:
    with connect() as db, db.cursor() as cursor:
        cursor.execute("select %s + 1, %s", (41, "text"))
        assert cursor.fetchone() == (42, "text")


@probe
def rows() -> None:
    with connect(cursorclass=pymysql.cursors.DictCursor) as db, db.cursor() as cursor:
        cursor.execute("create temporary table item (id int primary key auto_increment, n text)")
        cursor.executemany("insert into item (n) values (%s)", [(f"n {n}",) for n in range(200)])
        db.commit()
        cursor.execute("select count(*) as many, max(id) as last from item")
        assert cursor.fetchone() == {"many": 200, "last": 200}


@probe
def large_result() -> None:
    with connect() as db, db.cursor() as cursor:
        cursor.execute("select repeat('x', 2000000)")
        assert len(cursor.fetchone()[0]) == 2_000_000


@probe
def row_by_row() -> None:
    with connect() as db, db.cursor(pymysql.cursors.SSCursor) as cursor:
        cursor.execute("select seq from seq_1_to_1000")
        assert sum(number for (number,) in cursor) == 500_500


@probe
def reconnected() -> None:
    with connect() as db:
        db._sock.close()
        db.ping(reconnect=True)
        with db.cursor() as cursor:
            cursor.execute("select 42")
            assert cursor.fetchone() == (42,)


@probe(raises=pymysql.err.ProgrammingError)
def error_of_the_server() -> None:
    with connect() as db, db.cursor() as cursor:
        cursor.execute("select nonsense from nowhere")


@probe(raises=pymysql.err.OperationalError)
def refused() -> None:
    connect(port=servers.refused)


@probe(raises=pymysql.err.OperationalError)
def connect_timeout() -> None:
    connect(port=servers.full, connect_timeout=0.2)


@probe(raises=pymysql.err.OperationalError)
def read_timeout() -> None:
    with connect(read_timeout=0.2) as db, db.cursor() as cursor:
        cursor.execute("select sleep(5)")


@probe(slow=True)
def slow() -> None:
    with connect() as db, db.cursor() as cursor:
        cursor.execute("select sleep(0.3), 'slow'")
        assert cursor.fetchone() == (0, "slow")
