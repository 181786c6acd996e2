"""The running side of a program: what the operations act on, and what they leave behind."""

from __future__ import annotations

import contextvars
import itertools
import sys
import threading
from collections.abc import Callable
from typing import Any

from model import Trail, described
from program import Node

level: contextvars.ContextVar[int] = contextvars.ContextVar("level", default=0)


class Expected(Exception):
    """What programs raise."""

    def __init__(self, tag: int) -> None:
        super().__init__(tag)
        self.tag = tag

    @property
    def cause(self) -> BaseException | None:
        return self.__cause__

    @property
    def context(self) -> BaseException | None:
        return self.__context__


def handled() -> str:
    """What `sys.exc_info` tells, as the model says it."""
    return described(sys.exc_info()[1])


class Program:
    """What all tasks of one program share."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.background: Trail = []
        self.handles: list[Any] = []
        self.operations = 0


class Garbage:
    """Counts functions that were dropped in a cycle, and those that have ended since."""

    def __init__(self) -> None:
        self._dropped, self._ended = itertools.count(), itertools.count()
        self.dropped = self.ended = 0

    # `next` of a count is one step under the GIL; a collection may run this on any thread.
    def drop(self) -> None:
        self.dropped = next(self._dropped) + 1

    def end(self) -> None:
        self.ended = next(self._ended) + 1


GARBAGE = Garbage()


class World:
    """One task of a program, as it goes."""

    def __init__(self, loop: Any, program: Program) -> None:
        self.loop = loop
        self.program = program
        self.trail: Trail = []

    def task(self, loop: Any = None) -> World:
        """For a task that this one starts."""
        return World(loop or self.loop, self.program)

    def block(self, nodes: list[Node]) -> int:
        from operations import OPERATIONS

        total = 0
        for node in nodes:
            self.trail.append(node.tag)
            self.program.operations += 1
            total += OPERATIONS[node.kind].run(node, self)
        return total

    def outcome(self, nodes: list[Node]) -> tuple[str, Trail]:
        """Runs these to their end, and tells it. A cancellation goes through."""
        try:
            end = f"returned {self.block(nodes)}"
        except Expected as error:
            end = f"raised {described(error)}"
        return end, self.trail

    def interruptible(self, run: Callable[[], tuple[str, Trail]]) -> tuple[str, Trail]:
        """The same for a block that may be cut off: what is seen of it either way."""
        try:
            return run()
        except self.loop.interruptions:
            return "interrupted", self.trail


def on_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()
