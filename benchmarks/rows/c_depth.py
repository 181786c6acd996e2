"""One event-loop step with 200 C calls below it on the stack, against the same at depth 0.

A library that copies stack slices pays for what lies below the wait. One that switches stacks
should not. Calls from Python to Python stay in one C frame since 3.11, so the depth is made by
going through a C function, functools.reduce, at each level.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from functools import partial, reduce
from typing import Any

from measure import Case, Contender, Target
from peers import OURS, Peer
from work import step, waiting

DEPTH = 200


def _descend(depth: int, work: Callable[[], int]) -> int:
    """Calls `work` with `depth` calls of reduce, and of the interpreter loop, below it."""
    if depth == 0:
        return work()
    return reduce(lambda _, inner: _descend(depth - 1, inner), (work,), 0)


def _at_depth(peer: Peer, depth: int) -> Callable[[int], Coroutine[Any, Any, int]]:
    timed = waiting(peer.wait, step)

    def at_depth(count: int) -> int:
        return _descend(depth, partial(timed, count))

    return partial(peer.enter, at_depth)


def _name(peer: Peer, depth: int) -> str:
    return f"{peer.name}, depth {depth}"


def cases(peers: list[Peer]) -> list[Case]:
    found = []
    for peer in peers:
        surface, deep = _name(peer, 0), _name(peer, DEPTH)
        found.append(
            Case(
                row="c-depth",
                title=f"one step at C depth {DEPTH}: {peer.name}",
                contenders=[
                    Contender(surface, _at_depth(peer, 0)),
                    Contender(deep, _at_depth(peer, DEPTH)),
                ],
                baseline=surface,
                targets=[Target(deep, surface, "at most", 1.10)] if peer.name == OURS else [],
            )
        )
    return found
