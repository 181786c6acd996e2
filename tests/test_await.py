"""`await_` waits for whatever `await` waits for, at any depth, and no more."""

from __future__ import annotations

import asyncio
import concurrent.futures
import functools
import inspect
import types
from collections.abc import AsyncIterator, Generator, Iterator
from typing import Any

import pytest
from hand_driver import finish, suspend, value

import verdigris
from verdigris import async_def, await_


def green(fn: Any, *args: Any) -> Any:
    """Run `fn` as a green function; every tag it yields is answered with itself."""
    return finish(async_def(fn, *args), answer=lambda tag: tag)


# --- what can be awaited -----------------------------------------------------


class AwaitGenerator:
    def __await__(self) -> Generator[object, Any, Any]:
        return (yield "generator")


class Steps:
    """An iterator that has neither `send` nor `throw`."""

    def __init__(self, *tags: object) -> None:
        self.tags = iter(tags)

    def __iter__(self) -> Iterator[object]:
        return self

    def __next__(self) -> object:
        return next(self.tags)


class AwaitIterator:
    def __init__(self, *tags: object) -> None:
        self.tags = tags

    def __await__(self) -> Iterator[object]:
        return Steps(*self.tags)


def test_a_coroutine_that_never_suspends_never_reaches_the_driver() -> None:
    coro = async_def(lambda: await_(value("at once")))
    with pytest.raises(StopIteration) as end:
        coro.send(None)
    assert end.value.value == "at once"


def test_a_coroutine_that_suspends() -> None:
    async def twice() -> list[object]:
        return [await suspend(1), await suspend(2)]

    assert green(lambda: await_(twice())) == [1, 2]


def test_an_object_with_await() -> None:
    assert green(lambda: await_(AwaitGenerator())) == "generator"


def test_an_iterator_without_send() -> None:
    tags: list[object] = []
    coro = async_def(lambda: await_(AwaitIterator(1, 2)))
    assert finish(coro, answer=tags.append) is None
    assert tags == [1, 2]


def test_an_iterator_without_send_takes_none_only() -> None:
    coro = async_def(lambda: await_(AwaitIterator(1, 2)))
    coro.send(None)
    with pytest.raises(AttributeError, match="send"):
        coro.send("something")


def test_an_iterator_without_throw_raises_at_await() -> None:
    def f() -> str:
        try:
            await_(AwaitIterator(1, 2))
        except KeyError as error:
            return f"caught {error.args[0]}"
        return "never"

    coro = async_def(f)
    coro.send(None)
    with pytest.raises(StopIteration) as end:
        coro.throw(KeyError("thrown"))
    assert end.value.value == "caught thrown"


def test_a_generator_based_coroutine() -> None:
    @types.coroutine
    def steps() -> Generator[object, Any, Any]:
        return ((yield 1), (yield 2))

    assert green(lambda: await_(steps())) == (1, 2)


def test_another_green_coroutine() -> None:
    assert green(lambda: await_(async_def(lambda: await_(suspend("inner"))))) == "inner"


def test_async_generators_and_context_managers_step_by_step() -> None:
    async def numbers() -> AsyncIterator[int]:
        for n in range(3):
            await suspend(n)
            yield n

    def f() -> list[int]:
        agen = numbers()
        seen = [await_(agen.__anext__()), await_(agen.asend(None))]
        await_(agen.aclose())
        return seen

    assert green(f) == [0, 1]


def test_futures_and_tasks(aio: Any) -> None:
    def f() -> list[object]:
        here = asyncio.get_running_loop()
        ready = here.create_future()
        ready.set_result("ready")
        later = here.create_future()
        here.call_later(0.001, later.set_result, "later")
        task = here.create_task(asyncio.sleep(0.001, "task"))
        gathered = asyncio.gather(asyncio.sleep(0, 1), asyncio.sleep(0, 2))
        return [await_(ready), await_(later), await_(task), await_(task), await_(gathered)]

    assert aio.run(async_def, f) == ["ready", "later", "task", "task", [1, 2]]


def test_a_futures_error_is_raised_at_await(aio: Any) -> None:
    def f() -> str:
        here = asyncio.get_running_loop()
        failed = here.create_future()
        here.call_soon(failed.set_exception, KeyError("failed"))
        with pytest.raises(KeyError, match="failed"):
            await_(failed)
        return "went on"

    assert aio.run(async_def, f) == "went on"


def test_events_locks_and_sleeps_of_every_loop(loop: Any) -> None:
    def waits(event: Any, log: list[str]) -> None:
        log.append("waits")
        await_(event.wait())
        log.append("woken")

    def sets(event: Any, log: list[str]) -> None:
        await_(loop.sleep(0.005))
        log.append("sets")
        event.set()

    async def main() -> list[str]:
        event, log = loop.event(), []
        async with loop.tasks() as start:
            start(async_def, waits, event, log)
            start(async_def, sets, event, log)
        return log

    assert loop.run(main) == ["waits", "sets", "woken"]


def test_what_the_awaitable_raises_is_raised_at_await() -> None:
    class Unheard(BaseException): ...

    async def fails(suspends: bool) -> None:
        if suspends:
            await suspend()
        raise Unheard("from the awaitable")

    def f(suspends: bool) -> str:
        try:
            await_(fails(suspends))
        except Unheard as error:
            return error.args[0]
        return "never"

    assert green(f, False) == "from the awaitable"
    assert green(f, True) == "from the awaitable"


# --- depth -------------------------------------------------------------------


def test_inside_what_is_being_awaited() -> None:
    """The limit its predecessors document: "awaitlet() calls cannot be nested"."""

    async def middle() -> list[object]:
        return [await suspend("plain"), sync_inside(), await suspend("plain again")]

    def sync_inside() -> object:
        return await_(suspend("nested"))

    assert green(lambda: await_(middle())) == ["plain", "nested", "plain again"]


@pytest.mark.parametrize("new_stack", [False, True], ids=["one stack", "a stack each"])
def test_fifty_deep(new_stack: bool) -> None:
    async def down(depth: int) -> int:
        await suspend()
        if depth == 0:
            return 0
        if new_stack:
            return await async_def(up, depth)
        return up(depth)

    def up(depth: int) -> int:
        await_(suspend())
        return 1 + await_(down(depth - 1))

    assert green(up, 50) == 50


def test_a_generator_may_await_between_its_yields() -> None:
    def numbers() -> Iterator[object]:
        for n in range(3):
            yield await_(suspend(n))

    assert green(lambda: list(numbers())) == [0, 1, 2]


def test_a_generator_may_go_from_one_function_to_another() -> None:
    """`await_` suspends whoever runs the generator now, not who made it."""

    def numbers() -> Iterator[tuple[str, object]]:
        while True:
            yield "from", await_(suspend("tag"))

    shared = numbers()
    take = lambda: next(shared)  # noqa: E731
    first, second = async_def(take), async_def(take)
    first.send(None)
    with pytest.raises(StopIteration) as end:
        first.send(1)
    assert end.value.value == ("from", 1)
    second.send(None)
    with pytest.raises(StopIteration) as end:
        second.send(2)
    assert end.value.value == ("from", 2)


def test_in_comprehensions_callbacks_and_dunders() -> None:
    class Lazy:
        def __getattr__(self, name: str) -> object:
            if name.startswith("__"):
                raise AttributeError(name)
            return await_(suspend(name))

        def __len__(self) -> int:
            return await_(suspend(3))

        def __lt__(self, other: object) -> bool:
            return await_(suspend(True))

        def __enter__(self) -> object:
            return await_(suspend("entered"))

        def __exit__(self, *exc: object) -> bool:
            return await_(suspend(True))

    def f() -> list[object]:
        lazy = Lazy()
        with lazy as entered:
            raise KeyError("swallowed by __exit__")
        return [
            lazy.attribute,
            len(lazy),
            [await_(suspend(n)) for n in range(3)],
            list(map(lambda n: await_(suspend(n)), range(3))),
            sorted([3, 1, 2], key=lambda n: await_(suspend(-n))),
            functools.reduce(lambda a, b: await_(suspend(a + b)), range(4)),
            len(sorted([lazy, Lazy(), Lazy()])),
            entered,
        ]

    assert green(f) == ["attribute", 3, [0, 1, 2], [0, 1, 2], [3, 2, 1], 6, 3, "entered"]


# --- what cannot be awaited --------------------------------------------------


def plain_generator() -> Iterator[int]:
    yield 1


def plain_function() -> int:
    return 1


NOT_AWAITABLE = {
    "None": lambda: None,
    "int": lambda: 3,
    "generator": plain_generator,
    "generator function": lambda: plain_generator,
    "function": lambda: plain_function,
    "lambda": lambda: lambda: 1,
    "type": lambda: int,
    "list": lambda: [],
    "concurrent future": concurrent.futures.Future,
    "async generator": lambda: async_numbers(),
}


async def async_numbers() -> AsyncIterator[int]:
    yield 1


@pytest.mark.parametrize("kind", NOT_AWAITABLE)
def test_type_error_for_anything_else(kind: str) -> None:
    thing = NOT_AWAITABLE[kind]()
    # A class passed by mistake is named itself: "type" would help nobody.
    name = thing.__name__ if isinstance(thing, type) else type(thing).__name__
    with pytest.raises(TypeError, match=name):
        green(lambda: await_(thing))
    with pytest.raises(TypeError, match=name):
        await_(thing)


def test_the_function_goes_on_after_a_type_error() -> None:
    def f() -> object:
        with pytest.raises(TypeError):
            await_(3)  # type: ignore[call-overload]
        return await_(suspend("still waits"))

    assert green(f) == "still waits"


class AwaitWrong:
    def __init__(self, result: Any) -> None:
        self.result = result

    def __await__(self) -> Any:
        return self.result


def test_await_must_give_an_iterator() -> None:
    with pytest.raises(TypeError, match="non-iterator of type 'int'"):
        green(lambda: await_(AwaitWrong(3)))
    with pytest.raises(TypeError, match="non-iterator of type 'list'"):
        green(lambda: await_(AwaitWrong([])))


def test_await_must_not_give_a_coroutine() -> None:
    coro = value(1)
    with pytest.raises(TypeError, match="returned a coroutine"):
        green(lambda: await_(AwaitWrong(coro)))
    coro.close()


def test_an_error_in_await_itself_passes() -> None:
    class Broken:
        def __await__(self) -> Any:
            raise KeyError("in __await__")

    with pytest.raises(KeyError, match="in __await__"):
        green(lambda: await_(Broken()))


@pytest.mark.parametrize("args", [(), (1, 2)])
def test_takes_exactly_one_argument(args: tuple[Any, ...]) -> None:
    with pytest.raises(TypeError):
        await_(*args)


def test_a_coroutine_cannot_be_awaited_twice() -> None:
    coro = value(1)

    def f() -> object:
        await_(coro)
        return await_(coro)

    with pytest.raises(RuntimeError, match="cannot reuse already awaited coroutine"):
        green(f)


def test_a_coroutine_someone_else_awaits_is_refused() -> None:
    async def waits() -> object:
        return await suspend()

    coro = waits()

    async def awaits() -> object:
        return await coro

    other = awaits()
    other.send(None)
    with pytest.raises(RuntimeError, match="coroutine is being awaited already"):
        green(lambda: await_(coro))
    # The one who was first is not disturbed.
    with pytest.raises(StopIteration) as end:
        other.send("answer")
    assert end.value.value == "answer"


def test_a_coroutine_a_green_function_awaits_is_refused() -> None:
    """The same the other way round: the first to wait holds the coroutine."""

    async def waits() -> object:
        return await suspend()

    coro = waits()
    first = async_def(lambda: await_(coro))
    first.send(None)
    with pytest.raises(RuntimeError, match="coroutine is being awaited already"):
        green(lambda: await_(coro))
    with pytest.raises(StopIteration) as end:
        first.send("answer")
    assert end.value.value == "answer"


def test_a_green_coroutine_cannot_be_awaited_twice() -> None:
    coro = async_def(lambda: 1)

    def f() -> object:
        await_(coro)
        return await_(coro)

    with pytest.raises(RuntimeError, match="cannot reuse already awaited coroutine"):
        green(f)


# --- the decorator -----------------------------------------------------------


def test_decorates_an_async_function() -> None:
    @await_
    async def fetch(tag: object, *, suffix: str = "") -> str:
        """Fetches."""
        return f"{await suspend(tag)}{suffix}"

    assert fetch.__name__ == "fetch"
    assert fetch.__doc__ == "Fetches."
    assert not inspect.iscoroutinefunction(fetch)
    assert list(inspect.signature(fetch).parameters) == ["tag", "suffix"]
    assert green(lambda: fetch("x", suffix="!")) == "x!"
    assert green(fetch, "straight") == "straight"


def test_decorates_methods() -> None:
    class Client:
        base = "base"

        @await_
        async def get(self, tag: str) -> str:
            return f"{self.base}/{await suspend(tag)}"

        @classmethod
        @await_
        async def make(cls) -> Client:
            await suspend()
            return cls()

        @staticmethod
        @await_
        async def ping() -> object:
            return await suspend("pong")

    assert green(lambda: Client().get("x")) == "base/x"
    assert isinstance(green(Client.make), Client)
    assert green(Client.ping) == "pong"


def test_a_decorated_function_needs_a_place_to_wait_too() -> None:
    @await_
    async def fetch() -> None: ...

    # Warnings are errors: the coroutine it made must have been closed.
    with pytest.raises(verdigris.NoAwaitContext):
        fetch()
