"""Through layers of user code that only pass the call on.

The native program is written with async and await in each layer, the green one with plain
functions; only the innermost function waits. No entering is timed: the loop runs inside.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from measure import NATIVE, Case, Contender, Target, with_own_code
from peers import OURS, Peer
from work import Work, awaiting, calling, nop, step

LAYERS = (0, 5, 20, 50)
TARGET_LAYERS = 20


def _native(work: Work, layers: int) -> Work:
    async def innermost() -> Any:
        return await work()

    def passing_to(inner: Work) -> Work:
        async def layer() -> Any:
            return await inner()

        return with_own_code(layer)

    outermost: Work = with_own_code(innermost)
    for _ in range(layers):
        outermost = passing_to(outermost)
    return outermost


def _green(wait: Callable[[Awaitable[Any]], Any], work: Work, layers: int) -> Callable[[], Any]:
    def innermost() -> Any:
        return wait(work())

    def passing_to(inner: Callable[[], Any]) -> Callable[[], Any]:
        def layer() -> Any:
            return inner()

        return with_own_code(layer)

    outermost: Callable[[], Any] = with_own_code(innermost)
    for _ in range(layers):
        outermost = passing_to(outermost)
    return outermost


def cases(peers: list[Peer]) -> list[Case]:
    ours = [peer for peer in peers if peer.name == OURS]
    found = []
    for kind, work, faster in (("no suspension", nop, 2.5), ("one step", step, 1.6)):
        for layers in LAYERS:
            target = Target(OURS, NATIVE, "at least", faster)
            found.append(
                Case(
                    row=f"layers, {kind}",
                    title=f"through {layers} layers, {kind}",
                    contenders=[
                        Contender(NATIVE, awaiting(_native(work, layers))),
                        *(
                            Contender(
                                peer.name,
                                partial(peer.enter, calling(_green(peer.wait, work, layers))),
                            )
                            for peer in ours
                        ),
                    ],
                    targets=[target] if layers == TARGET_LAYERS else [],
                    size=layers,
                )
            )
    return found
