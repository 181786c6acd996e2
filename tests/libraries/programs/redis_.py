"""redis-py."""

import threading
import time
import uuid
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from libraries.probe import probe, servers

# Its annotations allow for every kind of client.
client: Any = redis.Redis.from_url(servers.redis, decode_responses=True)

never_again = Retry(NoBackoff(), 0)


def name() -> str:
    """A key of its own for each run, as the probes run side by side."""
    return uuid.uuid4().hex


@probe
def set_and_get() -> None:
    key = name()
    assert client.set(key, "value", ex=60)
    assert client.get(key) == "value"
    assert client.delete(key) == 1
    assert client.get(key) is None


@probe
def large_value() -> None:
    key = name()
    client.set(key, "x" * 2_000_000, ex=60)
    assert len(client.get(key)) == 2_000_000
    client.delete(key)


@probe
def pipeline() -> None:
    key = name()
    with client.pipeline() as pipe:
        for _ in range(500):
            pipe.incr(key)
        assert pipe.delete(key).execute() == [*range(1, 501), 1]


@probe
def transaction() -> None:
    key = name()
    client.set(key, 1, ex=60)

    def add_one(pipe: Any) -> None:
        value = int(pipe.get(key))
        pipe.multi()
        pipe.set(key, value + 1)

    assert client.transaction(add_one, key) == [True]
    assert client.get(key) == "2"


@probe
def pubsub() -> None:
    channel = name()
    heard = []
    with client.pubsub() as listener:
        listener.subscribe(channel)
        assert listener.get_message(timeout=5)["type"] == "subscribe"

        def publish() -> None:
            for number in range(3):
                time.sleep(0.02)
                client.publish(channel, number)

        publisher = threading.Thread(target=publish)
        publisher.start()
        for message in listener.listen():
            heard.append(message["data"])
            if len(heard) == 3:
                break
        publisher.join()
        assert listener.get_message(timeout=0.05) is None
    assert heard == ["0", "1", "2"]


@probe
def pubsub_in_a_thread() -> None:
    channel = name()
    heard: list[str] = []
    arrived = threading.Event()

    def on_message(message: dict[str, str]) -> None:
        heard.append(message["data"])
        arrived.set()

    listener = client.pubsub(ignore_subscribe_messages=True)
    listener.subscribe(**{channel: on_message})
    worker = listener.run_in_thread(sleep_time=0.1)
    while not client.publish(channel, "word"):
        time.sleep(0.01)
    assert arrived.wait(5)
    worker.stop()
    worker.join(5)
    assert not worker.is_alive()
    assert heard == ["word"]


@probe
def blpop_with_another_that_pushes() -> None:
    key = name()
    pusher = threading.Timer(0.05, client.rpush, (key, "value"))
    pusher.start()
    assert client.blpop(key, timeout=5) == (key, "value")
    pusher.join()


@probe
def lock() -> None:
    key = name()
    order = []

    def work(number: int) -> None:
        with client.lock(key, timeout=10, sleep=0.01):
            order.append(number)
            time.sleep(0.02)
            order.append(number)

    workers = [threading.Thread(target=work, args=(number,)) for number in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert order[0::2] == order[1::2]
    assert sorted(order) == [0, 0, 1, 1, 2, 2]


@probe(raises=redis.exceptions.LockError)
def lock_that_another_has() -> None:
    key = name()
    with (
        client.lock(key, timeout=10),
        client.lock(key, timeout=10, blocking_timeout=0.1, sleep=0.02),
    ):
        pass


pool = redis.BlockingConnectionPool.from_url(servers.redis, max_connections=2, timeout=5)


@probe
def more_users_than_connections() -> None:
    crowded = redis.Redis(connection_pool=pool)
    key = name()
    users = [threading.Thread(target=crowded.incr, args=(key,)) for _ in range(10)]
    for user in users:
        user.start()
    for user in users:
        user.join()
    assert crowded.getdel(key) == b"10"


@probe(raises=redis.ConnectionError)
def empty_pool() -> None:
    one = redis.BlockingConnectionPool.from_url(servers.redis, max_connections=1, timeout=0.2)
    holder: Any = redis.Redis(connection_pool=one)
    try:
        with holder.pubsub() as listener:
            listener.subscribe(name())
            holder.get("key")
    finally:
        one.disconnect()


@probe(raises=redis.ConnectionError)
def refused() -> None:
    redis.Redis(port=servers.refused, retry=never_again).get("key")


@probe(raises=redis.TimeoutError)
def read_timeout() -> None:
    with redis.Redis.from_url(servers.redis, socket_timeout=0.2, retry=never_again) as impatient:
        impatient.blpop(name(), timeout=5)


@probe(slow=True)
def blpop_until_its_timeout() -> None:
    assert client.blpop(name(), timeout=0.3) is None
