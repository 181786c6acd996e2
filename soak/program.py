"""From a seed, a program: a tree of operations. The same seed gives the same tree everywhere."""

from __future__ import annotations

import functools
import itertools
import random
from dataclasses import dataclass, field, replace
from typing import Any

#: Programs are small, so that a failing one can be read; thousands of them run in a minute.
MOST_NODES = 60
DEEPEST = 6


@dataclass(slots=True)
class Node:
    """One operation: its kind, a number of its own, and the blocks below it."""

    kind: str
    tag: int
    blocks: list[list[Node]] = field(default_factory=list)

    def lines(self, indent: str = "") -> list[str]:
        """The tree as text, one operation a line."""
        below = [
            line for block in self.blocks for node in block for line in node.lines(indent + "  ")
        ]
        return [f"{indent}{self.kind} {self.tag}", *below]


@dataclass(frozen=True, slots=True)
class Place:
    """Where an operation stands; some may not stand everywhere."""

    depth: int = 0
    #: It may be cancelled at any wait, so only what has no other ends than its own stands here.
    cancellable: bool = False
    #: On an OS thread: no signals arrive here, and nothing forks.
    os_thread: bool = False
    #: In a greenlet that a function made.
    in_greenlet: bool = False

    def deeper(self, **changes: bool) -> Place:
        return replace(self, depth=self.depth + 1, **changes)


@functools.cache
def allowed_at(kinds: frozenset[str] | None, place: Place) -> tuple[list[Any], list[float]]:
    """The operations that may stand somewhere, and their weights, added up."""
    from operations import OPERATIONS

    allowed = [
        operation
        for name, operation in OPERATIONS.items()
        if (kinds is None or name in kinds)
        and operation.may_stand(place)
        and not (operation.blocks and place.depth >= DEEPEST)
    ]
    return allowed, list(itertools.accumulate(operation.weight for operation in allowed))


class Generator:
    """Draws the tree of one seed."""

    def __init__(self, seed: int, kinds: frozenset[str] | None = None) -> None:
        self.random = random.Random(seed)
        self.left = MOST_NODES
        self.kinds = kinds

    def block(self, place: Place, most: int = 4) -> list[Node]:
        allowed, weights = allowed_at(self.kinds, place)
        nodes = []
        count = min(self.random.randint(1, most), self.left)
        for operation in self.random.choices(allowed, cum_weights=weights, k=count):
            if self.left <= 0:
                break
            self.left -= 1
            tag = int(self.random.random() * 1_000_000)
            inside = operation.inside(place)
            blocks = [self.block(inside) for _ in range(operation.blocks)]
            nodes.append(Node(operation.name, tag, blocks))
        return nodes


def program(seed: int, kinds: frozenset[str] | None = None) -> list[Node]:
    """The program of a seed; of some kinds of operations only, if they are named."""
    return Generator(seed, kinds).block(Place(), most=8)
