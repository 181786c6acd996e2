"""Ways down: from sync code to async code and back, generators, C frames, recursion."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Iterator
from typing import Any

from program import Node

from operations.operation import Operation
from verdigris import async_, async_context, async_def, async_iter, autoawait, await_


class Call(Operation):
    """Runs its block on the way down, once."""

    blocks = 1
    cancellable = True

    def expect(self, node: Node, model: Any) -> int:
        return model.block(node.blocks[0])


class Function(Call):
    name = "function"
    weight = 2

    def run(self, node: Node, world: Any) -> int:
        return await_(async_def(world.block, node.blocks[0]))


class Coroutine(Call):
    name = "coroutine"
    weight = 2

    def run(self, node: Node, world: Any) -> int:
        async def outer() -> int:
            return await inner()

        async def inner() -> int:
            return await async_(world.block)(node.blocks[0])

        return await_(outer())


class PlainInCoroutine(Call):
    """A coroutine that calls a function which waits, without `await`."""

    name = "plain call in a coroutine"
    weight = 1

    def run(self, node: Node, world: Any) -> int:
        async def coroutine() -> int:
            return world.block(node.blocks[0])

        return await_(coroutine())


class Decorated(Call):
    name = "autoawait"
    weight = 0.5

    def run(self, node: Node, world: Any) -> int:
        @autoawait
        async def decorated(nodes: list[Node]) -> int:
            return await async_def(world.block, nodes)

        return decorated(node.blocks[0])


class AsyncContext(Call):
    name = "async with"
    weight = 0.5

    def expect(self, node: Node, model: Any) -> int:
        model.trail.append(("begin", node.tag))
        try:
            return model.block(node.blocks[0])
        finally:
            model.trail.append(("end", node.tag))

    def run(self, node: Node, world: Any) -> int:
        class Manager:
            async def __aenter__(self) -> None:
                world.trail.append(("begin", node.tag))

            async def __aexit__(self, *exc_info: object) -> None:
                world.trail.append(("end", node.tag))

        with async_context(Manager()):
            return world.block(node.blocks[0])


class Recurse(Call):
    name = "recurse"
    weight = 1

    def run(self, node: Node, world: Any) -> int:
        def down(depth: int) -> int:
            return down(depth - 1) if depth else world.block(node.blocks[0])

        return down(node.tag % 30)


class CFrames(Call):
    name = "C frames"
    weight = 1

    def run(self, node: Node, world: Any) -> int:
        def down(depth: int) -> int:
            if not depth:
                return world.block(node.blocks[0])
            if depth % 2:
                return functools.reduce(lambda _, below: down(below), [depth - 1], 0)
            return max(map(down, [depth - 1]))

        return down(node.tag % 6)


class Twice(Operation):
    """Runs its block twice."""

    blocks = 1
    cancellable = True
    weight = 0.7

    def expect(self, node: Node, model: Any) -> int:
        return model.block(node.blocks[0]) + model.block(node.blocks[0])


class Generator(Twice):
    name = "generator"

    def run(self, node: Node, world: Any) -> int:
        def generator() -> Iterator[int]:
            for _ in range(2):
                yield world.block(node.blocks[0])

        return sum(generator())


class AsyncGenerator(Twice):
    name = "async for"

    def run(self, node: Node, world: Any) -> int:
        async def generator() -> AsyncIterator[int]:
            for _ in range(2):
                yield await async_def(world.block, node.blocks[0])

        return sum(async_iter(generator()))


class ToTheLimit(Operation):
    name = "RecursionError"
    weight = 0.05
    cancellable = True

    def expect(self, node: Node, model: Any) -> int:
        model.trail.append("RecursionError")
        return 0

    def run(self, node: Node, world: Any) -> int:
        def down() -> int:
            return down() + 1

        def below() -> None:
            try:
                down()
            except RecursionError:
                world.trail.append("RecursionError")

        if node.tag % 2:
            below()
        else:
            await_(async_def(below))
        return 0


OPERATIONS = [
    *(Function, Coroutine, PlainInCoroutine, Decorated, AsyncContext, Recurse, CFrames),
    *(Generator, AsyncGenerator, ToTheLimit),
]
