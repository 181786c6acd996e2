"""`concurrent.futures`, its threads."""

import concurrent.futures
import threading
import time
from concurrent.futures import ThreadPoolExecutor, as_completed

from libraries.probe import probe


def square(number: int) -> int:
    time.sleep(0.01)
    return number * number


@probe
def mapped() -> None:
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(square, range(12))) == [number * number for number in range(12)]


@probe
def as_they_end() -> None:
    with ThreadPoolExecutor(3) as pool:
        seconds = [0.15, 0.02, 0.08]
        futures = {pool.submit(time.sleep, each): each for each in seconds}
        assert [futures[future] for future in as_completed(futures)] == sorted(seconds)


@probe
def named_and_set_up() -> None:
    local = threading.local()

    def set_up() -> None:
        local.value = 42

    with ThreadPoolExecutor(2, "name", set_up) as pool:
        assert pool.submit(lambda: local.value).result(5) == 42
        assert pool.submit(lambda: threading.current_thread().name).result(5).startswith("name")


@probe
def called_back() -> None:
    said = []
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(square, 3)
        future.add_done_callback(lambda future: said.append(future.result()))
        assert concurrent.futures.wait([future], 5).done == {future}
    assert said == [9]


@probe(raises=ZeroDivisionError)
def error() -> None:
    with ThreadPoolExecutor(1) as pool:
        pool.submit(lambda: 1 / 0).result(5)


@probe(raises=TimeoutError)
def result_too_late() -> None:
    with ThreadPoolExecutor(1) as pool:
        pool.submit(time.sleep, 0.2).result(0.1)


@probe(slow=True)
def slow() -> None:
    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(time.sleep, [0.3, 0.3])) == [None, None]
