"""`threading`."""

import threading
import time

from libraries.probe import probe


@probe
def lock() -> None:
    count, guard = 0, threading.Lock()

    def work() -> None:
        nonlocal count
        for _ in range(10):
            with guard:
                seen = count
                time.sleep(0.001)
                count = seen + 1

    workers = [threading.Thread(target=work) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert count == 40


@probe
def condition() -> None:
    items: list[int] = []
    there = threading.Condition()

    def produce() -> None:
        for number in range(5):
            time.sleep(0.005)
            with there:
                items.append(number)
                there.notify()

    producer = threading.Thread(target=produce)
    producer.start()
    for number in range(5):
        with there:
            assert there.wait_for(lambda: items, timeout=5)
            assert items.pop(0) == number
    producer.join()


@probe
def barrier_and_semaphore() -> None:
    barrier, semaphore = threading.Barrier(3), threading.BoundedSemaphore(2)
    inside, most = 0, 0

    def work() -> None:
        nonlocal inside, most
        barrier.wait(5)
        with semaphore:
            inside += 1
            most = max(most, inside)
            time.sleep(0.01)
            inside -= 1

    workers = [threading.Thread(target=work) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert most == 2


@probe
def own_names_and_values() -> None:
    local = threading.local()
    found = {}

    def work(value: int) -> None:
        local.value = value
        time.sleep(0.01)
        me = threading.current_thread()
        assert me in threading.enumerate()
        found[me.name] = (local.value, threading.get_ident() == me.ident)

    workers = [threading.Thread(target=work, args=(n,), name=f"worker {n}") for n in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert found == {f"worker {n}": (n, True) for n in range(3)}
    assert not hasattr(local, "value")


@probe
def timer() -> None:
    rang = threading.Event()
    never = threading.Timer(30, rang.set)
    never.start()
    never.cancel()
    timer = threading.Timer(0.05, rang.set)
    timer.start()
    assert rang.wait(5)
    timer.join()
    never.join(5)
    assert not never.is_alive()


@probe
def error_in_a_thread() -> None:
    seen = []
    before, threading.excepthook = threading.excepthook, lambda what: seen.append(what.exc_type)
    try:
        worker = threading.Thread(target=lambda: 1 / 0)
        worker.start()
        worker.join()
    finally:
        threading.excepthook = before
    assert seen == [ZeroDivisionError]


@probe
def waits_that_time_out() -> None:
    held = threading.Lock()
    assert held.acquire()
    assert not held.acquire(timeout=0.1)
    assert not held.acquire(blocking=False)
    assert not threading.Event().wait(0.1)
    sleeper = threading.Thread(target=time.sleep, args=(0.2,))
    sleeper.start()
    sleeper.join(0.1)
    assert sleeper.is_alive()
    sleeper.join()


@probe(slow=True)
def slow() -> None:
    ready = threading.Event()
    timer = threading.Timer(0.3, ready.set)
    timer.start()
    try:
        assert ready.wait(5)
    finally:
        timer.cancel()
