"""Portals, in tasks of the loop's own."""

from __future__ import annotations

from typing import Any

from program import Node

from operations.operation import Operation
from verdigris import (
    await_,
    ensure_portal,
    portals_for_children,
    with_portal_run,
    with_portal_run_sync,
    with_portal_run_tree,
)


class InTask(Operation):
    blocks = 1
    weight = 0.5

    def expect(self, node: Node, model: Any) -> int:
        model.trail.append(model.task().outcome(node.blocks[0]))
        return 0

    def run(self, node: Node, world: Any) -> int:
        child = world.task()

        async def task() -> Any:
            return await self.enter(node, child)

        world.trail.extend(await_(world.loop.in_tasks(task)))
        return 0

    async def enter(self, node: Node, child: Any) -> Any:
        raise NotImplementedError


class Ensure(InTask):
    name = "ensure_portal"

    async def enter(self, node: Node, child: Any) -> Any:
        await ensure_portal()
        return child.outcome(node.blocks[0])


class Run(InTask):
    name = "with_portal_run"

    async def enter(self, node: Node, child: Any) -> Any:
        async def called() -> Any:
            await child.loop.checkpoint(0)
            return child.outcome(node.blocks[0])

        return await with_portal_run(called)


class RunSync(InTask):
    name = "with_portal_run_sync"

    async def enter(self, node: Node, child: Any) -> Any:
        return await with_portal_run_sync(child.outcome, node.blocks[0])


class Tree(Operation):
    name = "with_portal_run_tree"
    blocks = 2
    weight = 0.3

    def expect(self, node: Node, model: Any) -> int:
        model.trail.extend([model.task().outcome(block) for block in node.blocks])
        return 0

    def run(self, node: Node, world: Any) -> int:
        def starts(block: list[Node]) -> Any:
            child = world.task()

            async def task() -> Any:
                return child.outcome(block)

            return task

        async def parent() -> Any:
            return await world.loop.in_tasks(*map(starts, node.blocks))

        async def root() -> Any:
            if node.tag % 2:
                return await with_portal_run_tree(parent)
            with portals_for_children():
                return await parent()

        (outcomes,) = await_(world.loop.in_tasks(root))
        world.trail.extend(outcomes)
        return 0


OPERATIONS = [Ensure, Run, RunSync, Tree]
