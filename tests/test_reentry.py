"""A running function can be neither entered nor closed again, by anyone."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hand_driver import finish, suspend

from verdigris import async_def, await_

REENTER: dict[str, Callable[[Any], object]] = {
    "send": lambda coro: coro.send(None),
    "throw": lambda coro: coro.throw(KeyError("thrown")),
    "close": lambda coro: coro.close(),
    "iterator": lambda coro: next(coro.__await__()),
    "driven by hand": lambda coro: finish(coro),
}


def refuses(reenter: Callable[[Any], object], coro: Any) -> None:
    with pytest.raises((ValueError, RuntimeError), match="already"):
        reenter(coro)


@pytest.mark.parametrize("way", REENTER)
def test_from_inside_itself(way: str) -> None:
    box: list[Any] = []

    def f() -> object:
        refuses(REENTER[way], box[0])
        answer = await_(suspend("first"))
        refuses(REENTER[way], box[0])
        return answer

    box.append(async_def(f))
    assert finish(box[0], answer=lambda tag: tag) == "first"


@pytest.mark.parametrize("way", ["send", "throw", "close"])
def test_says_it_as_a_native_coroutine_does(way: str) -> None:
    box: list[Any] = []

    def f() -> None:
        with pytest.raises(ValueError, match="coroutine already executing"):
            REENTER[way](box[0])

    box.append(async_def(f))
    finish(box[0])


@pytest.mark.parametrize("way", REENTER)
def test_from_a_function_it_drives(way: str) -> None:
    """Its stack is not the running one, but it has not yielded either."""
    box: list[Any] = []

    def inner() -> str:
        refuses(REENTER[way], box[0])
        await_(suspend())
        refuses(REENTER[way], box[0])
        return "inner"

    def outer() -> str:
        return finish(async_def(inner))

    box.append(async_def(outer))
    assert finish(box[0]) == "inner"


@pytest.mark.parametrize("way", REENTER)
def test_from_what_it_awaits(way: str) -> None:
    box: list[Any] = []

    async def awaited() -> str:
        refuses(REENTER[way], box[0])
        await suspend()
        refuses(REENTER[way], box[0])
        return "awaited"

    box.append(async_def(lambda: await_(awaited())))
    assert finish(box[0]) == "awaited"


def test_awaiting_itself() -> None:
    box: list[Any] = []

    def f() -> str:
        with pytest.raises((ValueError, RuntimeError), match="already"):
            await_(box[0])
        return await_(suspend("still waits"))

    box.append(async_def(f))
    assert finish(box[0], answer=lambda tag: tag) == "still waits"


def test_a_task_awaiting_itself(aio: Any) -> None:
    box: list[Any] = []

    def f() -> str:
        with pytest.raises(RuntimeError, match="cannot await on itself"):
            await_(box[0])
        return await_(asyncio.sleep(0, "still waits"))

    async def main() -> object:
        box.append(asyncio.create_task(async_def(f)))
        return await box[0]

    assert aio.run(main) == "still waits"


def test_a_generator_whose_body_waits_cannot_be_entered_from_outside() -> None:
    def numbers() -> Iterator[object]:
        yield await_(suspend("inside the generator"))
        yield 2

    generator = numbers()
    coro = async_def(lambda: list(generator))
    assert coro.send(None) == "inside the generator"
    assert generator.gi_running  # type: ignore[attr-defined]
    for enter in (next, lambda g: g.close(), lambda g: g.throw(KeyError())):
        with pytest.raises(ValueError, match="generator already executing"):
            enter(generator)
    with pytest.raises(StopIteration) as end:
        coro.send(1)
    assert end.value.value == [1, 2]


def test_a_suspended_generator_dropped_with_its_function() -> None:
    steps: list[str] = []

    def numbers() -> Iterator[object]:
        try:
            yield await_(suspend())
        finally:
            steps.append("generator")

    def f() -> None:
        try:
            for _ in numbers():
                pass
        finally:
            steps.append("function")

    coro = async_def(f)
    coro.send(None)
    coro.close()
    assert steps == ["generator", "function"]


def test_an_async_generator_in_use_elsewhere() -> None:
    async def numbers() -> Any:
        await suspend()
        yield 1

    agen = numbers()
    first = async_def(lambda: await_(agen.__anext__()))
    first.send(None)
    with pytest.raises(RuntimeError, match="already running"):
        finish(async_def(lambda: await_(agen.__anext__())))
    with pytest.raises(StopIteration) as end:
        first.send(None)
    assert end.value.value == 1


def test_two_functions_that_drive_each_other() -> None:
    boxes: list[Any] = []

    def ping() -> str:
        assert boxes[1].send(None) == "pong waits"
        await_(suspend("ping waits"))
        with pytest.raises(StopIteration) as end:
            boxes[1].send("from ping")
        return end.value.value

    def pong() -> str:
        with pytest.raises(ValueError, match="already executing"):
            boxes[0].send(None)
        answer = await_(suspend("pong waits"))
        with pytest.raises(ValueError, match="already executing"):
            boxes[0].send(None)
        return f"pong got {answer}"

    boxes += [async_def(ping), async_def(pong)]
    assert finish(boxes[0]) == "pong got from ping"


def test_resumed_from_another_stack_than_the_one_it_was_started_from() -> None:
    """Whoever resumes is the driver: returning goes there, not to the first one."""

    def f() -> str:
        await_(suspend("one"))
        await_(suspend("two"))
        return "end"

    coro = async_def(f)
    assert finish(async_def(lambda: coro.send(None))) == "one"
    assert finish(async_def(lambda: finish(async_def(lambda: coro.send(None))))) == "two"
    with pytest.raises(StopIteration) as end:
        coro.send(None)
    assert end.value.value == "end"


@pytest.mark.parametrize("way", REENTER)
@pytest.mark.parametrize("between", [False, True], ids=["straight", "a coroutine between"])
def test_a_nested_function_belongs_to_the_one_that_awaits_it(way: str, between: bool) -> None:
    """Both may share one stack; pulling the inner one out would tear it apart."""

    async def coroutine(coro: Any) -> object:
        return await coro

    inner = async_def(lambda: await_(suspend()))
    outer = async_def(await_, coroutine(inner) if between else inner)
    outer.send(None)
    refuses(REENTER[way], inner)
    with pytest.raises(RuntimeError, match="already"):
        finish(async_def(await_, inner))
    with pytest.raises(StopIteration) as end:
        outer.send("answer")
    assert end.value.value == "answer"
    assert inner.cr_frame is None
