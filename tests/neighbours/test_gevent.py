"""gevent: its hub is bound to the native stack that first used it in a thread."""

from __future__ import annotations

import asyncio
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from conftest import ON_NATIVE_STACKS, needs_native_stacks

gevent = pytest.importorskip("gevent", reason="gevent is not installed")

import greenlet  # noqa: E402

# As its metadata says. Older ones are laid out in another way, and it builds on that.
if tuple(map(int, greenlet.__version__.split(".")[:2])) < (3, 2):
    pytest.skip("this gevent needs greenlet 3.2", allow_module_level=True)

from verdigris import (  # noqa: E402
    NoAwaitContext,
    async_def,
    await_,
    with_portal_run,
)

from .conftest import Entry  # noqa: E402

WHERE_IT_WORKS_NOT = r"Cannot switch to a different thread"


@pytest.fixture(autouse=True)
def no_hub_yet() -> Iterator[None]:
    """Each test decides anew which stack has the hub of this thread.

    The loop goes too: what was spawned for a hub that has gone would stay in it, and the next
    hub's greenlets would lose their wake-ups.
    """
    gevent.get_hub().destroy(destroy_loop=True)
    yield
    gevent.get_hub().destroy(destroy_loop=True)


def waits(steps: int = 3) -> int:
    return sum(await_(asyncio.sleep(0.001, 1)) for _ in range(steps))


def slept(result: Any) -> Any:
    gevent.sleep(0.002)
    return result


def greenlets() -> list[int]:
    jobs = [gevent.spawn(slept, n) for n in range(5)]
    gevent.joinall(jobs)
    return [job.value for job in jobs]


def greenlets_and_waits() -> list[int]:
    first = greenlets()
    jobs = [gevent.spawn(waits, n) for n in range(5)]
    gevent.joinall(jobs)
    assert first == [job.value for job in jobs]
    waits()
    return greenlets()


RIGHT = [0, 1, 2, 3, 4]


async def many_wait(count: int = 10) -> list[int]:
    return await asyncio.gather(*(async_def(waits) for _ in range(count)))


def refused(use: Callable[[], Any]) -> bool:
    """Whether `use` ends in greenlet's error, and the error names the reason."""
    with pytest.raises(greenlet.error, match=WHERE_IT_WORKS_NOT) as caught:
        use()
    return "native stack" in caught.value.__notes__[0]


@pytest.mark.parametrize("order", ["gevent, verdigris", "verdigris, gevent"])
def test_imported_before_or_after(python: Any, order: str) -> None:
    done = python(
        f"""
        import {order}
        import asyncio
        from verdigris import async_def, await_

        def waits():
            return gevent.spawn(await_, asyncio.sleep(0.001, "waited")).get()

        print(asyncio.run(async_def(waits)))
        """
    )
    assert done.stdout == "waited\n"


def test_in_another_thread_while_functions_wait(aio: Any) -> None:
    waited = threading.Event()

    def elsewhere() -> list[list[int]]:
        results = [greenlets()]
        while not waited.is_set():
            results.append(greenlets())
        return results

    def function() -> Any:
        assert waits(20) == 20
        return await_(asyncio.to_thread(greenlets))

    async def main() -> Any:
        thread = asyncio.create_task(asyncio.to_thread(elsewhere))
        results = await asyncio.gather(*(async_def(function) for _ in range(10)))
        waited.set()
        return results, await thread

    results, others = aio.run(main)
    assert results == [RIGHT] * 10
    assert len(others) > 1 and all(other == RIGHT for other in others)


def test_on_the_threads_own_stack(aio: Any) -> None:
    async def main() -> Any:
        task = asyncio.create_task(many_wait())
        await asyncio.sleep(0)
        return greenlets(), await task, greenlets()

    assert greenlets() == RIGHT
    assert aio.run(main) == (RIGHT, [3] * 10, RIGHT)
    assert greenlets() == RIGHT


def test_a_loop_in_a_greenlet(aio: Any) -> None:
    runs = [gevent.spawn(aio.run, many_wait) for _ in range(3)]
    gevent.joinall([*runs, gevent.spawn(slept, None)])
    assert [run.get() for run in runs] == [[3] * 10] * 3


def test_on_greenlets_each_function_has_the_hub(aio: Any, entry: Entry) -> None:
    if ON_NATIVE_STACKS:
        pytest.skip("of greenlets only; native stacks carry functions here")

    async def main() -> Any:
        return await asyncio.gather(*(entry(greenlets) for _ in range(10)))

    assert aio.run(main) == [RIGHT] * 10


@needs_native_stacks
def test_the_first_stack_has_the_hub(aio: Any, entry: Entry) -> None:
    def other() -> Any:
        return refused(greenlets), waits()

    async def main() -> Any:
        first = asyncio.create_task(entry(greenlets_and_waits))
        await asyncio.sleep(0)
        others = await asyncio.gather(*(entry(other) for _ in range(10)))
        return await first, others

    assert aio.run(main) == (RIGHT, [(True, 3)] * 10)


@needs_native_stacks
def test_the_threads_own_stack_had_it_first(aio: Any, entry: Entry) -> None:
    def function() -> Any:
        ways = (greenlets, lambda: gevent.sleep(0), lambda: gevent.spawn(slept, 1).get())
        return [refused(way) for way in ways], waits()

    async def main() -> Any:
        return await asyncio.gather(*(entry(function) for _ in range(10)))

    assert greenlets() == RIGHT
    assert aio.run(main) == [([True] * 3, 3)] * 10
    assert greenlets() == RIGHT


@needs_native_stacks
def test_a_function_had_it_first_and_destroys_it(aio: Any) -> None:
    async def main(function: Callable[[], Any]) -> Any:
        return [await async_def(function) for _ in range(3)]

    def use_and_destroy() -> list[int]:
        try:
            return greenlets_and_waits()
        finally:
            gevent.get_hub().destroy(destroy_loop=True)

    assert aio.run(main, use_and_destroy) == [RIGHT] * 3
    assert greenlets() == RIGHT
    gevent.get_hub().destroy(destroy_loop=True)

    assert aio.run(main, greenlets_and_waits) == [RIGHT] * 3
    assert refused(greenlets)
    gevent.get_hub().destroy(destroy_loop=True)
    assert greenlets() == RIGHT


@needs_native_stacks
def test_what_was_refused_does_no_harm_later(aio: Any) -> None:
    # What the refused stack spawned stays in the hub's loop, and runs where the hub is.
    assert aio.run(async_def, greenlets) == RIGHT
    for _ in range(3):
        assert refused(greenlets)
        assert aio.run(async_def, greenlets_and_waits) == RIGHT


@needs_native_stacks
def test_a_greenlet_is_joined_on_another_stack(aio: Any) -> None:
    def joins(job: Any) -> bool:
        return refused(job.get) and refused(job.join) and refused(lambda: gevent.wait([job]))

    async def main() -> Any:
        job = gevent.spawn(slept, "value")
        return await async_def(joins, job), job.get()

    assert aio.run(main) == (True, "value")


def test_a_greenlet_that_is_in_no_function(aio: Any) -> None:
    def in_greenlet() -> None:
        with pytest.raises(NoAwaitContext):
            await_(asyncio.sleep(0))

    async def main() -> None:
        gevent.spawn(in_greenlet).get()

    aio.run(main)


def test_cancelled_while_a_greenlet_waits(aio: Any, capfd: Any) -> None:
    seen: list[str] = []

    def inner() -> None:
        try:
            await_(asyncio.Event().wait())
        finally:
            seen.append("cleaned up")

    async def main() -> Any:
        task = asyncio.create_task(async_def(lambda: gevent.spawn(inner).get()))
        await asyncio.sleep(0.001)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return await with_portal_run(many_wait)

    assert aio.run(main) == [3] * 10
    assert seen == ["cleaned up"]


@needs_native_stacks
def test_anything_mixed_by_chance(python: Any) -> None:
    finished, refused = map(int, python("gevents.py", 1, 20).stdout.split())
    assert finished > 100 and refused > 100


# --- monkey.patch_all() ------------------------------------------------------

PATCHED = """
from gevent import monkey
monkey.patch_all()
import asyncio, socket, threading, time
import gevent, greenlet
from verdigris import *

def waits():
    return sum(await_(asyncio.sleep(0.001, 1)) for _ in range(3))

async def many(function):
    return await asyncio.gather(*(async_def(function) for _ in range(5)))
"""


MONKEY_PATCHED = {
    "functions": ("print(asyncio.run(many(waits)))", "[3, 3, 3, 3, 3]"),
    "portals": (
        """
        async def late():
            await asyncio.sleep(0.001)
            return waits()

        async def tree():
            return await asyncio.create_task(late())

        async def main():
            await ensure_portal()
            task = asyncio.create_task(late())
            bestow_portal(task)
            return waits(), spawn(waits).join(), await task, await with_portal_run_tree(tree)

        print(asyncio.run(main()))
        """,
        "(3, 3, 3, 3)",
    ),
    "a thread, which is a greenlet": (
        """
        results = []
        thread = threading.Thread(target=lambda: results.append(asyncio.run(many(waits))))
        thread.start()
        time.sleep(0)
        thread.join()
        print(results)
        """,
        "[[3, 3, 3, 3, 3]]",
    ),
    "to_thread by the loop": (
        """
        async def main():
            return await asyncio.gather(async_def(waits), asyncio.to_thread(time.sleep, 0.01))

        print(asyncio.run(main()))
        """,
        "[3, None]",
    ),
    "what blocks, in a function": (
        """
        ours, theirs = socket.socketpair()
        lock, event = threading.Lock(), threading.Event()

        def with_lock():
            with lock:
                return waits()

        def blocks():
            refused = 0
            for use in (
                lambda: time.sleep(0.001),
                lambda: ours.recv(1),
                lambda: event.wait(1),
                lambda: threading.Thread(target=int).start(),
                lambda: await_(asyncio.to_thread(int)),
            ):
                try:
                    use()
                except greenlet.error as error:
                    refused += "native stack" in error.__notes__[0]
            return refused, waits(), with_lock()

        print(asyncio.run(async_def(blocks)))
        theirs.send(b"!")
        print(ours.recv(1))
        """,
        "(5, 3, 3)\nb'!'",
    ),
}


threads_hang = pytest.mark.skipif(
    sys.version_info >= (3, 14),
    reason="asyncio.to_thread hangs after patch_all() from 3.14 on, without verdigris too",
)
MARKS = {
    "to_thread by the loop": [threads_hang],
    "what blocks, in a function": [needs_native_stacks],
}


@pytest.mark.parametrize(
    "what", [pytest.param(what, marks=MARKS.get(what, ())) for what in MONKEY_PATCHED]
)
def test_monkey_patched(python: Any, what: str) -> None:
    program, printed = MONKEY_PATCHED[what]
    assert python(PATCHED + textwrap.dedent(program)).stdout == printed + "\n"
