"""OS threads: blocking functions, loops of their own, calls made together."""

from __future__ import annotations

import threading
from typing import Any

from loops import LOOPS
from program import Node, Place
from world import level

from operations.operation import Operation
from verdigris import Parallel, async_def, await_, block, to_async

original_thread = threading.Thread


class Offload(Operation):
    """A blocking function on a thread of the pool. It sees a copy of the context."""

    name = "to_async"
    weight = 0.1

    def expect(self, node: Node, model: Any) -> int:
        model.trail.append(("level", model.level))
        return node.tag % 7

    def run(self, node: Node, world: Any) -> int:
        def blocking() -> int:
            world.trail.append(("level", level.get()))
            level.set(-1)
            return node.tag % 7

        return await_(to_async(blocking)())


class Block(Operation):
    name = "block"
    weight = 0.5
    cancellable = True

    def expect(self, node: Node, model: Any) -> int:
        return node.tag % 7

    def run(self, node: Node, world: Any) -> int:
        return block(world.loop.checkpoint, node.tag) % 7


class AtOnce(Operation):
    name = "Parallel"
    weight = 0.05

    def expect(self, node: Node, model: Any) -> int:
        model.trail.append([node.tag, (node.tag // 7, node.tag % 7), "ZeroDivisionError"])
        return 0

    def run(self, node: Node, world: Any) -> int:
        calls = Parallel(return_exceptions=True)
        calls.schedule(world.loop.checkpoint, node.tag).schedule(divmod, node.tag, 7)
        first, second, third = calls.schedule(divmod, 1, 0).block()
        world.trail.append([first, second, type(third).__name__])
        return 0


class LoopOnThread(Operation):
    """A block on an OS thread with a loop of its own."""

    name = "thread with a loop"
    weight = 0.05
    blocks = 1

    def inside(self, place: Place) -> Place:
        return place.deeper(os_thread=True)

    def may_stand(self, place: Place) -> bool:
        return super().may_stand(place) and not place.os_thread

    def expect(self, node: Node, model: Any) -> int:
        model.trail.append(model.task(level=0).outcome(node.blocks[0]))
        return 0

    def run(self, node: Node, world: Any) -> int:
        name = "asyncio" if node.tag % 2 else world.loop.name
        child = world.task(LOOPS[name]())
        seen: list[Any] = []

        async def main() -> None:
            seen.append(await async_def(child.outcome, node.blocks[0]))

        thread = original_thread(target=child.loop.run, args=[main])

        def run_thread() -> None:
            thread.start()
            thread.join()

        await_(to_async(run_thread)())
        world.trail.extend(seen)
        return 0


OPERATIONS = [Offload, Block, AtOnce, LoopOnThread]
