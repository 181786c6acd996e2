"""A program in layers, all of whose functions wait. How they wait, the runner says.

`run_layers.py` runs it with waits that do nothing, and under each loop. To a tool it is the same
program. Lines that never run end with the comment `never`.
"""

from __future__ import annotations

from collections.abc import Iterator


def wait() -> object:
    raise NotImplementedError  # never


def wait_long() -> object:
    raise NotImplementedError  # never


def leaf(n: int) -> int:
    wait()
    if n % 2:
        return -n
    return n


def branch(n: int) -> int:
    total = 0
    for i in range(n):
        if leaf(i) < 0:
            total -= 1
        else:
            total += leaf(n)
    while total > 1_000:
        total = 0  # never
    return total


def factorial(n: int) -> int:
    wait()
    if n < 2:
        return 1
    return n * factorial(n - 1)


def numbers(n: int) -> Iterator[int]:
    for i in range(n):
        wait()
        yield i


def consumes() -> int:
    total = sum(numbers(3))
    for n in numbers(2):
        total += leaf(n)
    return total


def is_called_back() -> list[int]:
    return sorted([3, 1, 2], key=leaf)


def the_last_line_decides(seen: list[str]) -> None:
    if wait():
        seen.append("something")  # never


def handles(seen: list[str]) -> None:
    try:
        wait()
        raise LookupError
    except LookupError:
        wait()
        seen.append("handled")
    finally:
        wait()
        seen.append("left")


def top(n: int) -> int:
    seen: list[str] = []
    total = branch(n) + factorial(4) + consumes()
    the_last_line_decides(seen)
    handles(seen)
    assert is_called_back() == [3, 1, 2]
    assert seen == ["handled", "left"]
    return total


def is_ended(by: type[BaseException], seen: list[str]) -> None:
    try:
        wait()
        wait_long()
        seen.append("went on")  # never
    except by:
        seen.append("ended")
        raise
    finally:
        seen.append("left")
    seen.append("went on")  # never
