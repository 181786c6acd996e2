"""One step of the event loop: suspend, let the loop turn once, be resumed."""

from __future__ import annotations

import sys

from measure import NATIVE, Case, Target
from peers import OURS, Peer
from work import side_by_side, step

# 3.14 made the native step a quarter faster, and its stacks have bounds that must follow a switch.
LIMIT = 1.05 if sys.version_info < (3, 14) else 1.10


def cases(peers: list[Peer]) -> list[Case]:
    return [
        Case(
            row="step",
            title="one event-loop step",
            contenders=side_by_side(peers, step),
            targets=[Target(OURS, NATIVE, "at most", LIMIT)],
        )
    ]
