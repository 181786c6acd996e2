"""The loop of a thread: one, closed with the thread, and what `idle_event_loop` gives."""

from __future__ import annotations

import asyncio
import sys
import threading
import warnings
from typing import Any

import pytest
from conftest import AsyncioLoop, TrioLoop

from verdigris import async_def, await_, block, idle_event_loop

STRICT = ("-X", "dev", "-W", "error")


async def running() -> asyncio.AbstractEventLoop:
    return asyncio.get_running_loop()


def test_one_loop_for_each_thread() -> None:
    loops: dict[str, list[Any]] = {"other": []}

    def body() -> None:
        loops["other"] += [block(running), block(running)]
        assert not loops["other"][0].is_closed()

    mine = [block(running), block(running)]
    thread = threading.Thread(target=body)
    thread.start()
    thread.join(30)
    first, second = loops["other"]
    assert first is second and mine[0] is mine[1] and first is not mine[0]
    assert first.is_closed() and not mine[0].is_closed()


def test_tasks_that_are_left_go_on_with_the_next_call() -> None:
    steps = []

    async def goes_on() -> None:
        for step in range(3):
            steps.append(step)
            await asyncio.sleep(0)

    async def starts() -> Any:
        return asyncio.create_task(goes_on())

    async def joins(task: Any) -> None:
        await task

    task = block(starts)
    block(joins, task)
    assert steps == [0, 1, 2]


LEFTOVERS = """
    import asyncio, gc, sys, threading
    from verdigris import block

    async def forever():
        try:
            await asyncio.sleep(1000)
        finally:
            await asyncio.sleep(0)
            threading.current_thread()
            print("task ended")

    async def generator():
        try:
            yield 1
            yield 2
        finally:
            await asyncio.sleep(0)
            print("generator ended")

    async def leaves():
        global kept
        task = asyncio.create_task(forever())
        here = generator()
        await anext(here)
        await asyncio.sleep(0)
        await asyncio.to_thread(len, "")
        return task, here

    def body():
        kept.append(block(leaves))
        left.set()

    kept = []
    left = threading.Event()
"""


@pytest.mark.parametrize("where", ["main", "thread", "daemon", "both"])
def test_what_is_left_is_ended_with_the_thread(python: Any, where: str) -> None:
    end = {
        "main": "body()",
        "thread": "t = threading.Thread(target=body); t.start(); t.join(); print('joined')",
        "daemon": "t = threading.Thread(target=body, daemon=True); t.start(); t.join()",
        "both": "body(); left.clear(); threading.Thread(target=body).start(); left.wait()",
    }[where]
    # Those that have ended are not listed any more, not even as dummies.
    if where in ("thread", "daemon"):
        end += "; assert threading.enumerate() == [threading.main_thread()]"
    done = python(LEFTOVERS + "\n    " + end, options=STRICT)
    times = 2 if where == "both" else 1
    lines = done.stdout.split("\n")
    assert sorted(lines) == sorted(
        ["task ended", "generator ended"] * times + ["joined"] * (where == "thread") + [""]
    )
    if where == "thread":
        assert lines[-2] == "joined"
    assert done.stderr == ""


def test_a_leftover_that_fails_is_reported(python: Any) -> None:
    done = python(
        """
        import asyncio
        from verdigris import block
        async def fails():
            try:
                await asyncio.sleep(1000)
            finally:
                raise ValueError("at the end")
        async def starts():
            asyncio.kept = asyncio.create_task(fails())
            await asyncio.sleep(0)
        block(starts)
        """,
        options=STRICT,
    )
    assert "ValueError: at the end" in done.stderr and "ended with an exception" in done.stderr
    assert "never retrieved" not in done.stderr


@pytest.mark.parametrize("busy", [False, True])
def test_exit_while_a_daemon_thread_has_a_loop(python: Any, busy: bool) -> None:
    done = python(
        """
        import asyncio, sys, threading
        from verdigris import block
        ready = threading.Event()
        async def waits():
            ready.set()
            if sys.argv[1] == "True":
                await asyncio.sleep(1000)
        def body():
            block(waits)
            threading.Event().wait()
        threading.Thread(target=body, daemon=True).start()
        ready.wait()
        """,
        busy,
        options=STRICT,
    )
    assert done.stderr == ""


def test_block_in_the_last_functions_at_exit(python: Any) -> None:
    done = python(
        """
        import atexit, asyncio
        def last(name):
            from verdigris import block
            print(block(asyncio.sleep, 0, name))
        atexit.register(last, "after ours")
        from verdigris import block
        print(block(asyncio.sleep, 0, "first"))
        atexit.register(last, "before ours")
        """,
        options=STRICT,
    )
    assert done.stdout.split("\n") == ["first", "before ours", "after ours", ""]
    assert done.stderr == ""


def test_a_loop_that_was_closed_is_made_anew() -> None:
    def body() -> None:
        block(running).close()
        assert not block(running).is_closed()

    thread = threading.Thread(target=body)
    thread.start()
    thread.join(30)


def test_a_loop_that_was_stopped_in_the_middle(python: Any) -> None:
    done = python(
        """
        import asyncio
        from verdigris import block
        async def stops():
            try:
                asyncio.get_running_loop().stop()
                await asyncio.sleep(1000)
            finally:
                print("ended")
        try:
            block(stops)
        except RuntimeError as error:
            print(error)
        print(block(asyncio.sleep, 0, "next"))
        """,
        options=STRICT,
    )
    assert done.stdout.split("\n") == [
        "ended", "Event loop stopped before Future completed.", "next", ""
    ]  # fmt: skip
    assert done.stderr == ""


# --- fork --------------------------------------------------------------------

FORK = """
    import asyncio, os, sys, threading, warnings
    warnings.simplefilter("ignore", DeprecationWarning)
    from verdigris import block

    async def woken():
        # The parent's loop can still be woken from another thread.
        loop, event = asyncio.get_running_loop(), asyncio.Event()
        threading.Timer(0.05, loop.call_soon_threadsafe, (event.set,)).start()
        async with asyncio.timeout(20):
            await event.wait()
        return os.getpid()

    async def starts():
        return os.getpid()

    async def leaves():
        global task
        task = asyncio.create_task(asyncio.sleep(1000))
        return os.getpid()

    def child_and_parent(use):
        pid = os.fork()
        if pid == 0:
            if use:
                assert block(starts) == block(woken) == os.getpid()
            sys.exit(0)
        assert os.waitpid(pid, 0)[1] == 0
        assert block(woken) == os.getpid()
"""


@pytest.mark.parametrize("begin", ["starts", "leaves"])
@pytest.mark.parametrize("use", [False, True])
def test_fork_in_the_thread_of_the_loop(python: Any, use: bool, begin: str) -> None:
    done = python(FORK + f"\n    block({begin}); child_and_parent({use}); print('fine')")
    assert done.stdout == "fine\n"
    if begin == "starts" or sys.version_info < (3, 14):
        # Newer asyncio does not tell a child the tasks of its parent, and reports them lost.
        assert done.stderr == ""


@pytest.mark.parametrize("begin", ["starts", "leaves"])
@pytest.mark.parametrize("use", [False, True])
def test_fork_while_another_thread_has_a_loop(python: Any, use: bool, begin: str) -> None:
    done = python(
        FORK
        + f"""
    ready, go = threading.Event(), threading.Event()
    def other():
        block({begin})
        ready.set()
        go.wait(30)
        print(block(woken) == os.getpid())
    thread = threading.Thread(target=other)
    thread.start()
    ready.wait(30)
    pid = os.fork()
    if pid == 0:
        if {use}:
            block(woken)
        sys.exit(0)
    assert os.waitpid(pid, 0)[1] == 0
    go.set()
    thread.join()
    """
    )
    assert done.stdout == "True\n"
    assert done.stderr == ""


def test_fork_inside_a_running_loop(python: Any) -> None:
    done = python(
        FORK
        + """
    async def forks():
        pid = os.fork()
        if pid == 0:
            os._exit(0)
        return os.waitpid(pid, 0)[1], await woken() == os.getpid()
    print(*block(forks))
    """
    )
    assert done.stdout == "0 True\n"


def test_multiprocessing_with_fork(python: Any) -> None:
    done = python(
        FORK
        + """
    import multiprocessing
    def work(number):
        return block(asyncio.sleep, 0, number)
    block(starts)
    with multiprocessing.get_context("fork").Pool(2) as pool:
        print(pool.map(work, [1, 2, 3]))
    print(block(woken) == os.getpid())
    """
    )
    assert done.stdout == "[1, 2, 3]\nTrue\n"


# --- idle_event_loop ---------------------------------------------------------


def current_loop() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return asyncio.get_event_loop()


def test_an_idle_loop_is_the_threads_own() -> None:
    with idle_event_loop() as loop:
        assert not loop.is_running() and current_loop() is loop
        assert loop.run_until_complete(asyncio.sleep(0, "done")) == "done"
        with idle_event_loop() as inner:
            assert inner is loop
        assert block(running) is loop
    assert block(running) is loop and not loop.is_closed()


def test_the_current_loop_is_as_before() -> None:
    before = asyncio.new_event_loop()
    asyncio.set_event_loop(before)
    try:
        with pytest.raises(ZeroDivisionError), idle_event_loop():
            raise ZeroDivisionError
        assert current_loop() is before
    finally:
        asyncio.set_event_loop(None)
        before.close()


def test_an_idle_loop_inside_a_running_one(aio: AsyncioLoop) -> None:
    async def main() -> Any:
        outer, task = asyncio.get_running_loop(), asyncio.current_task()
        with idle_event_loop() as loop:
            assert loop is not outer
            assert loop.run_until_complete(running()) is loop
            left = loop.create_task(asyncio.sleep(1000))
            with pytest.raises(ZeroDivisionError):
                loop.run_until_complete(fails())
        assert loop.is_closed() and left.cancelled()
        assert asyncio.get_running_loop() is outer and asyncio.current_task() is task
        return await asyncio.sleep(0, "went on")

    async def fails() -> None:
        await asyncio.sleep(0)
        raise ZeroDivisionError

    assert aio.run(main) == "went on"


def test_an_idle_loop_inside_trio(trio_loop: TrioLoop) -> None:
    async def main() -> str:
        with idle_event_loop() as loop:
            result = loop.run_until_complete(asyncio.sleep(0, "done"))
        await trio_loop.checkpoint()
        return result

    assert trio_loop.run(main) == "done"


def test_an_idle_loop_in_a_green_function(aio: AsyncioLoop) -> None:
    def body() -> str:
        with idle_event_loop() as loop:
            result = loop.run_until_complete(asyncio.sleep(0, "done"))
        await_(asyncio.sleep(0))
        return result

    async def main() -> str:
        return await async_def(body)

    assert aio.run(main) == "done"


def test_an_idle_loop_that_is_closed_inside() -> None:
    def body() -> None:
        with idle_event_loop() as loop:
            loop.close()
        assert block(running) is not loop

    thread = threading.Thread(target=body)
    thread.start()
    thread.join(30)


def test_uvloops_policy(python: Any) -> None:
    pytest.importorskip("uvloop")
    done = python(
        """
        import asyncio, os, sys, threading, warnings
        warnings.simplefilter("ignore", DeprecationWarning)
        import uvloop
        asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
        from verdigris import block, idle_event_loop
        async def kind():
            global left
            left = asyncio.create_task(asyncio.sleep(1000))
            await asyncio.sleep(0)
            return type(asyncio.get_running_loop()).__module__
        print(block(kind))
        thread = threading.Thread(target=lambda: print(block(kind)))
        thread.start()
        thread.join()
        with idle_event_loop() as loop:
            print(loop.run_until_complete(asyncio.sleep(0, "idle")))
        """,
        options=("-X", "dev"),
    )
    assert done.stdout.split() == ["uvloop", "uvloop", "idle"]
    assert done.stderr == ""
