"""kombu over py-amqp."""

import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import amqp
import kombu
from kombu.exceptions import ConnectionLimitExceeded, OperationalError
from kombu.mixins import ConsumerMixin
from kombu.simple import SimpleQueue

from libraries.probe import probe, servers

SERVER = servers.rabbitmq


def connect(**options: Any) -> Any:
    return kombu.Connection(
        **{
            "hostname": SERVER["host"],
            "port": SERVER["port"],
            "userid": SERVER["user"],
            "password": SERVER["password"],
            "transport": "pyamqp",
            **options,
        }
    )


def queue(channel: Any, **arguments: Any) -> Any:
    """A new queue that ends with its connection."""
    made = kombu.Queue(kombu.uuid(), exclusive=True, queue_arguments=arguments, channel=channel)
    made.declare()
    return made


def publish(channel: Any, where: Any, body: Any, **options: Any) -> None:
    kombu.Producer(channel).publish(body, routing_key=where.name, **options)


@probe
def producer_and_consumer() -> None:
    heard: list[Any] = []

    def take(body: Any, message: Any) -> None:
        heard.append(body["number"])
        message.ack()

    with connect() as connection:
        where = queue(connection)
        for number in range(50):
            publish(connection, where, {"number": number})
        with kombu.Consumer(connection, where, callbacks=[take]):
            while len(heard) < 50:
                connection.drain_events(timeout=5)
    assert heard == list(range(50))


@probe
def exchange_of_topics() -> None:
    with connect() as connection:
        exchange = kombu.Exchange(kombu.uuid(), "topic", durable=False, auto_delete=True)
        where = kombu.Queue(kombu.uuid(), exchange, "a.*", exclusive=True)
        producer = kombu.Producer(connection, exchange)
        with connection.SimpleQueue(where) as simple:
            producer.publish("no", routing_key="b.c")
            producer.publish("yes", routing_key="a.c")
            message = simple.get(timeout=5)
            message.ack()
            assert message.payload == "yes"


@probe
def large_message() -> None:
    with connect(transport_options={"confirm_publish": True}) as connection:
        where = queue(connection)
        publish(connection, where, b"x" * 2_000_000)
        message = where.get(no_ack=True)
        assert len(message.body) == 2_000_000
        assert where.get() is None


@probe
def tls() -> None:
    options = {
        "ca_certs": servers.certificates["authority"],
        "cert_reqs": ssl.CERT_REQUIRED,
        "server_hostname": SERVER["host"],
    }
    with connect(
        port=SERVER["tls_port"], ssl=options, transport_options={"confirm_publish": True}
    ) as connection:
        where = queue(connection)
        publish(connection, where, b"x" * 200_000)
        assert len(where.get(no_ack=True).body) == 200_000


@probe
def compressed() -> None:
    with connect(transport_options={"confirm_publish": True}) as connection:
        where = queue(connection)
        publish(connection, where, ["word"] * 1000, compression="zlib")
        assert where.get(no_ack=True).payload == ["word"] * 1000


@probe(raises=TimeoutError)
def drain_events_until_its_timeout() -> None:
    with (
        connect() as connection,
        kombu.Consumer(connection, queue(connection), callbacks=[print]),
    ):
        connection.drain_events(timeout=0.1)


@probe
def simple_queue() -> None:
    with (
        connect() as connection,
        connection.SimpleQueue(
            kombu.uuid(), queue_opts={"exclusive": True}, exchange_opts={"auto_delete": True}
        ) as simple,
    ):
        for number in range(3):
            simple.put({"number": number})
        heard = []
        for _ in range(3):
            message = simple.get(timeout=5)
            heard.append(message.payload["number"])
            message.ack()
        assert heard == [0, 1, 2]


@probe(raises=SimpleQueue.Empty)
def empty_simple_queue() -> None:
    with connect() as connection, SimpleQueue(connection, queue(connection)) as simple:
        simple.get(timeout=0.1)


@probe
def consumer_in_a_thread() -> None:
    heard: list[str] = []
    name = kombu.uuid()

    class Worker(ConsumerMixin):  # type: ignore[misc]
        def __init__(self, connection: Any) -> None:
            self.connection = connection

        def get_consumers(self, consumer: Any, _: Any) -> list[Any]:
            return [consumer(kombu.Queue(name, auto_delete=True), callbacks=[self.take])]

        def take(self, body: Any, message: Any) -> None:
            heard.append(body)
            message.ack()
            if len(heard) == 3:
                self.should_stop = True

    with connect() as connection:
        kombu.Queue(name, auto_delete=True, channel=connection).declare()

        def work() -> None:
            with connect() as its:
                Worker(its).run()

        worker = threading.Thread(target=work)
        worker.start()
        producer = kombu.Producer(connection)
        for word in "one", "two", "three":
            producer.publish(word, routing_key=name)
            time.sleep(0.02)
        worker.join(10)
        assert not worker.is_alive()
    assert heard == ["one", "two", "three"]


@contextmanager
def ended(pool: Any) -> Iterator[Any]:
    try:
        yield pool
    finally:
        pool.force_close_all()


@probe
def more_users_than_connections() -> None:
    heard = []
    with ended(connect().Pool(limit=2)) as few:

        def work(number: int) -> None:
            with (
                few.acquire(block=True, timeout=10) as connection,
                connection.channel() as channel,
            ):
                where = kombu.Queue(kombu.uuid(), exclusive=True, channel=channel)
                where.declare()
                kombu.Producer(channel).publish(number, routing_key=where.name)
                with connection.SimpleQueue(where, no_ack=True) as simple:
                    heard.append(simple.get(timeout=5).payload)

        workers = [threading.Thread(target=work, args=(number,)) for number in range(6)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
    assert sorted(heard) == list(range(6))


@probe(raises=ConnectionLimitExceeded)
def empty_pool() -> None:
    with ended(connect().Pool(limit=1)) as few, few.acquire(block=True):
        few.acquire(block=True, timeout=0.2)


@probe
def retried_after_the_connection_was_lost() -> None:
    with connect() as connection:
        where = kombu.Queue(kombu.uuid(), expires=60, channel=connection)
        where.declare()
        connection.connection.transport.sock.shutdown(2)
        kombu.Producer(connection).publish(
            "word",
            routing_key=where.name,
            retry=True,
            retry_policy={"max_retries": 3, "interval_start": 0.02, "interval_step": 0.02},
        )
        with connection.SimpleQueue(where, no_ack=True) as simple:
            assert simple.get(timeout=5).payload == "word"


@probe
def retries_come_to_an_end() -> None:
    waits: list[float] = []
    with connect(port=servers.refused) as connection:
        try:
            connection.ensure_connection(
                errback=lambda _, interval: waits.append(interval),
                max_retries=2,
                interval_start=0.02,
                interval_step=0.02,
            )
        except OperationalError:
            pass
        else:
            raise AssertionError("it is connected")
    assert waits == [0.02, 0.04]


@probe
def heartbeat() -> None:
    # The server closes a connection that was silent for three times as long, and a bit.
    with connect(heartbeat=1) as connection:
        where = queue(connection)
        for _ in range(40):
            with suppress(TimeoutError):
                connection.drain_events(timeout=0.1)
            connection.heartbeat_check(rate=2)
        assert where.get() is None


@probe(raises=amqp.exceptions.NotFound)
def channel_closed_by_the_server() -> None:
    with connect() as connection:
        kombu.Queue(kombu.uuid(), channel=connection.default_channel).queue_declare(passive=True)


@probe(raises=amqp.exceptions.AMQPNotImplementedError)
def connection_closed_by_the_server() -> None:
    with connect() as connection:
        consumer = kombu.Consumer(connection)
        consumer.qos(prefetch_size=1)  # which RabbitMQ does not have


@probe(raises=amqp.exceptions.AccessRefused)
def wrong_password() -> None:
    with connect(password="wrong") as connection:
        connection.connect()


@probe(raises=OperationalError)
def refused() -> None:
    with connect(port=servers.refused) as connection:
        connection.ensure_connection(max_retries=1, interval_start=0.02)


@probe(raises=OperationalError)
def connect_timeout() -> None:
    with connect(port=servers.full, connect_timeout=0.2) as connection:
        connection.ensure_connection(max_retries=1, interval_start=0.02)


def late(channel: Any) -> Any:
    """A queue where a message arrives 0.3 s from now: it expires in another."""
    where = queue(channel)
    waiting = queue(
        channel, **{"x-dead-letter-exchange": "", "x-dead-letter-routing-key": where.name}
    )
    publish(channel, waiting, "slow", expiration=0.3)
    return where


@contextmanager
def hung_up_after_errors(connection: Any) -> Iterator[None]:
    # `release` says goodbye and waits for the answer. Trio cancels every wait of a cancelled task,
    # that for the answer too, and py-amqp closes after none but an OSError.
    try:
        yield
    except BaseException:
        connection.connection.collect()
        raise


@probe(slow=True)
def slow() -> None:
    heard: list[Any] = []
    with connect() as connection, hung_up_after_errors(connection):
        with kombu.Consumer(
            connection,
            late(connection.default_channel),
            callbacks=[lambda body, _: heard.append(body)],
            no_ack=True,
        ):
            connection.drain_events(timeout=5)
        assert heard == ["slow"]


kept = connect().Pool(limit=3)


@probe(slow=True)
def slow_on_a_kept_connection() -> None:
    with kept.acquire(block=True, timeout=5) as connection, hung_up_after_errors(connection):
        # Not `connection.channel()`: after an error the pool has a connection that is closed, and
        # only its `default_channel` opens it again.
        where = late(connection.default_channel)
        with connection.SimpleQueue(where, no_ack=True) as simple:
            assert simple.get(timeout=5).payload == "slow"
        where.delete()
