"""Through a portal, await a coroutine that does not suspend.

The synchronous function is called by the task, not entered by the library. The drop-in for
greenback stands beside greenback here.
"""

from __future__ import annotations

from measure import NATIVE, Case, Contender, Target
from peers import DROP_IN, OURS, Peer, find, with_portals
from work import awaiting, nop, waiting_in_portal


def cases(peers: list[Peer]) -> list[Case]:
    drop_in = find(DROP_IN)
    with_drop_in = [*peers, drop_in] if drop_in is not None else peers
    return [
        Case(
            row="portal-await",
            title="through a portal, await a coroutine that does not suspend",
            contenders=[
                Contender(NATIVE, awaiting(nop)),
                *(
                    Contender(name, waiting_in_portal(portal, nop))
                    for name, portal in with_portals(with_drop_in)
                ),
            ],
            targets=[Target(OURS, NATIVE, "at most", 1.10)],
        )
    ]
