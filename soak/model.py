"""What must come out of a program: worked out from its tree, without running it.

Nothing here waits, switches or imports verdigris. Exceptions are plain records, and the rules by
which CPython links them are written out, so that what the interpreter does is compared with what
its documentation says and not with itself.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NoReturn

from program import Node

Trail = list[Any]


@dataclass(eq=False, slots=True)
class Failure:
    """An exception that a program raises."""

    tag: int
    cause: Failure | None = None
    context: Failure | None = None


class Fails(Exception):
    """Carries a `Failure` up the model's own stack."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.tag)
        self.failure = failure


def described(failure: Any, links: int = 3) -> str:
    """An exception with what it was raised from and under."""
    if failure is None:
        return "-"
    if not links:
        return str(failure.tag)
    cause, context = described(failure.cause, links - 1), described(failure.context, links - 1)
    return f"{failure.tag}({cause} {context})"


@dataclass
class Interrupted:
    """A block that may be cut off at any of its waits, or come to its end.

    Equal to what was seen if that is the whole, or a beginning of it followed by the ends of all
    blocks that were open there, the innermost first.
    """

    outcome: str
    trail: Trail
    may_end: bool = True
    __hash__ = None  # type: ignore[assignment]

    def __eq__(self, seen: object) -> bool:
        if not isinstance(seen, tuple) or len(seen) != 2:
            return NotImplemented
        outcome, trail = seen
        if outcome != "interrupted":
            return self.may_end and (outcome, trail) == (self.outcome, self.trail)
        for length in range(len(trail), -1, -1):
            # Every beginning is tried: the end of a block may be its own or the interruption's.
            if trail[:length] != self.trail[:length]:
                continue
            if trail[length:] == open_blocks(self.trail[:length]):
                return True
        return False


def open_blocks(trail: Trail) -> Trail:
    """The ends that are due when a block is left here."""
    open_: list[int] = []
    for item in trail:
        if isinstance(item, tuple) and item[0] == "begin":
            open_.append(item[1])
        elif isinstance(item, tuple) and item[0] == "end":
            open_.remove(item[1])
    return [("end", tag) for tag in reversed(open_)]


class Model:
    """One task of a program, as it must go."""

    def __init__(self, level: int = 0, background: Trail | None = None) -> None:
        self.level = level
        self.handling: Failure | None = None
        self.trail: Trail = []
        #: What tasks do that nobody joins. Their order is the loop's affair.
        self.background: Trail = [] if background is None else background

    def task(self, level: int | None = None) -> Model:
        """A task that this one starts: it handles nothing, and has a trail of its own."""
        return Model(self.level if level is None else level, self.background)

    def block(self, nodes: list[Node]) -> int:
        from operations import OPERATIONS

        total = 0
        for node in nodes:
            self.trail.append(node.tag)
            total += OPERATIONS[node.kind].expect(node, self)
        return total

    def outcome(self, nodes: list[Node]) -> tuple[str, Trail]:
        """How a task ends that runs these: its end and its trail."""
        try:
            end = f"returned {self.block(nodes)}"
        except Fails as fails:
            end = f"raised {described(fails.failure)}"
        return end, self.trail

    def raise_(self, failure: Failure) -> NoReturn:
        """As the statement does: what is being handled becomes the context.

        A failure that is raised again keeps no chain that leads back to it.
        """
        handling = self.handling
        if handling is not None and handling is not failure:
            link = handling
            while link.context is not None:
                if link.context is failure:
                    link.context = None
                    break
                link = link.context
            failure.context = handling
        raise Fails(failure)

    def while_handling(self, failure: Failure, body: Callable[[], int]) -> int:
        """The body of an `except` clause."""
        before, self.handling = self.handling, failure
        try:
            return body()
        finally:
            self.handling = before
