"""Context variables: set in place, in a copy, and in a copy that is written back."""

from __future__ import annotations

import contextvars
from typing import Any

from program import Node
from world import level

from operations.operation import Operation
from verdigris import async_, async_def, await_


class Set(Operation):
    """A nested function shares the context: what it sets is seen after it."""

    name = "set"
    weight = 1
    cancellable = True

    def expect(self, node: Node, model: Any) -> int:
        model.level = node.tag
        return 0

    def run(self, node: Node, world: Any) -> int:
        if node.tag % 2:
            level.set(node.tag)
        else:
            await_(async_def(level.set, node.tag))
        return 0


class InCopy(Operation):
    name = "context.run"
    weight = 1
    blocks = 1
    cancellable = True

    def expect(self, node: Node, model: Any) -> int:
        before, model.level = model.level, model.level + 1
        try:
            return model.block(node.blocks[0])
        finally:
            model.level = before

    def run(self, node: Node, world: Any) -> int:
        def inside() -> int:
            level.set(level.get() + 1)
            return world.block(node.blocks[0])

        return contextvars.copy_context().run(inside)


class WrittenBack(Operation):
    name = "with_context"
    weight = 0.5
    blocks = 1
    cancellable = True

    def expect(self, node: Node, model: Any) -> int:
        return model.block(node.blocks[0])

    def run(self, node: Node, world: Any) -> int:
        return await_(async_(world.block, with_context=True)(node.blocks[0]))


OPERATIONS = [Set, InCopy, WrittenBack]
