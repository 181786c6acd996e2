"""Exceptions out of signal handlers, at any moment. One function a case.

Run by tests/test_interrupts.py.
"""

import asyncio
import contextlib
import faulthandler
import functools
import gc
import os
import random
import signal
import sys
import time

from aftermath import still_works
from hand_driver import suspend

from verdigris import _engine, async_def, await_, spawn, with_portal_run


class Interrupted(BaseException):
    """As KeyboardInterrupt: no `except Exception` holds it."""


class Bell:
    """Signals at random times; the handler raises where it may."""

    def __init__(self, seed, only=None):
        self.random = random.Random(seed)
        self.only = only
        self.raised = 0
        self.enabled = False
        self.is_set = True
        signal.signal(signal.SIGALRM, self.rings)

    def rings(self, number, frame):
        # Not in what `set` calls either: it would come out where nobody expects it.
        if not (self.enabled and self.is_set):
            return
        self.set()
        code = frame.f_code
        if (code.co_name in self.only) if self.only else not is_off_limits(code):
            self.raised += 1
            raise Interrupted

    def set(self):
        # Again a little later: a signal just before the loop sleeps does not wake it.
        self.is_set = False
        signal.setitimer(signal.ITIMER_REAL, self.random.uniform(1e-5, 4e-4), 0.01)
        self.is_set = True

    def over(self, function, *args):
        """Calls a function while it rings, and no longer: not on the way in or out."""
        self.enabled = True
        self.set()
        try:
            return function(*args)
        except Interrupted:
            return None
        finally:
            self.enabled = False
            signal.setitimer(signal.ITIMER_REAL, 0)


def is_off_limits(code):
    # What calls `os.stat`: on 3.11 that goes on after a handler has raised in it, with an exception
    # set, and a debug build ends there.
    return code in NEVER or code.co_filename.endswith(("linecache.py", "_bootstrap_external>"))


NEVER = {Bell.over.__code__, Bell.rings.__code__, Bell.set.__code__}


def depth_left(depth=0):
    try:
        return depth_left(depth + 1)
    except RecursionError:
        return depth


def rounds(seed, seconds, only, one):
    """Runs `one(bell)` until the time is over. Nothing may be lost in any of them."""
    bell = Bell(seed, only)
    before = depth_left()
    end = time.monotonic() + seconds
    done = 0
    while time.monotonic() < end or bell.raised < 20:
        one(bell)
        done += 1
        if done % 20 == 0:
            gc.collect()
            assert _engine.stats()["stacks_in_use"] == 0, _engine.stats()
    gc.collect()
    assert _engine.stats()["stacks_in_use"] == 0, _engine.stats()
    assert _engine.stats()["stacks_leaked"] == 0, _engine.stats()
    assert depth_left() == before
    still_works()
    assert sys.exc_info() == (None, None, None)
    print("intact")


# --- raised in the functions' own code: all of it is accounted for -----------


def body(log):
    """The signal is let in here, and in what it calls below, and nowhere else."""
    for n in range(50):
        step(n)
        await_(suspend(n))
        await_(ready())


def step(n):
    return sorted(range(n), key=key)


def key(n):
    return -n


async def ready():
    return 1


def guarded(log):
    log.append("in")
    try:
        body(log)
    finally:
        log.append("out")


def in_functions(seed):
    def one(bell):
        log = []
        coros = [async_def(guarded, log) for _ in range(8)]
        order = random.Random(bell.random.random())

        def drive():
            while coros:
                coro = order.choice(coros)
                try:
                    coro.send(None)
                except (StopIteration, Interrupted):
                    coros.remove(coro)

        bell.over(drive)
        assert log.count("in") == log.count("out") == 8, log

    rounds(seed, 2, {"body", "step", "key", "ready"}, one)


def on_a_loop(seed):
    """The interrupt leaves the loop through the task. What is left is cancelled by the loop."""

    def loop_body(log):
        for n in range(30):
            step(n)
            await_(asyncio.sleep(0))
            await_(ready())

    def loop_guarded(log):
        log.append("in")
        try:
            loop_body(log)
        finally:
            log.append("out")

    async def portal(log):
        return loop_guarded(log)

    async def main(log):
        await asyncio.gather(
            *(async_def(loop_guarded, log) for _ in range(4)),
            *(with_portal_run(portal, log) for _ in range(4)),
            async_def(lambda: spawn(loop_guarded, log).join()),
        )

    def one(bell):
        log = []
        with asyncio.Runner() as runner:
            bell.over(runner.run, main(log))
        assert log.count("in") == log.count("out"), log

    rounds(seed, 3, {"loop_body", "step", "key", "ready"}, one)


# --- raised anywhere: in the loop, in `finally` blocks, between the two ------


def anywhere(seed):
    """Nobody can account for what was interrupted; but no stack is lost and nothing crashes."""

    def work():
        with contextlib.suppress(ValueError):
            for n in range(20):
                step(n)
                await_(asyncio.sleep(0))
                await_(ready())
                if n % 7 == 6:
                    raise ValueError(n)

    async def portal():
        return work()

    sys.unraisablehook = lambda unraisable: None

    def one(bell):
        made = [async_def(work) for _ in range(4)]
        made += [with_portal_run(portal) for _ in range(4)]
        made += [async_def(lambda: spawn(work).join()) for _ in range(3)]

        async def main():
            await asyncio.gather(*made, return_exceptions=True)

        loop = asyncio.new_event_loop()
        # What it would say of tasks that were interrupted.
        loop.set_exception_handler(lambda loop, context: None)
        made.append(main())
        bell.over(loop.run_until_complete, made[-1])
        # The loop may be beyond use, and asyncio keep a task for ever. What is ours can be ended.
        for coro in (*made, *(task.get_coro() for task in asyncio.all_tasks(loop))):
            for _ in range(3):
                with contextlib.suppress(asyncio.CancelledError, RuntimeError):
                    coro.close()
                    break
        asyncio.set_event_loop(None)
        asyncio._set_running_loop(None)
        with contextlib.suppress(RuntimeError):
            loop.close()

    rounds(seed, 3, None, one)


def by_hand_anywhere(seed):
    """Sent, thrown, closed and dropped by hand, with signals in the middle of each."""
    sys.unraisablehook = lambda unraisable: None

    def work():
        for n in range(10):
            await_(suspend(n))
            await_(ready())

    def nested():
        await_(async_def(work))

    def one(bell):
        order = random.Random(bell.random.random())
        held = []

        def drive():
            for _ in range(200):
                if len(held) < 10:
                    held.append(async_def(order.choice([work, nested])))
                coro = order.choice(held)
                act = order.choice([coro.send] * 6 + [coro.throw, coro.close, held.remove])
                argument = {
                    coro.send: (None,),
                    coro.throw: (KeyError(),),
                    coro.close: (),
                    held.remove: (coro,),
                }[act]
                try:
                    act(*argument)
                except (StopIteration, KeyError, RuntimeError, Interrupted):
                    if coro in held:
                        held.remove(coro)

        bell.over(drive)
        for coro in held:
            coro.close()

    rounds(seed, 2, None, one)


def handlers_that_wait(seed):
    """A handler waits, or is refused: then it runs beside what it interrupted."""
    from verdigris import NoAwaitContext

    rng = random.Random(seed)
    seen = []

    def handler(number, frame):
        try:
            await_(suspend("handler"))
            seen.append("waited")
        except NoAwaitContext:
            seen.append("refused")
        finally:
            # On a busy machine the next may come before this one has returned: not for ever.
            if end > time.monotonic():
                signal.setitimer(signal.ITIMER_REAL, rng.uniform(1e-5, 4e-4))
            elif len(set(seen)) < 2:
                signal.setitimer(signal.ITIMER_REAL, rng.uniform(0.001, 0.01))

    def work():
        for n in range(50):
            step(n)
            await_(suspend("work"))

    end = time.monotonic() + 1.5
    signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, 1e-4)
    while time.monotonic() < end or len(set(seen)) < 2:
        coros = [async_def(work) for _ in range(5)]
        while coros:
            coro = rng.choice(coros)
            try:
                coro.send(None)
            except StopIteration:
                coros.remove(coro)
        # On some virtual machines a timer is late by whole seconds while nobody calls the system.
        time.sleep(0)
    signal.setitimer(signal.ITIMER_REAL, 0)
    assert _engine.stats()["stacks_in_use"] == 0
    still_works()
    assert sys.exc_info() == (None, None, None)
    print("intact")


# --- a real SIGINT from outside ----------------------------------------------


def victim(kind):
    """Works until SIGINT ends it. Prints a line for what is entered, and for what is left."""
    signal.signal(signal.SIGINT, signal.default_int_handler)

    def say(text):
        os.write(1, text.encode())

    def work():
        say("<")
        try:
            while True:
                step(30)
                await_(asyncio.sleep(0))
        finally:
            say(">")

    async def portal():
        work()

    def driven():
        def endless():
            say("<")
            try:
                while True:
                    step(30)
                    await_(suspend())
            finally:
                say(">")

        coros = [async_def(endless) for _ in range(5)]
        try:
            while True:
                for coro in coros:
                    coro.send(None)
        finally:
            for coro in coros:
                coro.close()

    async def main():
        await asyncio.gather(
            *(async_def(work) for _ in range(5)), *(with_portal_run(portal) for _ in range(5))
        )

    if kind == "asyncio":
        asyncio.run(main())
    elif kind == "trio":
        import trio

        def on_trio():
            say("<")
            try:
                while True:
                    step(30)
                    await_(trio.lowlevel.checkpoint())
            finally:
                say(">")

        async def nursery():
            async with trio.open_nursery() as started:
                for _ in range(5):
                    started.start_soon(async_def, on_trio)

        try:
            trio.run(nursery)
        except BaseExceptionGroup as group:
            assert group.split(KeyboardInterrupt)[1] is None, group
            raise KeyboardInterrupt from None
    else:
        driven()


def dump_when_it_hangs():
    """Starts faulthandler's thread with all signals blocked, which it inherits.

    It blocks them itself, but a signal that comes before is handled in that thread, and until 3.12
    CPython then does not tell the main thread.
    """
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    faulthandler.dump_traceback_later(60, exit=True)
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)


if __name__ == "__main__":
    dump_when_it_hangs()
    name, argument = sys.argv[1:]
    functools.partial(globals()[name], argument if name == "victim" else int(argument))()
