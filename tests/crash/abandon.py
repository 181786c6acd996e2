"""Functions that will never finish. One function a case.

Run by tests/test_abandon.py; prints what the test looks for.
"""

import asyncio
import atexit
import contextlib
import gc
import sys

from hand_driver import suspend

from verdigris import _engine, async_def, await_


def waits(name="finally"):
    try:
        await_(suspend())
    finally:
        print(name, flush=True)


def refuses():
    while True:
        with contextlib.suppress(GeneratorExit):
            await_(suspend())


def refused():
    coro = async_def(refuses)
    coro.send(None)
    del coro
    gc.collect()
    print("leaked", _engine.stats()["stacks_leaked"])
    # The engine goes on working.
    coro = async_def(waits, "after")
    coro.send(None)
    coro.close()


def at_exit_in_a_global():
    global held
    held = async_def(waits)
    held.send(None)


def at_exit_in_a_cycle():
    cycle = [async_def(waits)]
    cycle.append(cycle)
    cycle[0].send(None)
    gc.disable()


def at_exit_deep():
    def level(depth):
        try:
            if depth:
                await_(async_def(level, depth - 1))
            else:
                waits()
        finally:
            print(depth, flush=True)

    global held
    held = async_def(level, 3)
    held.send(None)


def at_exit_refuses():
    global held
    held = async_def(refuses)
    held.send(None)
    print("leaving", flush=True)


def at_exit_while_running():
    """sys.exit inside: the exit runs on the green stack's way out."""

    def f():
        await_(asyncio.sleep(0))
        atexit.register(print, "atexit")
        sys.exit(0)

    asyncio.run(async_def(f))


def at_exit_with_an_open_loop():
    loop = asyncio.new_event_loop()
    task = loop.create_task(async_def(lambda: await_(asyncio.sleep(60))))
    loop.run_until_complete(asyncio.sleep(0))
    global held
    held = (loop, task)
    print("leaving", flush=True)


def at_exit_many():
    global held
    held = [async_def(waits, ".") for _ in range(1000)]
    for coro in held:
        coro.send(None)


def os_exit_inside():
    import os

    def f():
        print("inside", flush=True)
        os._exit(0)

    asyncio.run(async_def(f))


if __name__ == "__main__":
    globals()[sys.argv[1]]()
