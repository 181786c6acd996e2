"""Await a coroutine that does not suspend, in a function that a task with a portal calls.

The drop-in for greenback stands beside greenback here.
"""

from __future__ import annotations

from measure import NATIVE, Case, Contender, Target
from peers import OURS, Peer, with_drop_in, with_portals
from work import awaiting, nop, waiting_in_portal


def cases(peers: list[Peer]) -> list[Case]:
    return [
        Case(
            row="portal-await",
            title="through a portal, await a coroutine that does not suspend",
            contenders=[
                Contender(NATIVE, awaiting(nop)),
                *(
                    Contender(peer.name, waiting_in_portal(peer, portal, nop))
                    for peer, portal in with_portals(with_drop_in(peers))
                ),
            ],
            targets=[Target(OURS, NATIVE, "at most", 1.10)],
        )
    ]
