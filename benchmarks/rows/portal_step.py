"""One step of the event loop, in a function that a task with a portal calls."""

from __future__ import annotations

from measure import NATIVE, Case, Contender, Target
from peers import OURS, Peer, with_portals
from work import awaiting, steps, waiting_in_portal


def cases(peers: list[Peer]) -> list[Case]:
    return [
        Case(
            row="portal-step",
            title=f"through a portal, one event-loop step{on_loop}",
            contenders=[
                Contender(NATIVE, awaiting(step)),
                *(
                    Contender(peer.name, waiting_in_portal(peer, portal, step))
                    for peer, portal in with_portals(peers)
                ),
            ],
            targets=[Target(OURS, NATIVE, "at most", 1.05)],
            loop=loop,
        )
        for loop, on_loop, step in steps()
    ]
