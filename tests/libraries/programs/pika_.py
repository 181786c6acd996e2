"""pika's BlockingConnection, which waits in epoll and looks names up in a thread."""

import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pika
from pika.exceptions import (
    AMQPConnectionError,
    ChannelClosedByBroker,
    ConnectionClosedByBroker,
    ProbableAuthenticationError,
    UnroutableError,
)

from libraries.probe import probe, servers

HOST = servers.rabbitmq["host"]


def parameters(**options: Any) -> pika.ConnectionParameters:
    return pika.ConnectionParameters(
        **{
            "host": HOST,
            "port": servers.rabbitmq["port"],
            "credentials": pika.PlainCredentials(
                servers.rabbitmq["user"], servers.rabbitmq["password"]
            ),
            **options,
        }
    )


@contextmanager
def channel(**options: Any) -> Iterator[Any]:
    with pika.BlockingConnection(parameters(**options)) as connection:
        yield connection.channel()


def queue(at: Any, **arguments: Any) -> str:
    """A new queue that ends with its connection."""
    name: str = at.queue_declare("", exclusive=True, arguments=arguments or None).method.queue
    return name


@probe
def publish_and_get() -> None:
    with channel() as at:
        name = queue(at)
        assert at.basic_get(name) == (None, None, None)
        at.basic_publish("", name, b"word", pika.BasicProperties(content_type="text/plain"))
        at.connection.process_data_events()
        for _ in range(100):
            method, properties, body = at.basic_get(name)
            if method is not None:
                break
        assert (properties.content_type, body) == ("text/plain", b"word")
        at.basic_ack(method.delivery_tag)


@probe
def consume() -> None:
    with channel() as at:
        name = queue(at)
        for number in range(100):
            at.basic_publish("", name, str(number).encode())
        heard = []
        for method, _, body in at.consume(name):
            at.basic_ack(method.delivery_tag)
            heard.append(int(body))
            if len(heard) == 100:
                break
        assert at.cancel() == 0
        assert heard == list(range(100))


@probe
def consume_until_nothing_comes() -> None:
    with channel() as at:
        name = queue(at)
        at.basic_publish("", name, b"word")
        messages = at.consume(name, auto_ack=True, inactivity_timeout=0.1)
        assert next(messages)[2] == b"word"
        assert next(messages) == (None, None, None)


@probe
def large_message() -> None:
    with channel() as at:
        name = queue(at)
        at.confirm_delivery()
        at.basic_publish("", name, b"x" * 2_000_000)
        assert len(at.basic_get(name, auto_ack=True)[2]) == 2_000_000


def tls_parameters(context: ssl.SSLContext) -> dict[str, Any]:
    return {
        "port": servers.rabbitmq["tls_port"],
        "ssl_options": pika.SSLOptions(context, HOST),
    }


@probe
def tls() -> None:
    trusting = ssl.create_default_context(cafile=servers.certificates["authority"])
    with channel(**tls_parameters(trusting)) as at:
        name = queue(at)
        at.confirm_delivery()
        at.basic_publish("", name, b"x" * 200_000)
        assert len(at.basic_get(name, auto_ack=True)[2]) == 200_000


@probe(raises=ssl.SSLCertVerificationError)
def tls_of_an_unknown_authority() -> None:
    pika.BlockingConnection(parameters(**tls_parameters(ssl.create_default_context())))


@probe
def work_that_three_consumers_share() -> None:
    done: list[int] = []
    with channel() as at:
        # Not exclusive: the consumers have connections of their own.
        name = at.queue_declare("", auto_delete=True, durable=True).method.queue
        ready = threading.Barrier(4)

        def work() -> None:
            with channel() as mine:
                mine.basic_qos(prefetch_count=1)

                def take(_: Any, method: Any, __: Any, body: bytes) -> None:
                    if body == b"end":
                        mine.stop_consuming()
                    else:
                        time.sleep(0.01)
                        done.append(int(body))
                    mine.basic_ack(method.delivery_tag)

                mine.basic_consume(name, take)
                ready.wait()
                mine.start_consuming()

        workers = [threading.Thread(target=work) for _ in range(3)]
        for worker in workers:
            worker.start()
        ready.wait()
        for number in range(9):
            at.basic_publish("", name, str(number).encode())
        for _ in workers:
            at.basic_publish("", name, b"end")
        for worker in workers:
            worker.join()
    assert sorted(done) == list(range(9))


@probe
def consumer_that_another_thread_stops() -> None:
    with channel() as at:
        at.basic_consume(queue(at), lambda *_: None)
        stopper = threading.Timer(0.05, at.connection.add_callback_threadsafe, (at.stop_consuming,))
        stopper.start()
        at.start_consuming()
        stopper.join()
        assert at.consumer_tags == []


@probe
def request_and_reply() -> None:
    with channel() as server, channel() as client:
        asked, answers = queue(server), queue(client)

        def serve() -> None:
            for method, properties, body in server.consume(asked):
                server.basic_publish(
                    "",
                    properties.reply_to,
                    body.upper(),
                    pika.BasicProperties(correlation_id=properties.correlation_id),
                )
                server.basic_ack(method.delivery_tag)
                break
            server.cancel()

        worker = threading.Thread(target=serve)
        worker.start()
        client.basic_publish(
            "", asked, b"word", pika.BasicProperties(reply_to=answers, correlation_id="1")
        )
        _, properties, body = next(client.consume(answers, auto_ack=True))
        worker.join()
        assert (properties.correlation_id, body) == ("1", b"WORD")


@probe
def process_data_events_until_its_limit() -> None:
    with channel() as at:
        heard: list[bytes] = []
        name = queue(at)
        at.basic_consume(name, lambda *message: heard.append(message[3]), auto_ack=True)
        started = time.monotonic()
        at.connection.process_data_events(time_limit=0.1)
        assert heard == []
        assert time.monotonic() - started >= 0.09
        at.basic_publish("", name, b"word")
        while not heard:
            at.connection.process_data_events(time_limit=5)
        assert heard == [b"word"]


@probe
def call_later() -> None:
    with channel() as at:
        called: list[int] = []
        at.connection.call_later(0.02, lambda: called.append(1))
        at.connection.sleep(0.1)
        assert called == [1]


@probe
def heartbeat() -> None:
    # The server closes a connection that was silent for three times as long, and a bit.
    with channel(heartbeat=1) as at:
        at.connection.sleep(4)
        name = queue(at)
        assert at.basic_get(name) == (None, None, None)


@probe(raises=UnroutableError)
def unroutable() -> None:
    with channel() as at:
        at.confirm_delivery()
        at.basic_publish("", "there-is-no-such-queue", b"word", mandatory=True)


@probe(raises=ChannelClosedByBroker)
def channel_closed_by_the_server() -> None:
    with channel() as at:
        at.queue_declare("there-is-no-such-queue", passive=True)


@probe(raises=ConnectionClosedByBroker)
def connection_closed_by_the_server() -> None:
    with channel() as at:
        at.basic_qos(prefetch_size=1)  # which RabbitMQ does not have


@probe(raises=ProbableAuthenticationError)
def wrong_password() -> None:
    pika.BlockingConnection(parameters(credentials=pika.PlainCredentials("guest", "wrong")))


@probe(raises=AMQPConnectionError)
def refused() -> None:
    pika.BlockingConnection(parameters(port=servers.refused))


@probe(raises=AMQPConnectionError)
def connect_timeout() -> None:
    pika.BlockingConnection(parameters(port=servers.full, socket_timeout=0.2))


def late(at: Any) -> str:
    """A queue where a message arrives 0.3 s from now: it expires in another."""
    name = queue(at)
    waiting = queue(at, **{"x-dead-letter-exchange": "", "x-dead-letter-routing-key": name})
    at.basic_publish("", waiting, b"slow", pika.BasicProperties(expiration="300"))
    return name


@contextmanager
def closed_by_a_thread(connection: Any, keep: bool = False) -> Iterator[None]:
    """Closes a connection at the end, or with `keep` after an error alone."""
    # `close` waits for the server's answer, and pika has no other way to close. Trio cancels every
    # wait of a cancelled task, that for the answer too, but not those of a thread that has begun.
    ended = threading.Event()
    kept = False

    def close() -> None:
        ended.wait()
        if not kept:
            connection.close()

    closer = threading.Thread(target=close)
    closer.start()
    try:
        yield
        kept = keep
    finally:
        ended.set()
        closer.join()


@probe(slow=True)
def slow() -> None:
    connection = pika.BlockingConnection(parameters())
    with closed_by_a_thread(connection):
        at = connection.channel()
        heard = []

        def take(_: Any, __: Any, ___: Any, body: bytes) -> None:
            heard.append(body)
            at.stop_consuming()

        at.basic_consume(late(at), take, auto_ack=True)
        at.start_consuming()
        assert heard == [b"slow"]


kept_connections: list[Any] = []


@probe(slow=True)
def slow_on_a_kept_connection() -> None:
    if kept_connections:
        connection = kept_connections.pop()
    else:
        connection = pika.BlockingConnection(parameters())
    with closed_by_a_thread(connection, keep=True), connection.channel() as at:
        _, _, body = next(at.consume(late(at), auto_ack=True))
        assert body == b"slow"
    kept_connections.append(connection)
