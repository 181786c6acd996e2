"""One step that a task awaits by itself: what its portal costs where it is not used."""

from __future__ import annotations

from measure import NATIVE, Case, Contender, Target
from peers import OURS, Peer, with_portals
from work import after, awaiting, nothing, steps


def cases(peers: list[Peer]) -> list[Case]:
    return [
        Case(
            row="portal-native-step",
            title=f"in a task with a portal, one native event-loop step{on_loop}",
            contenders=[
                # As deep as the others: a native step goes through every coroutine of the task.
                Contender(NATIVE, after(nothing, awaiting(step))),
                *(
                    Contender(peer.name, after(portal.ensure, awaiting(step)))
                    for peer, portal in with_portals(peers)
                ),
            ],
            targets=[Target(OURS, NATIVE, "at most", 1.05)],
            loop=loop,
        )
        for loop, on_loop, step in steps()
    ]
