"""psycopg2 and psycopg 3 in green functions, against a real PostgreSQL."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from servers import postgresql as postgresql

from verdigris import async_def, patch_psycopg, patch_psycopg2

LONG = "select pg_sleep(30)"


class Driver:
    """What a test asks of either driver."""

    name: str
    module: Any

    def __init__(self, address: str) -> None:
        self.address = address

    def connect(self, **options: Any) -> Any:
        return self.module.connect(self.address, **options)

    def value(self, connection: Any, query: str) -> Any:
        with connection.cursor() as cursor:
            cursor.execute(query)
            return cursor.fetchone()[0]

    def running(self, query: str) -> int:
        """How many sessions run the query now."""
        connection = self.connect()
        try:
            number: int = self.value(
                connection,
                "select count(*) from pg_stat_activity where state = 'active' "
                f"and query = '{query}' and pid <> pg_backend_pid()",
            )
            return number
        finally:
            connection.close()


class Psycopg2(Driver):
    name = "psycopg2"
    patch = staticmethod(patch_psycopg2)


class Psycopg3(Driver):
    name = "psycopg"
    patch = staticmethod(patch_psycopg)


@pytest.fixture(params=[Psycopg2, Psycopg3], ids=lambda kind: kind.name)
def driver(request: pytest.FixtureRequest, postgresql: str) -> Iterator[Any]:
    """A driver that is patched."""
    kind = request.param
    kind.module = pytest.importorskip(kind.name, reason=f"{kind.name} is not installed")
    with kind.patch():
        yield kind(postgresql)


class Heartbeat:
    """Counts how often the loop got its turn."""

    def __init__(self, loop: Any) -> None:
        self.loop = loop
        self.beats = 0
        self.over = False

    async def beat(self) -> None:
        while not self.over:
            await self.loop.sleep(0.005)
            self.beats += 1


def test_a_query_leaves_the_loop_free_and_gives_its_value(loop: Any, driver: Any) -> None:
    heart = Heartbeat(loop)

    def work() -> tuple[int, int]:
        connection = driver.connect()
        before = heart.beats
        value = driver.value(connection, "select 42 from pg_sleep(0.5)")
        beats = heart.beats - before
        connection.close()
        return value, beats

    async def main() -> tuple[int, int]:
        async with loop.tasks() as start:
            start(heart.beat)
            try:
                return await async_def(work)
            finally:
                heart.over = True

    value, beats = loop.run(main)
    assert value == 42
    assert beats > 10  # of about 100


def test_queries_of_three_functions_run_at_once(loop: Any, driver: Any) -> None:
    order: list[int] = []

    def work(number: int) -> None:
        connection = driver.connect()
        driver.value(connection, f"select 1 from pg_sleep({0.6 - number * 0.2})")
        order.append(number)
        connection.close()

    async def main() -> None:
        async with loop.tasks() as start:
            for number in range(3):
                start(lambda number=number: async_def(work, number))

    loop.run(main)
    assert order == [2, 1, 0]


def test_it_waits_as_before_where_no_loop_is(driver: Any) -> None:
    connection = driver.connect()
    assert driver.value(connection, "select 1 from pg_sleep(0.05)") == 1
    found = []
    thread = threading.Thread(target=lambda: found.append(driver.value(connection, "select 2")))
    thread.start()
    thread.join()
    assert found == [2]
    connection.close()


def test_a_plain_coroutine_that_calls_it_blocks_and_gets_its_value(loop: Any, driver: Any) -> None:
    async def main() -> Any:
        connection = driver.connect()
        try:
            return driver.value(connection, "select 3")
        finally:
            connection.close()

    assert loop.run(main) == 3


def test_errors_of_the_server_leave_the_connection_in_order(loop: Any, driver: Any) -> None:
    def work() -> int:
        connection = driver.connect()
        with pytest.raises(driver.module.Error, match="division by zero"):
            driver.value(connection, "select 1/0")
        connection.rollback()
        value: int = driver.value(connection, "select 1")
        connection.close()
        return value

    assert loop.run(lambda: async_def(work)) == 1


def test_a_statement_timeout_is_raised(loop: Any, driver: Any) -> None:
    def work() -> None:
        connection = driver.connect(options="-c statement_timeout=100")
        with pytest.raises(driver.module.Error, match="statement timeout"):
            driver.value(connection, LONG)
        connection.close()

    loop.run(lambda: async_def(work))


def test_a_refused_connection_raises_as_ever(loop: Any, driver: Any) -> None:
    from server_processes import free_port

    address = f"host=127.0.0.1 port={free_port()} user=postgres"

    def work() -> None:
        with pytest.raises(driver.module.OperationalError, match="refused"):
            driver.module.connect(address)

    loop.run(lambda: async_def(work))


@pytest.mark.one_loop_in_a_cell
def test_connect_timeout_is_kept(loop: Any, driver: Any) -> None:
    import socket

    heart = Heartbeat(loop)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"host=127.0.0.1 port={silent.getsockname()[1]} user=postgres connect_timeout=2"

        def work() -> None:
            with pytest.raises(driver.module.OperationalError, match="timeout expired"):
                driver.module.connect(address)

        async def main() -> None:
            async with loop.tasks() as start:
                start(heart.beat)
                await async_def(work)
                heart.over = True

        loop.run(main)
    assert heart.beats > 40  # of about 400


def test_cancelling_ends_the_query_on_the_server(loop: Any, driver: Any) -> None:
    """And leaves a connection that either works or is closed."""
    query = f"{LONG} -- {loop.name} {driver.name} {time.monotonic()}"
    connections = []

    def work() -> None:
        connections.append(driver.connect())
        driver.value(connections[0], query)

    async def main() -> Any:
        async with loop.tasks() as start:
            task = start(lambda: async_def(work))
            while not (driver.running(query) or task.ended.is_set()):
                await loop.sleep(0.01)
            task.cancel()
            outcome = await task.wait()
        for _ in range(200):
            if not driver.running(query):
                return outcome
            await loop.sleep(0.01)
        raise AssertionError("the query still runs on the server")

    outcome = loop.run(main)
    assert outcome.cancelled
    (connection,) = connections
    if driver.name == "psycopg":
        assert not connection.closed
        connection.rollback()
        assert driver.value(connection, "select 1") == 1
        connection.close()
    else:
        assert connection.closed


@pytest.mark.parametrize("pool", [None, object()], ids=["alone", "of a pool"])
def test_a_cancelled_block_closes_its_connection(loop: Any, postgresql: str, pool: Any) -> None:
    """Trio cancels the rollback at the block's end, too. What a pool has is the pool's to close."""
    psycopg = pytest.importorskip("psycopg", reason="psycopg is not installed")
    connections = []

    def work() -> None:
        with psycopg.connect(postgresql) as connection:
            connection._pool = pool
            connections.append(connection)
            connection.execute("select 1")
            connection.execute(LONG)

    async def main() -> Any:
        async with loop.tasks() as start:
            task = start(lambda: async_def(work))
            while not (connections and connections[0].info.transaction_status == 1):
                await loop.sleep(0.01)
            task.cancel()
        return task.outcome

    with patch_psycopg():
        assert loop.run(main).cancelled
        (connection,) = connections
        assert connection.closed == (pool is None)
        connection._pool = None
        connection.close()


def test_cancelling_while_it_connects_closes_the_attempt(loop: Any, driver: Any) -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"host=127.0.0.1 port={silent.getsockname()[1]} user=postgres sslmode=disable"

        async def main() -> Any:
            async with loop.tasks() as start:
                task = start(lambda: async_def(driver.module.connect, address))
                await loop.sleep(0.1)
                task.cancel()
                return await task.wait()

        assert loop.run(main).cancelled
        peer, _ = silent.accept()
        with peer:
            peer.settimeout(10)
            while peer.recv(4096):
                pass  # the end comes: it was closed


def test_undoing_gives_the_driver_its_own_waits_back(postgresql: str) -> None:
    pytest.importorskip("psycopg2", reason="psycopg2 is not installed")
    from psycopg2 import extensions

    def mine(connection: object) -> None: ...

    extensions.set_wait_callback(mine)
    patched = patch_psycopg2()
    assert patched is patch_psycopg2() and extensions.get_wait_callback() is not mine
    patched.undo()
    patched.undo()
    assert extensions.get_wait_callback() is mine
    extensions.set_wait_callback(None)
    with patch_psycopg2() as again:
        assert again is not patched
        extensions.set_wait_callback(mine)  # somebody's, since
    assert extensions.get_wait_callback() is mine
    extensions.set_wait_callback(None)


def test_psycopg_3_is_patched_wherever_it_took_the_functions_by_name() -> None:
    pytest.importorskip("psycopg", reason="psycopg is not installed")
    import psycopg
    from psycopg import waiting

    before = waiting.wait, waiting.wait_conn, psycopg.Connection.wait
    holder: Any = psycopg.copy
    holder.taken = waiting.wait
    try:
        patched = patch_psycopg()
        assert patched is patch_psycopg()
        assert holder.taken is waiting.wait is not before[0]
        assert waiting.wait_conn is not before[1]
        patched.undo()
        patched.undo()
        assert (waiting.wait, waiting.wait_conn, psycopg.Connection.wait) == before
        assert holder.taken is before[0]
    finally:
        del holder.taken


def test_notifications_come_and_their_timeout_is_kept(loop: Any, postgresql: str) -> None:
    psycopg = pytest.importorskip("psycopg", reason="psycopg is not installed")

    def work() -> list[str]:
        with psycopg.connect(postgresql, autocommit=True) as connection:
            connection.execute("listen news")
            with psycopg.connect(postgresql, autocommit=True) as other:
                other.execute("notify news, 'one'")
            return [note.payload for note in connection.notifies(timeout=0.3)]

    with patch_psycopg():
        assert loop.run(lambda: async_def(work)) == ["one"]


def test_copy_and_pipelines_of_psycopg_3(loop: Any, postgresql: str) -> None:
    psycopg = pytest.importorskip("psycopg", reason="psycopg is not installed")

    def work() -> tuple[int, list[int]]:
        with psycopg.connect(postgresql) as connection, connection.cursor() as cursor:
            cursor.execute("create temp table numbers (n int)")
            with cursor.copy("copy numbers from stdin") as copy:
                for number in range(5000):
                    copy.write_row((number,))
            total = cursor.execute("select count(*) from numbers").fetchone()[0]
            with connection.pipeline():
                cursors = [connection.execute("select %s", (n,)) for n in range(3)]
                return total, [cursor.fetchone()[0] for cursor in cursors]

    with patch_psycopg():
        assert loop.run(lambda: async_def(work)) == (5000, [0, 1, 2])


@pytest.mark.parametrize(
    ("name", "patch"), [("psycopg2", patch_psycopg2), ("psycopg", patch_psycopg)]
)
def test_a_driver_that_is_missing_is_told(
    monkeypatch: pytest.MonkeyPatch, name: str, patch: Callable[[], object]
) -> None:
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ImportError, match=r"which is not installed\. Install psycopg"):
        patch()
