"""async_def inside async_def: synchronous and asynchronous code that call each other in turns.

    await async_def(synchronous 21)
      -> await_(asynchronous 20) -> await async_def(synchronous 20)
        -> ... -> await async_def(synchronous 1) -> await_(work)

The native program has the same 41 functions, all of them async.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from measure import NATIVE, Case, Contender, Target, with_own_code
from peers import OURS, Peer
from work import Work, awaiting, entering, nop, step

DEPTH = 21


def _native(work: Work) -> Work:
    def passing_to(inner: Work) -> Work:
        async def layer() -> Any:
            return await inner()

        return with_own_code(layer)

    outermost = passing_to(work)
    for _ in range(DEPTH - 1):
        outermost = passing_to(passing_to(outermost))
    return outermost


def _green(peer: Peer, work: Work) -> Callable[[], Any]:
    enter, wait = peer.enter, peer.wait

    def waiting_for(inner: Work) -> Callable[[], Any]:
        def synchronous() -> Any:
            return wait(inner())

        return with_own_code(synchronous)

    def running(inner: Callable[[], Any]) -> Work:
        async def asynchronous() -> Any:
            return await enter(inner)

        return with_own_code(asynchronous)

    outermost = waiting_for(work)
    for _ in range(DEPTH - 1):
        outermost = waiting_for(running(outermost))
    return outermost


def cases(peers: list[Peer]) -> list[Case]:
    return [
        Case(
            row="nested",
            title=f"async_def inside async_def, {DEPTH} deep, {kind}",
            contenders=[
                Contender(NATIVE, awaiting(_native(work))),
                *(Contender(peer.name, entering(peer, _green(peer, work))) for peer in peers),
            ],
            targets=[Target(OURS, NATIVE, "at most", 1.6)],
        )
        for kind, work in (("no suspension", nop), ("one step", step))
    ]
