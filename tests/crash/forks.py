"""Forks in and beside functions that wait, in both processes. One function a case.

Run by tests/test_forks.py.
"""

import asyncio
import gc
import multiprocessing
import os
import subprocess
import sys
import threading
import traceback

from aftermath import still_works
from hand_driver import finish, suspend

from verdigris import _engine, async_def, await_, ensure_portal, spawn, with_portal_run


def say(text):
    os.write(1, f"{text}\n".encode())


def waits(name="finally"):
    try:
        return await_(suspend(name))
    finally:
        NOTED.append((os.getpid(), name))


NOTED = []


def in_a_child(body):
    """The exit code of a fork that runs `body`, and leaves without the parent's clean-up."""
    child = os.fork()
    if child == 0:
        code = 70
        try:
            body()
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def what_a_child_does_with_others():
    """Functions that waited at the fork are the child's too: it may do all to its copies."""

    def goes_on():
        for n, coro in enumerate(others):
            try:
                coro.send(n)
            except StopIteration as end:
                assert end.value == n

    def closes():
        for coro in others:
            coro.close()

    def drops():
        others.clear()
        gc.collect()

    def throws():
        for coro in others:
            try:
                coro.throw(KeyError())
            except KeyError:
                continue
            raise AssertionError

    def then_works(act):
        count = len(others)
        act()
        assert len(NOTED) == count and {pid for pid, _ in NOTED} == {os.getpid()}, NOTED
        assert _engine.stats()["stacks_in_use"] == IN_USE[0]
        still_works()

    def green():
        IN_USE[0] = 1
        return [in_a_child(lambda act=act: then_works(act)) for act in acts]

    acts = [goes_on, closes, drops, throws]
    others = [async_def(waits) for _ in range(50)]
    assert [coro.send(None) for coro in others] == ["finally"] * 50
    assert [in_a_child(lambda act=act: then_works(act)) for act in acts] == [0] * 4
    # The same, when the fork is made on one of the stacks.
    assert finish(async_def(green)) == [0] * 4
    IN_USE[0] = 0
    assert NOTED == []
    goes_on()
    assert len(NOTED) == 50
    still_works()
    say("defined")


IN_USE = [0]


def a_child_that_exits():
    """`sys.exit` in the child unwinds its copies; the parent's go on."""

    def green():
        child = os.fork()
        if child == 0:
            sys.exit(5)
        await_(suspend())
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

    other = async_def(waits)
    other.send(None)
    assert finish(async_def(green)) == 5
    assert NOTED == []
    other.close()
    still_works()
    say("defined")


def a_child_on_a_loop_that_runs():
    """It leaves the parent's loop alone, and may run one of its own from a plain thread."""

    def green():
        def child():
            thread = threading.Thread(target=still_works)
            thread.start()
            thread.join()

        await_(asyncio.sleep(0))
        codes = [in_a_child(child), await_(asyncio.sleep(0, "on")), in_a_child(child)]
        return codes

    async def portal():
        await ensure_portal()
        await asyncio.sleep(0)
        return green()

    async def main():
        other = asyncio.ensure_future(async_def(lambda: await_(asyncio.sleep(0.2, "other"))))
        results = [await async_def(green), await with_portal_run(portal), await portal()]
        results.append(await async_def(lambda: spawn(green).join()))
        return results, await other

    assert asyncio.run(main()) == ([[0, "on", 0]] * 4, "other")
    say("defined")


def generations():
    """A child of a child of a child, each made on a stack that was made before."""

    def green(depth):
        await_(suspend())
        if depth == 0:
            return 7
        child = os.fork()
        if child == 0:
            os._exit(finish(async_def(green, depth - 1)))
        await_(suspend())
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

    assert finish(async_def(green, 5)) == 7
    say("defined")


def in_a_thread_with_functions():
    """The thread that forks is the child's only one. Functions of the others are lost there."""
    results = []

    def body():
        held = [async_def(waits) for _ in range(10)]
        for coro in held:
            coro.send(None)

        def child():
            for coro in held:
                coro.close()
            sys.unraisablehook = lambda unraisable: None
            mains.clear()
            gc.collect()
            still_works()

        results.append(in_a_child(child))
        for coro in held:
            coro.close()

    mains = [async_def(waits) for _ in range(10)]
    for coro in mains:
        coro.send(None)
    thread = threading.Thread(target=body)
    thread.start()
    thread.join()
    assert results == [0], results
    for coro in mains:
        coro.close()
    still_works()
    say("defined")


def square(n):
    assert finish(async_def(lambda: await_(suspend(n))), answer=lambda tag: tag * tag) == n * n
    return n * n


def by_multiprocessing():
    context = multiprocessing.get_context("fork")

    def green():
        process = context.Process(target=square, args=[2])
        process.start()
        process.join()
        await_(asyncio.sleep(0))
        with context.Pool(2) as pool:
            squares = pool.map(square, range(5))
        return process.exitcode, squares, await_(asyncio.sleep(0, "on"))

    other = async_def(waits)
    other.send(None)
    assert asyncio.run(async_def(green)) == (0, [0, 1, 4, 9, 16], "on")
    other.close()
    say("defined")


def hooks_of_fork():
    """Handlers of a fork run functions, and are not let wait on the one that forks."""
    seen = []

    def hook():
        seen.append(finish(async_def(lambda: await_(suspend("h"))), answer=lambda tag: tag))

    os.register_at_fork(before=hook, after_in_parent=hook, after_in_child=hook)

    def green():
        await_(suspend())
        code = in_a_child(lambda: seen == ["h", "h"] or os._exit(3))
        await_(suspend())
        return code

    assert finish(async_def(green)) == 0
    assert seen == ["h", "h"], seen

    def preexec():
        assert finish(async_def(lambda: await_(suspend("p"))), answer=lambda tag: tag) == "p"

    def starts():
        command = [sys.executable, "-c", ""]
        return subprocess.run(command, check=False, preexec_fn=preexec).returncode

    assert finish(async_def(starts)) == 0
    say("defined")


if __name__ == "__main__":
    globals()[sys.argv[1]]()
