"""The pieces of work that the rows time, and the loops that time them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from functools import partial
from itertools import repeat
from time import perf_counter_ns
from typing import Any

import event_loop
from measure import NATIVE, Contender, Timed, with_own_code
from peers import Peer, Portal

Work = Callable[[], Awaitable[Any]]


async def nop() -> None:
    """Completes without suspending."""


def step() -> Awaitable[None]:
    """Suspends once: asyncio.sleep(0) yields to the event loop and is resumed on its next turn."""
    return asyncio.sleep(0)


def steps() -> Iterator[tuple[str | None, str, Work]]:
    """One step of asyncio's loop and, if it is installed, of Trio's.

    As `Case.loop` wants it, as a title ends, and the step.
    """
    yield None, "", step
    if event_loop.has_trio():
        import trio

        yield event_loop.TRIO, ", on Trio", trio.lowlevel.checkpoint


def empty() -> None:
    """The synchronous function that does nothing."""


def awaiting(work: Work) -> Callable[[int], Coroutine[Any, Any, int]]:
    """Times `await work()` in an async function."""

    async def loop(count: int) -> int:
        started = perf_counter_ns()
        for _ in repeat(None, count):
            await work()
        return perf_counter_ns() - started

    return with_own_code(loop)


def waiting(wait: Callable[[Awaitable[Any]], Any], work: Work) -> Callable[[int], int]:
    """Times `wait(work())` in a synchronous function."""

    def loop(count: int) -> int:
        started = perf_counter_ns()
        for _ in repeat(None, count):
            wait(work())
        return perf_counter_ns() - started

    return with_own_code(loop)


def driving(coroutine: Coroutine[Any, Any, int]) -> int:
    """Drives a coroutine by hand, with nothing between its steps; returns its result."""
    send = coroutine.send
    try:
        while True:
            send(None)
    except StopIteration as end:
        result: int = end.value
        return result


def calling(work: Callable[[], Any]) -> Callable[[int], int]:
    """Times `work()` in a synchronous function."""

    def loop(count: int) -> int:
        started = perf_counter_ns()
        for _ in repeat(None, count):
            work()
        return perf_counter_ns() - started

    return with_own_code(loop)


def side_by_side(peers: list[Peer], work: Work) -> list[Contender]:
    """`await work()` natively, and `wait(work())` under each peer."""
    return [
        Contender(NATIVE, awaiting(work)),
        *(Contender(peer.name, partial(peer.enter, waiting(peer.wait, work))) for peer in peers),
    ]


def entering(peer: Peer, function: Callable[[], Any]) -> Callable[[int], Coroutine[Any, Any, int]]:
    """Times `await enter(function)` in an async function."""
    if peer.decorate is not None:
        # Decorated once, as its users do: decorating at each call would add a functools.wraps.
        return awaiting(peer.decorate(function))
    enter = peer.enter

    async def loop(count: int) -> int:
        started = perf_counter_ns()
        for _ in repeat(None, count):
            await enter(function)
        return perf_counter_ns() - started

    return with_own_code(loop)


async def nothing() -> None:
    """Stands in native code where the other contenders ensure a portal."""


def after(ensure: Callable[[], Coroutine[Any, Any, None]], timed: Timed) -> Timed:
    """Times async code in a task that has called `ensure`."""

    async def in_portal(count: int) -> int:
        await ensure()
        return await timed(count)

    return in_portal


def waiting_in_portal(peer: Peer, portal: Portal, work: Work) -> Timed:
    """Times `wait(work())` in a synchronous function that a task with a portal calls."""
    timed = waiting(peer.wait, work)

    async def in_portal(count: int) -> int:
        await portal.ensure()
        return timed(count)

    return in_portal
