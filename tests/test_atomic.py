"""`atomic()`: a wait in the block is an error, and other threads wait until it is left."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import linecache
import re
import threading
import time as stdlib_time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from conftest import Loop

from verdigris import async_def, atomic, await_, ensure_portal, spawn
from verdigris.green import queue, socket, time  # type: ignore[attr-defined]
from verdigris.green import threading as green_threading

REFUSED = re.compile(r"a wait inside of an atomic\(\) block at (.+):(\d+), in (\w+): other code")


@contextlib.contextmanager
def refused(line: str | None = None) -> Iterator[None]:
    """Asserts that the block is refused, and that the error names this very line of it."""
    with pytest.raises(RuntimeError) as info:
        yield
    found = REFUSED.match(str(info.value))
    assert found, info.value
    if line is not None:
        assert line in linecache.getline(found[1], int(found[2]))


def test_waits_are_refused_and_named(loop: Loop) -> None:
    def work() -> str:
        with atomic():
            with refused("await_(loop.sleep(0))"):
                await_(loop.sleep(0))
            with refused("time.sleep(0.01)"):
                time.sleep(0.01)
            with refused("time.sleep(0)"):
                time.sleep(0)
            with refused():
                queue.Queue().get()
            with refused():
                spawn(int).join()
            a, b = socket.socketpair()
            with a, b, refused("a.recv(1)"):
                a.recv(1)
        time.sleep(0)
        await_(loop.sleep(0))
        return "waits again"

    assert loop.run(async_def, work) == "waits again"


def test_what_need_not_wait_is_no_wait(loop: Loop) -> None:
    def work() -> None:
        lock, items = green_threading.Lock(), queue.Queue()
        a, b = socket.socketpair()
        with a, b, atomic():
            with lock:
                items.put(1)
            assert items.get() == 1
            a.sendall(b"x")
            # As long as nobody else has to run for it.
            assert b.recv(1) == b"x"

    loop.run(async_def, work)


def test_a_coroutine_that_is_refused_is_closed_and_a_future_is_not(aio: Any) -> None:
    async def never() -> None:
        raise AssertionError

    def work() -> bool:
        future = asyncio.get_running_loop().create_future()
        with atomic():
            with refused():
                await_(never())  # no warning that it was never awaited
            with refused():
                await_(async_def(work))
            with refused():
                await_(future)
            assert callable(await_(never))  # a decorator waits for nothing
        return bool(future.cancel())

    assert aio.run(async_def, work)
    gc.collect()


def test_blocks_are_nested_and_the_last_one_counts(loop: Loop) -> None:
    def work() -> None:
        block = atomic()
        with block:
            with block, atomic("another group"):
                pass
            with refused():
                time.sleep(0)
        time.sleep(0)

    loop.run(async_def, work)


def test_an_exception_leaves_the_block(loop: Loop) -> None:
    def work() -> None:
        with pytest.raises(ZeroDivisionError), atomic():
            raise ZeroDivisionError
        time.sleep(0)

    loop.run(async_def, work)


def test_it_holds_for_functions_on_the_same_stack_and_for_no_other(loop: Loop) -> None:
    """A function that is awaited on the stack of another is refused with it; the others wait."""
    turns = []

    def other() -> None:
        for _ in range(3):
            time.sleep(0)
            turns.append("other")

    def work() -> None:
        task = spawn(other)
        with atomic(), refused():
            time.sleep(0)
        task.join()

    loop.run(async_def, work)
    assert turns == ["other"] * 3


def test_as_a_decorator(loop: Loop) -> None:
    @atomic("decorated")
    def work(x: int) -> int:
        with refused():
            time.sleep(0)
        return x

    assert loop.run(async_def, work, 3) == 3

    async def never() -> None: ...

    with pytest.raises(TypeError, match="async function"):
        atomic()(never)


def test_in_a_task_with_a_portal(loop: Loop) -> None:
    def work() -> None:
        with atomic(), refused():
            await_(loop.sleep(0))

    async def main() -> str:
        await ensure_portal()
        work()
        await loop.sleep(0)
        with contextlib.ExitStack() as stack:
            stack.enter_context(atomic())
            stack.pop_all().close()
        await loop.sleep(0)
        return await_(same("waits"))

    async def same(value: str) -> str:
        await loop.sleep(0)
        return value

    assert loop.run(main) == "waits"


def test_a_stack_is_given_on_without_it(loop: Loop) -> None:
    """Who leaves a block open, against all rules, does so for itself alone."""

    def leaves_it_open() -> None:
        block.__enter__()

    def next_one() -> str:
        time.sleep(0)
        return "waits"

    block = atomic("left open")

    async def main() -> list[Any]:
        await async_def(leaves_it_open)
        return [await async_def(next_one) for _ in range(10)]

    assert loop.run(main) == ["waits"] * 10


def test_async_code_has_the_lock_alone(loop: Loop) -> None:
    async def main() -> int:
        with atomic():
            return await async_def(inside)

    def inside() -> int:
        time.sleep(0)
        return 1

    assert loop.run(main) == 1


@pytest.mark.parametrize("groups", [("same", "same"), ("one", "another")])
def test_threads_of_a_group_exclude_each_other(groups: tuple[str, str]) -> None:
    entered, leave, second = (threading.Event() for _ in range(3))

    def holds() -> None:
        with atomic(groups[0]):
            entered.set()
            assert leave.wait(30)

    def wants() -> None:
        with atomic(groups[1]):
            second.set()

    threads = [threading.Thread(target=target) for target in (holds, wants)]
    threads[0].start()
    assert entered.wait(30)
    threads[1].start()
    excluded = groups[0] == groups[1]
    assert second.wait(0.05 if excluded else 30) != excluded
    leave.set()
    for thread in threads:
        thread.join()
    assert second.is_set()


def test_a_function_waits_for_a_thread_and_the_loop_goes_on(loop: Loop) -> None:
    entered, leave = threading.Event(), threading.Event()

    def holds() -> None:
        with atomic("thread"):
            entered.set()
            assert leave.wait(30)

    def work() -> None:
        with atomic("thread"):
            done.append("function")

    async def main() -> None:
        async with loop.tasks() as start:
            start(async_def, work)
            await loop.sleep(0.01)
            done.append("loop")
            leave.set()

    done: list[str] = []
    thread = threading.Thread(target=holds)
    thread.start()
    assert entered.wait(30)
    loop.run(main)
    thread.join()
    assert done == ["loop", "function"]


def test_a_count_that_threads_and_functions_share(loop: Loop) -> None:
    count = 0

    def add(times: int, pause: Callable[[float], object]) -> None:
        nonlocal count
        for _ in range(times):
            with atomic("count"):
                before = count
                for _ in range(10):
                    pass
                count = before + 1
            pause(0)

    async def main() -> None:
        async with loop.tasks() as start:
            for _ in range(3):
                start(async_def, add, 200, time.sleep)

    threads = [threading.Thread(target=add, args=(200, stdlib_time.sleep)) for _ in range(3)]
    for thread in threads:
        thread.start()
    loop.run(main)
    for thread in threads:
        thread.join()
    assert count == 1200


def test_groups_are_hashable() -> None:
    with pytest.raises(TypeError, match="unhashable"):
        atomic([])  # type: ignore[arg-type]
