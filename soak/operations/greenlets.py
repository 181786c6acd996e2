"""Raw greenlets inside functions: switches, waits in a greenlet, throws."""

from __future__ import annotations

import contextvars
from typing import Any

from program import Node, Place
from world import Expected

from operations.operation import Operation

try:
    import greenlet
except ImportError:  # then there are none
    greenlet = None


class Switches(Operation):
    """A block in a greenlet, with switches back and forth before it and a throw after it."""

    name = "greenlet"
    weight = 0.5
    blocks = 1

    def inside(self, place: Place) -> Place:
        return place.deeper(in_greenlet=True)

    def expect(self, node: Node, model: Any) -> int:
        model.trail.extend(("switched", number) for number in range(node.tag % 5))
        model.trail.append(model.task().outcome(node.blocks[0]))
        model.trail.append("thrown" if node.tag % 2 else "returned")
        return 0

    def run(self, node: Node, world: Any) -> int:
        child = world.task()

        def body() -> str:
            # No name for either in this frame: greenlet can't collect one that refers to itself.
            for number in range(node.tag % 5):
                assert greenlet.getcurrent().parent.switch(number) == number
            greenlet.getcurrent().parent.switch(child.outcome(node.blocks[0]))
            try:
                greenlet.getcurrent().parent.switch("waits")
            except Expected:
                return "thrown"
            return "returned"

        other = greenlet.greenlet(body)
        # Else it begins with an empty one.
        other.gr_context = contextvars.copy_context()
        answer = other.switch()
        for number in range(node.tag % 5):
            world.trail.append(("switched", answer))
            answer = other.switch(number)
        world.trail.append(answer)
        assert other.switch() == "waits"
        last = other.throw(Expected(node.tag)) if node.tag % 2 else other.switch()
        world.trail.append(last)
        return 0


OPERATIONS = [Switches] if greenlet is not None else []
