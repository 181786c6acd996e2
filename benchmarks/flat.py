"""Whether memory stays flat: what a process holds after 100,000 calls of a kind and 1,000,000.

    python benchmarks/flat.py [--calls N] [KIND]...

Each kind runs in a process of its own. What is held is read twice: after a tenth of the calls, and
after all of them. Exits with 1 if the second figure is more than 2% above the first for some kind.
It needs nothing but the package and asyncio, so it runs in a cell of `make matrix` too.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import socket
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import memory

from verdigris import (
    _engine,
    async_def,
    async_iter,
    await_,
    block,
    ensure_portal,
    spawn,
    to_async,
    with_portal_run,
)
from verdigris.green import queue, threading
from verdigris.green import socket as green_socket

CALLS = 1_000_000
# Debug builds of CPython take ten times as long, and lose a reference just as visibly.
CALLS_OF_DEBUG_BUILDS = 100_000
ALLOWED = 1.02

Calls = Callable[[int], Awaitable[None]]
KINDS: dict[str, Calls] = {}


def kind(calls: Calls) -> Calls:
    """Notes a function that makes a number of calls, by its name."""
    KINDS[calls.__name__] = calls
    return calls


def green(body: Callable[[int], None]) -> None:
    """Notes a kind whose calls are all made in one green function."""

    async def calls(count: int) -> None:
        await async_def(body, count)

    KINDS[body.__name__] = calls


async def step() -> int:
    await asyncio.sleep(0)
    return 1


def waits() -> int:
    return await_(step())


@kind
async def async_def_and_await(count: int) -> None:
    for _ in range(count):
        await async_def(waits)


@kind
async def never_suspends(count: int) -> None:
    async def at_once() -> int:
        return 1

    for _ in range(count):
        await async_def(lambda: await_(at_once()))


@kind
async def one_function_that_waits(count: int) -> None:
    def for_long() -> None:
        for _ in range(count):
            waits()

    await async_def(for_long)


@kind
async def tasks(count: int) -> None:
    for _ in range(count // 100):
        await asyncio.gather(*(async_def(waits) for _ in range(100)))


@kind
async def portal(count: int) -> None:
    async def calls() -> int:
        await asyncio.sleep(0)
        return waits()

    for _ in range(count):
        await with_portal_run(calls)


@kind
async def portal_of_a_task(count: int) -> None:
    async def calls() -> int:
        await ensure_portal()
        return waits()

    for _ in range(count // 100):
        await asyncio.gather(*(calls() for _ in range(100)))


@green
def spawned(count: int) -> None:
    for _ in range(count):
        spawn(waits).join()


@green
def green_threads(count: int) -> None:
    for _ in range(count):
        thread = threading.Thread(target=waits)
        thread.start()
        thread.join()


@green
def green_queues(count: int) -> None:
    full: queue.Queue[int] = queue.Queue(1)

    def puts() -> None:
        for number in range(count):
            full.put(number)

    task = spawn(puts)
    for _ in range(count):
        full.get()
    task.join()


@green
def green_sockets(count: int) -> None:
    one, other = green_socket.socketpair()

    def answers() -> None:
        while data := other.recv(10):
            other.sendall(data)

    task = spawn(answers)
    for _ in range(count):
        one.sendall(b"x")
        one.recv(10)
    one.shutdown(socket.SHUT_RDWR)
    task.join()
    one.close()
    other.close()


@kind
async def on_threads(count: int) -> None:
    call = to_async(int)
    for _ in range(count):
        await call()


@kind
async def on_threads_waiting_for_the_loop(count: int) -> None:
    def calls() -> int:
        return block(step)

    call = to_async(calls)
    for _ in range(count):
        await call()


@green
def blocked(count: int) -> None:
    for _ in range(count):
        block(step)


@kind
async def cancelled(count: int) -> None:
    def for_ever() -> None:
        try:
            await_(asyncio.Event().wait())
        finally:
            waits()

    for _ in range(count // 100):
        some = [asyncio.ensure_future(async_def(for_ever)) for _ in range(100)]
        await asyncio.sleep(0)
        for task in some:
            task.cancel()
        await asyncio.gather(*some, return_exceptions=True)


@kind
async def exceptions(count: int) -> None:
    async def fails() -> None:
        await asyncio.sleep(0)
        raise KeyError("key")

    def passes_on() -> None:
        try:
            await_(fails())
        except KeyError as error:
            waits()
            raise ValueError("value") from error

    for _ in range(count):
        try:
            await async_def(passes_on)
        except ValueError:
            continue
        raise AssertionError("nothing was raised")


@kind
async def generators(count: int) -> None:
    def generator() -> Iterator[int]:
        yield waits()
        yield waits()

    async def native() -> Any:
        yield await step()
        yield await step()

    def both() -> int:
        for first, second in zip(generator(), async_iter(native()), strict=True):
            assert first == second
        # One that is left in the middle.
        return next(generator())

    for _ in range(count):
        await async_def(both)


@kind
async def abandoned(count: int) -> None:
    def for_ever() -> None:
        try:
            await_(asyncio.Event().wait())
        finally:
            list(range(3))

    for _ in range(count):
        async_def(for_ever).send(None)


@kind
async def abandoned_in_cycles(count: int) -> None:
    def for_ever(me: list[object]) -> None:
        await_(asyncio.Event().wait())

    for _ in range(count):
        me: list[object] = []
        me.append(async_def(for_ever, me))
        me[0].send(None)  # type: ignore[attr-defined]


@kind
async def nested_objects_freed(count: int) -> None:
    """On one stack, for long: what is freed late must still be freed."""

    def for_long() -> None:
        for _ in range(count // 100):
            nested: object = None
            for _ in range(100):
                nested = [nested]
            waits()
            del nested

    await async_def(for_long)


@dataclass(frozen=True)
class Held:
    """What a process holds after so many calls, in bytes."""

    calls: int
    first: int
    last: int
    stacks: int

    @property
    def ratio(self) -> float:
        return self.last / self.first


def measure(calls: Calls, count: int) -> Held:
    """Makes a tenth of the calls, reads, and makes the rest, on one loop."""

    async def main() -> Held:
        tenth = count // 10
        fill_pool()
        await calls(tenth)
        first = held()
        await calls(count - tenth)
        return Held(count, first, held(), _engine.stats()["stacks_in_use"])

    return asyncio.run(main())


def fill_pool() -> None:
    """A thread keeps up to 256 stacks, each with the memory that some call has touched.

    When a stack goes deeper than ever, that is no growth. So all of them begin as deep as one that
    a collection ends, which is some pages more than what the calls need.
    """
    coros = [async_def(waits_deep, 10) for _ in range(300)]
    for coro in coros:
        coro.send(None)
    for coro in coros:
        coro.close()


def waits_deep(calls: int) -> None:
    """Waits, with so many calls from C on its stack."""
    if calls:
        max([calls - 1], key=waits_deep)
    else:
        await_(asyncio.Event().wait())


def held() -> int:
    gc.collect()
    return memory.read().resident


def row(name: str, count: int) -> Held:
    """Measures a kind in a process of its own."""
    done = subprocess.run(
        [sys.executable, __file__, "--alone", "--calls", str(count), name],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return Held(**json.loads(done.stdout))


def main() -> int:
    debug = hasattr(sys, "gettotalrefcount")
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("kinds", nargs="*", metavar="KIND", help=" ".join(KINDS))
    parser.add_argument("--calls", type=int, default=CALLS_OF_DEBUG_BUILDS if debug else CALLS)
    parser.add_argument("--alone", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    for name in options.kinds:
        if name not in KINDS:
            parser.error(f"{name!r} is none of {' '.join(KINDS)}")
    if options.alone:
        (name,) = options.kinds
        print(json.dumps(asdict(measure(KINDS[name], options.calls))))
        return 0

    version = "{}.{}.{}".format(*sys.version_info[:3]) + " debug" * debug
    print(f"CPython {version}: MiB held after {options.calls // 10:,} and {options.calls:,} calls")
    grew = []
    for name in options.kinds or KINDS:
        found = row(name, options.calls)
        first, last = found.first / 2**20, found.last / 2**20
        print(f"{name:<34} {first:8.2f} {last:8.2f}  {found.ratio:.4f}", flush=True)
        if found.ratio > ALLOWED or found.stacks > 1:
            grew.append(name)
    if grew:
        print("grew:", *grew)
    return 1 if grew else 0


if __name__ == "__main__":
    sys.exit(main())
