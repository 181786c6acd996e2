"""Threads: a loop in each works; a stack never leaves the thread it is on."""

from __future__ import annotations

import asyncio
import sys
import threading
from typing import Any

import pytest
from hand_driver import finish, suspend, value

from verdigris import NoAwaitContext, _engine, async_def, await_, can_await


def run_in_threads(count: int, fn: Any) -> list[Any]:
    results: list[Any] = [None] * count

    def body(n: int) -> None:
        try:
            results[n] = fn(n)
        except BaseException as error:
            results[n] = error

    threads = [threading.Thread(target=body, args=(n,)) for n in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def test_a_loop_in_each_of_many_threads(loop: Any) -> None:
    def f(here: int) -> None:
        for _ in range(20):
            assert threading.get_ident() == here
            await_(loop.sleep(0))

    async def main() -> int:
        async with loop.tasks() as start:
            tasks = [start(async_def, f, threading.get_ident()) for _ in range(50)]
        outcomes = [await task.wait() for task in tasks]
        return sum(outcome.error is None for outcome in outcomes)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        assert run_in_threads(6, lambda n: loop.run(main)) == [50] * 6
    finally:
        sys.setswitchinterval(interval)


def test_made_in_one_thread_awaited_in_another() -> None:
    coro = async_def(lambda: (await_(suspend()), threading.get_ident())[1])
    (ident,) = run_in_threads(1, lambda n: finish(coro))
    assert isinstance(ident, int) and ident != threading.get_ident()


def test_a_plain_thread_cannot_wait() -> None:
    def plain(n: int) -> bool:
        with pytest.raises(NoAwaitContext):
            await_(value(1))
        return can_await()

    assert run_in_threads(1, plain) == [False]


def test_a_thread_started_inside_a_function_cannot_wait_there(aio: Any) -> None:
    def f() -> object:
        (error,) = run_in_threads(1, lambda n: await_(value(1)))
        assert isinstance(error, NoAwaitContext)
        return await_(asyncio.sleep(0, "still waits"))

    assert aio.run(async_def, f) == "still waits"


def test_stats_are_the_calling_threads_own() -> None:
    coro = async_def(lambda: await_(suspend()))
    coro.send(None)
    here = _engine.stats()["stacks_in_use"]
    (there,) = run_in_threads(1, lambda n: _engine.stats()["stacks_in_use"])
    assert here >= 1
    assert there == 0
    coro.close()
    assert _engine.stats()["stacks_in_use"] == here - 1


def test_many_threads_come_and_go() -> None:
    def body(n: int) -> int:
        return sum(finish(async_def(lambda: await_(value(1)))) for _ in range(10))

    for _ in range(20):
        assert run_in_threads(5, body) == [10] * 5


@pytest.mark.parametrize(
    ("case", "printed"),
    [
        ("resumed_after_its_thread_ended", "RuntimeError\n" * 3),
        ("closed_after_its_thread_ended", "RuntimeError\n"),
        ("dropped_after_its_thread_ended", "survived\n"),
        ("new_threads_at_the_same_addresses", "50\n"),
        ("held_by_the_thread_itself", "survived\n"),
        ("daemon_thread_at_exit", "leaving\n"),
        ("resumed_elsewhere_while_its_thread_lives", "answer\n"),
    ],
)
def test_a_stack_whose_thread(python: Any, case: str, printed: str) -> None:
    assert python("threads.py", case).stdout == printed


def test_a_stack_dropped_by_another_thread(python: Any) -> None:
    done = python("threads.py", "dropped_by_another_thread")
    assert done.stdout in ("unwound at home\n", "leaked\n")
    if done.stdout == "leaked\n":
        assert "waits" in done.stderr, "leaked without a warning"


def test_dropping_after_the_thread_ended_warns(python: Any) -> None:
    done = python("threads.py", "dropped_after_its_thread_ended")
    assert "waits" in done.stderr, "leaked without a warning that names the function"


def test_daemon_threads_at_exit_many_times(python: Any) -> None:
    for _ in range(5):
        python("threads.py", "daemon_thread_at_exit")
