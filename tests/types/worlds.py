"""What mypy makes of both worlds. Checked by `make check`; never run."""

import concurrent.futures
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, assert_type

from verdigris import (
    CallsFailed,
    Completed,
    Parallel,
    Serial,
    a_input,
    block,
    queue_background_thread,
    run,
    to_async,
    to_blocking,
)


def blocking(number: int, *, name: str = "") -> float:
    return number / 2


async def waiting(number: int, *, name: str = "") -> bytes:
    return bytes(number)


class Both:
    @to_async
    def method(self, number: int) -> float:
        return number / 2

    @to_blocking
    async def blocks(self, number: int) -> bytes:
        return bytes(number)


@to_async(where="green")
def green(number: int) -> float:
    return number / 2


@to_blocking(library="trio")
async def on_trio(number: int) -> bytes:
    return bytes(number)


async def in_async_code(executor: concurrent.futures.Executor) -> None:
    assert_type(await to_async(blocking)(1, name="a"), float)
    assert_type(await to_async(waiting)(1, name="a"), bytes)
    assert_type(await to_async(blocking, executor=executor)(1), float)
    assert_type(await to_async(blocking, where="green")(1), float)
    assert_type(await Both().method(1), float)
    assert_type(await green(1), float)
    assert_type(await run(blocking, 1, name="a"), float)
    assert_type(await run(waiting, 1, name="a"), bytes)
    assert_type(await a_input("? "), str)

    await to_async(blocking)("no number")  # type: ignore[arg-type]
    await to_async(blocking)(1, other=2)  # type: ignore[call-arg]
    await run(blocking)  # type: ignore[call-overload]
    to_async(blocking, where="process")  # type: ignore[call-overload]

    results = Parallel(limit=2).schedule(blocking, 1).schedule(waiting, 1).as_completed()
    async for one in results:
        assert_type(one, Completed)
    try:
        assert_type(await Parallel(progress=lambda ended, total: None).run(), list[Any])
    except* OSError as group:
        assert_type(group, ExceptionGroup[OSError])


def in_blocking_code() -> None:
    assert_type(to_blocking(waiting)(1, name="a"), bytes)
    assert_type(to_blocking(blocking)(1, name="a"), float)
    assert_type(Both().blocks(1), bytes)
    assert_type(on_trio(1), bytes)
    assert_type(block(waiting, 1, name="a"), bytes)
    assert_type(block(blocking, 1, name="a"), float)
    assert_type(Serial().schedule(blocking, 1).block(), list[Any])
    assert_type(queue_background_thread(blocking, 1).result(), float)
    assert_type(queue_background_thread(waiting, 1).result(), bytes)
    for one in Parallel().as_completed():
        assert_type(one.exception(), Exception | None)

    block(waiting, "no number")  # type: ignore[call-overload]
    to_blocking(waiting, library="twisted")  # type: ignore[call-overload]
    queue_background_thread(blocking, "no number")  # type: ignore[call-overload]


def passes_on(fn: Callable[[int], Coroutine[Any, Any, bytes]]) -> None:
    made: Callable[[int], Awaitable[bytes]] = to_async(fn)
    back: Callable[[int], bytes] = to_blocking(fn)
    del made, back


def of_errors(failed: CallsFailed) -> None:
    assert_type(failed.results, list[Any])
    assert_type(failed.exceptions, tuple[Exception | ExceptionGroup[Exception], ...])
