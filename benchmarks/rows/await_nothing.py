"""Await a coroutine that does not suspend: the price of the call that turns out to be free."""

from __future__ import annotations

from measure import NATIVE, Case, Target
from peers import OURS, Peer
from work import nop, side_by_side


def cases(peers: list[Peer]) -> list[Case]:
    return [
        Case(
            row="await",
            title="await a coroutine that does not suspend",
            contenders=side_by_side(peers, nop),
            targets=[Target(OURS, NATIVE, "at most", 1.10)],
        )
    ]
