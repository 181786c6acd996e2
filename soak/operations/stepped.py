"""Functions stepped by hand: resumed, thrown into, closed, dropped."""

from __future__ import annotations

import types
from collections.abc import Generator
from typing import Any

from model import Trail
from program import Node
from world import Expected

from operations.operation import Operation
from verdigris import async_def, await_

ENDS = ("finish", "throw", "close", "drop")


@types.coroutine
def suspend(tag: int) -> Generator[int, int, int]:
    return (yield tag)


class Stepped(Operation):
    name = "stepped"
    weight = 2
    cancellable = True

    def end(self, node: Node) -> str:
        end = ENDS[node.tag // 4 % 4]
        # One that is dropped before its first step was never awaited, and warns.
        return "close" if end == "drop" and not node.tag % 4 else end

    def expect(self, node: Node, model: Any) -> int:
        steps, end = node.tag % 4, self.end(node)
        seen: Trail = [("yielded", 0)] if steps else []
        seen += [("yielded", step) for step in range(1, steps)]
        if end == "finish":
            seen += [("yielded", step) for step in range(steps, 4)]
            seen += ["end", ("returned", sum(100 + step for step in range(4)))]
        elif not steps:
            seen += ["thrown"] if end == "throw" else []
        else:
            seen += ["caught", "end", ("returned", -1)] if end == "throw" else ["end"]
        model.trail.append(seen)
        return 0

    def run(self, node: Node, world: Any) -> int:
        steps, end = node.tag % 4, self.end(node)
        seen: Trail = []

        def body() -> int:
            try:
                return sum(await_(suspend(step)) for step in range(4))
            except Expected:
                seen.append("caught")
                return -1
            finally:
                seen.append("end")

        function = async_def(body)
        try:
            for step in range(4 if end == "finish" else steps):
                seen.append(("yielded", function.send(99 + step if step else None)))
            if end == "finish":
                function.send(103)
            elif end == "throw":
                function.throw(Expected(node.tag))
            elif end == "close":
                function.close()
        except StopIteration as stop:
            seen.append(("returned", stop.value))
        except Expected:
            seen.append("thrown")
        del function
        world.trail.append(seen)
        return 0


OPERATIONS = [Stepped]
