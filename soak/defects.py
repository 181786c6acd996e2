"""Defects put in on purpose, to see that a soak finds them (tests/test_soak.py)."""

from __future__ import annotations

import faulthandler
from collections.abc import Callable
from typing import Any

from operations.waits import Checkpoint, Event
from program import Node

from verdigris import async_def, await_

kept: list[Any] = []


def lost_wake_up() -> None:
    """An event that nobody sets, once in a while."""
    wait = Event.wait

    def lost(self: Event, node: Node, world: Any) -> int:
        if node.tag % 50 == 0:
            await_(world.loop.event().wait())
        return wait(self, node, world)

    Event.wait = lost  # type: ignore[method-assign]


def wrong_result() -> None:
    """A wait that gives somebody else's answer, once in a while."""
    wait = Checkpoint.wait

    def wrong(self: Checkpoint, node: Node, world: Any) -> int:
        return wait(self, node, world) + (node.tag % 500 == 0)

    Checkpoint.wait = wrong  # type: ignore[method-assign]


def instead_of_checkpoint(every: int, act: Callable[[], object]) -> None:
    wait = Checkpoint.wait

    def and_more(self: Checkpoint, node: Node, world: Any) -> int:
        if node.tag % every == 0:
            act()
        return wait(self, node, world)

    Checkpoint.wait = and_more  # type: ignore[method-assign]


def memory_leak() -> None:
    instead_of_checkpoint(20, lambda: kept.append(bytearray(b"." * 100_000)))


def stack_leak() -> None:
    """A function that waits for ever, and that somebody keeps."""

    def keep() -> None:
        from operations.stepped import suspend

        function = async_def(lambda: await_(suspend(0)))
        function.send(None)
        kept.append(function)

    instead_of_checkpoint(500, keep)


def crash() -> None:
    instead_of_checkpoint(500, faulthandler._sigsegv)  # type: ignore[attr-defined]


DEFECTS: dict[str, Callable[[], None]] = {
    "lost wake-up": lost_wake_up,
    "wrong result": wrong_result,
    "memory leak": memory_leak,
    "stack leak": stack_leak,
    "crash": crash,
}
