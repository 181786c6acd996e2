"""Selectors that wait beside the loop, and loops that have a green selector."""

from __future__ import annotations

import asyncio
import selectors as stdlib
import socket
from collections.abc import Iterator
from typing import Any

import pytest
from conftest import Loop

from green.together import beside, cancelled, together
from verdigris import async_def
from verdigris.green import selectors, time  # type: ignore[attr-defined]

READ, WRITE = selectors.EVENT_READ, selectors.EVENT_WRITE
NAMES = ["DefaultSelector", "EpollSelector", "PollSelector", "SelectSelector"]
kinds = pytest.mark.parametrize("name", NAMES)


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    a, b = socket.socketpair()
    with a, b:
        yield a, b


@kinds
def test_waits_for_another_function(loop: Loop, pair: Any, name: str) -> None:
    def body() -> list[Any]:
        with getattr(selectors, name)() as selector:
            key = selector.register(pair[0], READ, "data")
            assert selector.select(0) == []
            assert selector.select() == [(key, READ)]
            key = selector.modify(pair[0], READ | WRITE)
            assert selector.select(-1) == [(key, READ | WRITE)]
            selector.unregister(pair[0])
            return list(selector.select(0.01))

    def write() -> None:
        time.sleep(0.02)
        pair[1].send(b"x")

    assert together(loop, body, write)[0] == []


@kinds
def test_timeout_leaves_the_loop_free(loop: Loop, pair: Any, name: str) -> None:
    with getattr(selectors, name)() as selector:
        selector.register(pair[0], READ)
        assert beside(loop, lambda: selector.select(0.2)) == []


@kinds
def test_cancelled_while_it_waits(loop: Loop, pair: Any, name: str) -> None:
    with getattr(selectors, name)() as selector:
        selector.register(pair[0], READ)
        assert cancelled(loop, selector.select, lambda: True)
        pair[1].send(b"x")
        assert len(selector.select()) == 1


@kinds
def test_a_subclass_of_the_stdlibs(name: str) -> None:
    assert issubclass(getattr(selectors, name), getattr(stdlib, name))
    assert issubclass(getattr(selectors, name), stdlib.BaseSelector)
    assert selectors.SelectorKey is stdlib.SelectorKey


@kinds
def test_errors_are_the_stdlibs(loop: Loop, name: str) -> None:
    def body() -> None:
        with getattr(selectors, name)() as selector:
            with pytest.raises(ValueError, match="Invalid file object"):
                selector.register("x", READ)
            with pytest.raises(ValueError, match="Invalid events"):
                selector.register(0, 0)
            with pytest.raises(KeyError):
                selector.unregister(0)

    together(loop, body)


@kinds
def test_asyncio_on_a_green_selector(name: str) -> None:
    async def main() -> Any:
        async def serve(reader: Any, writer: Any) -> None:
            writer.write((await reader.readline()).upper())
            writer.close()
            await writer.wait_closed()

        server = await asyncio.start_server(serve, "127.0.0.1")
        async with server:
            reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            writer.write(b"hello\n")
            line = await reader.readline()
            writer.close()
            await writer.wait_closed()
            # And functions run green in it.
            await asyncio.gather(*(async_def(time.sleep, 0.02) for _ in range(5)))
            return line, await asyncio.to_thread(str, 1)

    def factory() -> asyncio.AbstractEventLoop:
        return asyncio.SelectorEventLoop(getattr(selectors, name)())

    with asyncio.Runner(loop_factory=factory) as runner:
        assert runner.run(main()) == (b"HELLO\n", "1")


def an_inner_loop() -> Any:
    def factory() -> asyncio.AbstractEventLoop:
        return asyncio.SelectorEventLoop(selectors.DefaultSelector())

    with asyncio.Runner(loop_factory=factory) as runner:
        return runner.run(asyncio.sleep(0.2, "slept"))


def test_a_loop_in_a_green_function_on_trio(trio_loop: Any) -> None:
    assert beside(trio_loop, an_inner_loop) == "slept"


@pytest.mark.skip(reason="the outer loop is not to be seen as running while an inner one runs")
def test_a_loop_in_a_green_function(aio: Any) -> None:
    assert beside(aio, an_inner_loop) == "slept"


IN_PLACE = """
import asyncio, select, selectors
from verdigris import async_def
from verdigris.green import _twin, select as s, selectors as ss
before = selectors.DefaultSelector()
_twin.patch(select, s.REPLACED)
_twin.patch(selectors, ss.REPLACED, ss.METHODS)
for kind in (selectors.DefaultSelector, selectors.PollSelector, selectors.SelectSelector):
    with asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(kind())) as runner:
        async def main():
            def wait():
                with kind() as selector:
                    return selector.select(0.1)
            count = 0
            waiting = asyncio.gather(async_def(wait), async_def(wait))
            while not waiting.done():
                await asyncio.sleep(0.005)
                count += 1
            return await waiting, count > 1
        print(runner.run(main()))
assert before.select(0) == []
before.close()
"""


def test_in_place(python: Any) -> None:
    assert python(IN_PLACE).stdout == "([[], []], True)\n" * 3
