"""`ensure_portal()` in a task that has a portal already, as a function calls it that can't know.

It is always a checkpoint. The least that it can cost is `asyncio.sleep(0)`, which is the baseline.
"""

from __future__ import annotations

from measure import NATIVE, Case, Contender, Target
from peers import OURS, Peer, with_portals
from work import after, awaiting, step


def cases(peers: list[Peer]) -> list[Case]:
    return [
        Case(
            row="portal-ensure",
            title="ensure_portal() where there is one",
            contenders=[
                Contender(NATIVE, awaiting(step)),
                *(
                    Contender(peer.name, after(portal.ensure, awaiting(portal.ensure)))
                    for peer, portal in with_portals(peers)
                ),
            ],
            targets=[Target(OURS, NATIVE, "at most", 1.2)],
        )
    ]
