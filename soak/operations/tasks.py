"""Tasks: spawned, joined, left alone, cancelled at any wait, timed out."""

from __future__ import annotations

from typing import Any

from model import Fails, Interrupted, Model, described
from program import Node, Place
from world import Expected

from operations.operation import Operation
from verdigris import GreenTask, async_def, await_, spawn


class Join(Operation):
    """Two at once; what they raise is raised again where they are joined."""

    name = "spawn, join"
    weight = 1
    blocks = 2

    def expect(self, node: Node, model: Any) -> int:
        children = [model.task() for _ in node.blocks]
        total = 0
        for child, block in zip(children, node.blocks, strict=True):
            try:
                total += child.block(block)
            except Fails as fails:
                try:
                    model.raise_(fails.failure)
                except Fails as again:
                    model.trail.append(("joined", described(again.failure)))
            model.trail.append(child.trail)
        return total

    def run(self, node: Node, world: Any) -> int:
        children = [world.task() for _ in node.blocks]
        tasks = [
            spawn(child.block, block) for child, block in zip(children, node.blocks, strict=True)
        ]
        total = 0
        for number, (child, task) in enumerate(zip(children, tasks, strict=True)):
            try:
                total += task.join() if (node.tag + number) % 2 else await_(result_of(task))
            except Expected as error:
                world.trail.append(("joined", described(error)))
            world.trail.append(child.trail)
        return total


async def result_of(task: GreenTask[int]) -> int:
    return await task


class JoinLate(Operation):
    """A join that times out, and one that does not."""

    name = "join with timeout"
    weight = 0.2

    def expect(self, node: Node, model: Any) -> int:
        model.trail.append("timed out")
        return node.tag

    def run(self, node: Node, world: Any) -> int:
        event = world.loop.event()

        def wait() -> int:
            await_(event.wait())
            return node.tag

        task = spawn(wait)
        try:
            task.join(timeout=0.0005)
        except TimeoutError:
            world.trail.append("timed out")
        event.set()
        return task.join()


class LeftAlone(Operation):
    """A task that nobody joins. It ends some time before the program's end is looked at."""

    name = "spawn"
    weight = 0.5
    blocks = 1

    def expect(self, node: Node, model: Any) -> int:
        model.background.append((node.tag, model.task().outcome(node.blocks[0])))
        return 0

    def run(self, node: Node, world: Any) -> int:
        child = world.task()

        def body() -> None:
            world.program.background.append((node.tag, child.outcome(node.blocks[0])))

        world.program.handles.append(spawn(body))
        return 0

    def may_stand(self, place: Place) -> bool:
        # A thread's loop ends with its function, and what runs on it then.
        return super().may_stand(place) and not place.os_thread


def interrupted(model: Any, block: list[Node], **how: bool) -> Interrupted:
    child: Model = model.task()
    return Interrupted(*child.outcome(block), **how)


class Interruption(Operation):
    blocks = 1

    def inside(self, place: Place) -> Place:
        return place.deeper(cancellable=True)

    def expect(self, node: Node, model: Any) -> int:
        model.trail.append(interrupted(model, node.blocks[0]))
        return 0


class Cancel(Interruption):
    """The loop's own task around it is cancelled after some turns."""

    name = "cancel"
    weight = 1

    def run(self, node: Node, world: Any) -> int:
        child = world.task()

        async def call() -> Any:
            return await async_def(child.outcome, node.blocks[0])

        seen = await_(world.loop.cancelled_after(call, node.tag % 12))
        world.trail.append(seen or ("interrupted", child.trail))
        return 0


class CancelTask(Interruption):
    """The handle of a spawned function cancels it."""

    name = "task.cancel"
    weight = 1

    def run(self, node: Node, world: Any) -> int:
        child = world.task()
        task = spawn(child.outcome, node.blocks[0])
        for _ in range(node.tag % 12):
            await_(world.loop.checkpoint(0))
        task.cancel()
        world.trail.append(child.interruptible(task.join))
        return 0


class Timeout(Operation):
    """A block with a time limit, which waits for ever at its end."""

    name = "timeout"
    weight = 0.3
    blocks = 1

    def inside(self, place: Place) -> Place:
        return place.deeper(cancellable=True)

    def expect(self, node: Node, model: Any) -> int:
        child = model.task()
        outcome, trail = child.outcome(node.blocks[0])
        # It raises, or waits and is cut off.
        model.trail.append(Interrupted(outcome, trail, may_end=outcome.startswith("raised")))
        return 0

    def run(self, node: Node, world: Any) -> int:
        child = world.task()

        def body() -> Any:
            outcome = child.outcome(node.blocks[0])
            if outcome[0].startswith("returned"):
                await_(world.loop.event().wait())
            return outcome

        async def limited() -> Any:
            try:
                async with world.loop.deadline(node.tag % 20 / 10_000):
                    return await async_def(body)
            except TimeoutError:
                return "interrupted", child.trail

        def in_task() -> Any:
            return await_(limited())

        world.trail.append(spawn(in_task).join())
        return 0


OPERATIONS = [Join, JoinLate, LeftAlone, Cancel, CancelTask, Timeout]
