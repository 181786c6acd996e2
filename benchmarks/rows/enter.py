"""Enter: run an empty synchronous function so that it could wait.

Native has nothing to enter. Its line is `await nop()`, the call of an empty async function.
"""

from __future__ import annotations

from measure import NATIVE, Case, Contender, Target
from peers import OURS, Peer
from work import awaiting, empty, entering, nop


def cases(peers: list[Peer]) -> list[Case]:
    return [
        Case(
            row="enter",
            title="enter: await async_def(empty)",
            contenders=[
                Contender(NATIVE, awaiting(nop)),
                *(Contender(peer.name, entering(peer, empty)) for peer in peers),
            ],
            targets=[
                Target(OURS, NATIVE, "at most", 1.8),
                Target(OURS, "awaitlet", "at least", 40),
            ],
        )
    ]
