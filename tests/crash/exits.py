"""The end of the interpreter, asked for or come upon, while functions wait. One function a case.

Run by tests/test_exits.py; prints what the test looks for.
"""

import asyncio
import atexit
import builtins
import contextlib
import ctypes
import gc
import os
import sys
import threading
import warnings

from hand_driver import suspend

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


def say(text, write=os.write):
    # Not `print`: at the very end there is no sys.stdout, and there are no globals.
    write(1, f"{text}\n".encode())


def waits(name="finally", say=say):
    # `say` is an argument because globals are gone when the last of them end.
    try:
        await_(suspend())
    finally:
        say(name)


class Stop(SystemExit):
    """A program's own."""


# --- sys.exit, everywhere ----------------------------------------------------


def guarded(body):
    try:
        await_(asyncio.sleep(0))
        body()
    finally:
        say("finally")


def exits():
    sys.exit(3)


def exits_by_a_subclass():
    raise Stop(3)


def others():
    """Beside it others wait, which the end of the loop cancels."""
    with contextlib.suppress(asyncio.CancelledError):
        await_(asyncio.Event().wait())
    say("other")


async def beside(coro):
    other = asyncio.ensure_future(async_def(others))
    await asyncio.sleep(0)
    try:
        await coro
    finally:
        other.cancel()
        await asyncio.wait([other])


def in_a_function(body):
    asyncio.run(beside(async_def(guarded, body)))


def in_a_task(body):
    async def main():
        task = asyncio.create_task(async_def(guarded, body))
        await task

    asyncio.run(beside(main()))


def in_a_portal(body):
    async def main():
        await ensure_portal()
        guarded(body)

    asyncio.run(beside(main()))


def in_a_portal_run(body):
    async def main():
        guarded(body)

    asyncio.run(beside(with_portal_run(main)))


def in_a_spawned_function(body):
    asyncio.run(beside(async_def(lambda: spawn(guarded, body).join())))


def in_a_function_below_a_c_callback(body):
    asyncio.run(beside(async_def(lambda: sorted([2, 1], key=lambda _: guarded(body)))))


def in_a_generator(body):
    def generator():
        guarded(body)
        yield

    asyncio.run(beside(async_def(lambda: list(generator()))))


def in_a_nested_function(body):
    asyncio.run(
        beside(async_def(lambda: await_(async_def(lambda: await_(async_def(guarded, body))))))
    )


def on_a_thread(body):
    """`to_async` brings it to the caller."""

    def on_thread():
        try:
            body()
        finally:
            say("finally")

    asyncio.run(beside(to_async(on_thread)()))


def in_blocked_code(body):
    async def native():
        guarded_natively = asyncio.sleep(0)
        try:
            await guarded_natively
            body()
        finally:
            say("finally")

    asyncio.run(beside(async_def(block, native)))


def by_hand(body):
    def guarded_by_hand():
        try:
            await_(suspend())
            body()
        finally:
            say("finally")

    other = async_def(waits, "other")
    other.send(None)
    coro = async_def(guarded_by_hand)
    coro.send(None)
    try:
        coro.send(None)
    finally:
        other.close()


def in_a_green_thread(body):
    """It ends that thread alone, as in the standard library."""
    from verdigris.green import threading as green_threading

    def main():
        thread = green_threading.Thread(target=guarded, args=(body,))
        thread.start()
        thread.join()
        assert not thread.is_alive()

    asyncio.run(beside(async_def(main)))
    say("goes on")


def by_os_exit(body):
    """Nothing runs any more, whatever waits."""
    held = [async_def(waits) for _ in range(5)]
    for coro in held:
        coro.send(None)
    atexit.register(say, "atexit")

    def leaves():
        say("leaving")
        os._exit(3)

    asyncio.run(beside(async_def(leaves)))


# --- the end, with functions that wait in every place ------------------------


def suspended(name):
    coro = async_def(waits, name)
    coro.send(None)
    return coro


def suspended_natively(name):
    async def waits(say=say):
        try:
            await suspend()
        finally:
            say(name)

    coro = waits()
    coro.send(None)
    return coro


def held_everywhere(suspended):
    """In all places that the interpreter empties one after another."""
    global in_a_global

    class Holder:
        in_a_class = suspended("class")

    local = threading.local()
    local.held = suspended("thread-local")
    in_a_global = [suspended("global"), Holder, local]
    builtins.held = suspended("builtins")
    sys.held = suspended("sys")
    sys.modules["held"] = suspended("modules")
    atexit.register(lambda coro: None, suspended("atexit"))
    cycle = [suspended("cycle")]
    cycle.append(cycle)
    gc.disable()
    in_a_default(suspended("default"))
    say("leaving")


def in_a_default(coro, held=[]):  # noqa: B006
    held.append(coro)


def in_every_kind_of_frame():
    """Below C callbacks, in generators, in `with` blocks, in other functions."""
    global held

    def below_qsort():
        pointer = ctypes.POINTER(ctypes.c_int)
        array = (ctypes.c_int * 3)(3, 1, 2)
        compare = ctypes.CFUNCTYPE(ctypes.c_int, pointer, pointer)(lambda a, b: waits("qsort") or 0)
        ctypes.CDLL(None).qsort(array, 3, ctypes.sizeof(ctypes.c_int), compare)

    def below_sorted():
        sorted([2, 1], key=lambda _: waits("sorted"))

    def in_generator():
        def generator():
            yield waits("generator")

        list(generator())

    def in_async_generator():
        async def native(say=say):
            try:
                yield await suspend()
            finally:
                say("async generator")

        list(async_iter(native()))

    @contextlib.contextmanager
    def context(say=say):
        try:
            yield
        finally:
            say("context")

    def in_context():
        with context(), threading.Lock():
            waits("with")

    def handling():
        try:
            raise KeyError
        except KeyError:
            waits("except")

    async def portal():
        waits("portal")

    sys.unraisablehook = lambda unraisable: None
    held = [
        async_def(function)
        for function in (
            below_qsort,
            below_sorted,
            in_generator,
            in_async_generator,
            in_context,
            handling,
        )
    ]
    held.append(with_portal_run(portal))
    for coro in held:
        coro.send(None)
    say("leaving")


def atexit_ends_them():
    """Handlers of the program resume, close and start functions; they still may."""
    coros = [suspended("closed"), suspended("resumed")]

    def at_exit():
        coros[0].close()
        with contextlib.suppress(StopIteration):
            coros[1].send(None)
        asyncio.run(async_def(lambda: await_(asyncio.sleep(0)) or say("a new loop")))
        say(_engine.stats()["stacks_in_use"])

    atexit.register(at_exit)


def registered_by_a_function():
    def green():
        atexit.register(say, "atexit")
        threading.Thread(target=lambda: say("thread")).start()
        await_(asyncio.sleep(0))

    asyncio.run(async_def(green))


def an_error_nobody_catches():
    global held
    held = suspended("finally")

    def fails():
        await_(asyncio.sleep(0))
        raise KeyError("the program's")

    asyncio.run(async_def(fails))


def threads_that_wait_at_the_end():
    """Threads that are no daemons are waited for, with the functions they drive."""

    left = threading.Event()

    def body():
        left.wait()
        asyncio.run(async_def(lambda: await_(asyncio.sleep(0.05)) or say("thread")))

    for _ in range(3):
        threading.Thread(target=body).start()
    say("leaving")
    left.set()


# --- daemon threads ----------------------------------------------------------


def daemon_threads(kind):
    """The interpreter ends under daemon threads that switch without a pause."""
    warnings.simplefilter("ignore")
    ready = threading.Barrier(5)

    def by_hand_body():
        held = [suspended_quietly() for _ in range(5)]
        ready.wait()
        while held:
            coro = async_def(deep, 20)
            coro.send(None)
            coro.close()

    def deep(depth):
        return deep(depth - 1) if depth else await_(suspend())

    def suspended_quietly():
        coro = async_def(deep, 3)
        coro.send(None)
        return coro

    def loop_body():
        def steps():
            while True:
                await_(asyncio.sleep(0))

        async def portal():
            steps()

        async def main():
            tasks = [asyncio.ensure_future(async_def(steps)) for _ in range(3)]
            tasks.append(asyncio.ensure_future(with_portal_run(portal)))
            await asyncio.sleep(0)
            ready.wait()
            await asyncio.gather(*tasks)

        asyncio.run(main())

    def sleeping_body():
        """Waits in the kernel, with functions that wait."""
        held = [suspended_quietly() for _ in range(5)]

        async def main():
            ready.wait()
            await asyncio.gather(*(async_def(lambda: await_(asyncio.sleep(60))) for _ in held))

        asyncio.run(main())

    def collecting_body():
        held = []
        ready.wait()
        while True:
            box = [async_def(deep, 3)]
            box[0].send(None)
            box.append(box)
            held.append(box)
            if len(held) == 10:
                held.clear()
                gc.collect()

    bodies = {
        "driven": [by_hand_body] * 4,
        "on_loops": [loop_body] * 4,
        "sleeping": [sleeping_body] * 4,
        "collecting": [collecting_body] * 4,
        "mixed": [by_hand_body, loop_body, sleeping_body, collecting_body],
    }[kind]
    sys.unraisablehook = lambda unraisable: None
    for body in bodies:
        threading.Thread(target=body, daemon=True).start()
    global held
    held = [suspended_quietly() for _ in range(5)]
    ready.wait()
    say("leaving")


if __name__ == "__main__":
    name, *rest = sys.argv[1:]
    globals()[name](*(globals().get(argument, argument) for argument in rest))
