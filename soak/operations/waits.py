"""Waits: turns of the loop, events, awaitables that are done, sleep."""

from __future__ import annotations

from typing import Any

from program import Node
from world import level

from operations.operation import Operation
from verdigris import await_
from verdigris.green import time as green_time


class Wait(Operation):
    cancellable = True

    def expect(self, node: Node, model: Any) -> int:
        # A context variable must be after a wait what it was before.
        model.trail.append(("level", model.level))
        return node.tag % 7

    def run(self, node: Node, world: Any) -> int:
        answer = self.wait(node, world)
        world.trail.append(("level", level.get()))
        return answer % 7

    def wait(self, node: Node, world: Any) -> int:
        raise NotImplementedError


class Checkpoint(Wait):
    name = "checkpoint"
    weight = 10

    def wait(self, node: Node, world: Any) -> int:
        return await_(world.loop.checkpoint(node.tag))


class Event(Wait):
    """An event that the loop sets after the function has gone to wait."""

    name = "event"
    weight = 2

    def wait(self, node: Node, world: Any) -> int:
        event = world.loop.event()
        world.loop.soon(event.set)
        await_(event.wait())
        return node.tag


class Nothing(Wait):
    """An awaitable that is done at once."""

    name = "nothing"
    weight = 2

    def wait(self, node: Node, world: Any) -> int:
        async def value() -> int:
            return node.tag

        return await_(value())


class Sleep(Wait):
    name = "sleep"
    weight = 0.5

    def wait(self, node: Node, world: Any) -> int:
        await_(world.loop.sleep(node.tag % 10 / 10_000))
        return node.tag


class GreenSleep(Wait):
    name = "green sleep"
    weight = 0.5

    def wait(self, node: Node, world: Any) -> int:
        green_time.sleep(node.tag % 3 / 10_000)
        return node.tag


OPERATIONS = [Checkpoint, Event, Nothing, Sleep, GreenSleep]
