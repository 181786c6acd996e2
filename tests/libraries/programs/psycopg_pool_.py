"""psycopg_pool, whose workers are threads."""

import psycopg_pool

from libraries.probe import probe, servers


@probe
def one_connection() -> None:
    with psycopg_pool.ConnectionPool(servers.postgresql, min_size=2, max_size=4) as pool:
        pool.wait(timeout=5)
        with pool.connection() as db:
            assert db.execute("select 42").fetchone() == (42,)


@probe(raises=psycopg_pool.PoolTimeout)
def empty_pool() -> None:
    with (
        psycopg_pool.ConnectionPool(servers.postgresql, min_size=1, timeout=0.2) as pool,
        pool.connection(timeout=5),
        pool.connection(),
    ):
        pass


@probe(slow=True)
def slow() -> None:
    with (
        psycopg_pool.ConnectionPool(servers.postgresql, min_size=1) as pool,
        pool.connection() as db,
    ):
        assert db.execute("select pg_sleep(0.3), 'slow'").fetchone()[1] == "slow"
