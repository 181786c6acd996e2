"""`queue`."""

import queue
import threading
import time

from libraries.probe import probe


@probe
def producers_and_consumers() -> None:
    work: queue.Queue[int | None] = queue.Queue(maxsize=2)
    done: queue.SimpleQueue[int] = queue.SimpleQueue()

    def consume() -> None:
        while (item := work.get()) is not None:
            time.sleep(0.001)
            done.put(item * item)
            work.task_done()

    consumers = [threading.Thread(target=consume) for _ in range(3)]
    for consumer in consumers:
        consumer.start()
    for number in range(20):
        work.put(number)
    work.join()
    for _ in consumers:
        work.put(None)
    for consumer in consumers:
        consumer.join()
    assert sorted(done.get() for _ in range(20)) == [number * number for number in range(20)]


@probe
def in_their_order() -> None:
    first: queue.PriorityQueue[int] = queue.PriorityQueue()
    last: queue.LifoQueue[int] = queue.LifoQueue()
    for number in (2, 3, 1):
        first.put(number)
        last.put(number)
    assert [first.get() for _ in range(3)] == [1, 2, 3]
    assert [last.get() for _ in range(3)] == [1, 3, 2]


@probe(raises=queue.Empty)
def empty() -> None:
    queue.Queue[int]().get(timeout=0.1)


@probe(raises=queue.Empty)
def simple_one_is_empty() -> None:
    queue.SimpleQueue[int]().get(timeout=0.1)


@probe(raises=queue.Full)
def full() -> None:
    one: queue.Queue[int] = queue.Queue(1)
    one.put(1)
    one.put(2, timeout=0.1)


@probe(slow=True)
def slow() -> None:
    queued: queue.Queue[str] = queue.Queue()
    timer = threading.Timer(0.3, queued.put, ("slow",))
    timer.start()
    try:
        assert queued.get() == "slow"
    finally:
        timer.cancel()
