"""Collections at any point, and garbage in cycles with functions that wait."""

from __future__ import annotations

import gc
from typing import Any

from program import Node
from world import GARBAGE

from operations.operation import Operation
from operations.stepped import suspend
from verdigris import _engine, async_def, await_


class Collect(Operation):
    name = "collect"
    weight = 0.3
    cancellable = True

    def expect(self, node: Node, model: Any) -> int:
        return 0

    def run(self, node: Node, world: Any) -> int:
        # A full one takes as long as a hundred of the others.
        gc.collect(2 if node.tag % 100 == 0 else node.tag % 2)
        return 0


class Cycle(Operation):
    """Drops a function that waits, in a cycle with its own frame. It ends at a collection.

    Which one, and on which thread, nobody knows; the round looks at its end whether all have.
    """

    name = "cycle"
    # A thread that ends leaks what waits on it, and says so.
    on_os_threads = False
    weight = 0.7
    cancellable = True

    def expect(self, node: Node, model: Any) -> int:
        return 0

    def run(self, node: Node, world: Any) -> int:
        def body(cycle: list[Any]) -> None:
            try:
                await_(suspend(node.tag))
            finally:
                GARBAGE.end()
                cycle.append(None)

        cycle: list[Any] = []
        cycle.append(async_def(body, cycle))
        cycle[0].send(None)
        GARBAGE.drop()
        if not _engine.knows_thread_state:
            # The collector can't see what its frames own, and never finds it.
            cycle[0].close()
        return 0


OPERATIONS = [Collect, Cycle]
