"""Exceptions through any layers: causes, contexts, `finally`, what `sys.exc_info` tells."""

from __future__ import annotations

from typing import Any

from model import Fails, Failure, described
from program import Node
from world import Expected, handled

from operations.operation import Operation


class Raise(Operation):
    name = "raise"
    weight = 0.7
    cancellable = True

    def expect(self, node: Node, model: Any) -> int:
        model.raise_(Failure(node.tag))

    def run(self, node: Node, world: Any) -> int:
        raise Expected(node.tag)


class RaiseFrom(Operation):
    name = "raise from"
    weight = 0.3
    cancellable = True

    def expect(self, node: Node, model: Any) -> int:
        model.raise_(Failure(node.tag, cause=Failure(node.tag + 1)))

    def run(self, node: Node, world: Any) -> int:
        raise Expected(node.tag) from Expected(node.tag + 1)


class Catch(Operation):
    name = "catch"
    weight = 2
    blocks = 2
    cancellable = True

    def expect(self, node: Node, model: Any) -> int:
        try:
            return model.block(node.blocks[0])
        except Fails as fails:
            failure = fails.failure
        model.trail.append(("caught", described(failure)))
        return model.while_handling(failure, lambda: model.block(node.blocks[1]))

    def run(self, node: Node, world: Any) -> int:
        try:
            return world.block(node.blocks[0])
        except Expected as error:
            world.trail.append(("caught", described(error)))
            return world.block(node.blocks[1])


class Finally(Operation):
    name = "finally"
    weight = 2
    blocks = 1
    cancellable = True

    def expect(self, node: Node, model: Any) -> int:
        model.trail.append(("begin", node.tag))
        try:
            return model.block(node.blocks[0])
        finally:
            model.trail.append(("end", node.tag))

    def run(self, node: Node, world: Any) -> int:
        world.trail.append(("begin", node.tag))
        try:
            return world.block(node.blocks[0])
        finally:
            world.trail.append(("end", node.tag))


class Handle(Operation):
    """Runs a block while an exception is handled, and looks whether it still is."""

    name = "handle"
    weight = 1
    blocks = 1
    cancellable = True

    def expect(self, node: Node, model: Any) -> int:
        try:
            model.raise_(Failure(node.tag))
        except Fails as fails:
            failure = fails.failure

        def body() -> int:
            total = model.block(node.blocks[0])
            model.trail.append(("handled", described(failure)))
            return total

        return model.while_handling(failure, body)

    def run(self, node: Node, world: Any) -> int:
        try:
            raise Expected(node.tag)
        except Expected:
            total = world.block(node.blocks[0])
            world.trail.append(("handled", handled()))
            return total


class Handled(Operation):
    name = "exc_info"
    weight = 1
    cancellable = True

    def expect(self, node: Node, model: Any) -> int:
        model.trail.append(("handled", described(model.handling)))
        return 0

    def run(self, node: Node, world: Any) -> int:
        world.trail.append(("handled", handled()))
        return 0


OPERATIONS = [Raise, RaiseFrom, Catch, Finally, Handle, Handled]
