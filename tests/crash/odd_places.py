"""`await_` where code runs uninvited. One function a case.

Run by tests/test_odd_places.py; prints what the test looks for.
"""

import asyncio
import gc
import os
import signal
import sys
import threading
import weakref

from hand_driver import finish, suspend, value

from verdigris import NoAwaitContext, async_def, await_


def attempt():
    """Waits, or says why it cannot: either is defined, a crash is not."""
    try:
        return await_(suspend("uninvited"))
    except NoAwaitContext:
        return "refused"


class Finalizer:
    def __init__(self, log):
        self.log = log

    def __del__(self):
        self.log.append(attempt())


def in_del():
    log = []

    def green():
        thing = Finalizer(log)
        del thing
        return await_(suspend("after"))

    assert finish(async_def(green), answer=lambda tag: tag) == "after"
    assert log in (["uninvited"], ["refused"]), log
    # Outside there is nothing to wait in.
    thing = Finalizer(log)
    del thing
    assert log[1] == "refused"
    print("defined")


def in_del_during_collection():
    log = []

    def green():
        thing = Finalizer(log)
        thing.me = thing
        del thing
        gc.collect()
        return await_(suspend("after"))

    assert finish(async_def(green), answer=lambda tag: tag) == "after"
    assert len(log) == 1, log
    print("defined")


def in_weakref_callback():
    log = []

    class Thing:
        pass

    def green():
        thing = Thing()
        ref = weakref.ref(thing, lambda ref: log.append(attempt()))
        del thing
        assert ref() is None
        return await_(suspend("after"))

    assert finish(async_def(green), answer=lambda tag: tag) == "after"
    assert log in (["uninvited"], ["refused"]), log
    print("defined")


def in_signal_handler():
    log = []

    def handler(number, frame):
        log.append(attempt())

    signal.signal(signal.SIGUSR1, handler)

    def green():
        for _ in range(10):
            os.kill(os.getpid(), signal.SIGUSR1)
            for _ in range(100):
                pass
            await_(suspend("between"))
        return "after"

    assert finish(async_def(green), answer=lambda tag: tag) == "after"
    assert log and set(log) <= {"uninvited", "refused"}, log
    print("defined")


def signals_in_a_busy_loop():
    """Handlers that wait while asyncio and green functions are busy."""
    log = []
    signal.signal(signal.SIGALRM, lambda number, frame: log.append(attempt_asyncio()))
    signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)

    def attempt_asyncio():
        try:
            await_(value(1))
        except NoAwaitContext:
            return "refused"
        return "waited"

    def green():
        for _ in range(200):
            sum(range(1000))
            await_(asyncio.sleep(0))

    async def main():
        await asyncio.gather(*(async_def(green) for _ in range(10)))

    asyncio.run(main())
    signal.setitimer(signal.ITIMER_REAL, 0)
    assert log and set(log) <= {"waited", "refused"}, set(log)
    print("defined")


def in_hash_eq_and_getattr_of_c_calls():
    class Key:
        def __hash__(self):
            return await_(suspend(7))

        def __eq__(self, other):
            return await_(suspend(True))

    def green():
        table = {Key(): "found"}
        return table[Key()]

    first, second = async_def(green), async_def(green)
    one, two = first.send(None), second.send(None)
    results = []
    for coro, answer in ((first, one), (second, two)):
        results.append(finish_with(coro, answer))
    assert results == ["found", "found"], results
    print("defined")


def finish_with(coro, answer):
    while True:
        try:
            answer = coro.send(answer)
        except StopIteration as end:
            return end.value


def in_import():
    """A module that waits while it is imported."""
    import tempfile

    with tempfile.TemporaryDirectory() as directory:
        with open(os.path.join(directory, "waits_at_import.py"), "w") as module:
            module.write(
                "from verdigris import await_\n"
                "from hand_driver import suspend\n"
                "answer = await_(suspend('importing'))\n"
            )
        sys.path.insert(0, directory)

        def green():
            import waits_at_import

            return waits_at_import.answer

        assert finish(async_def(green), answer=lambda tag: tag) == "importing"
    print("defined")


def fork():
    def green():
        await_(suspend())
        child = os.fork()
        await_(suspend())
        if child == 0:
            assert finish(async_def(lambda: await_(suspend("x"))), answer=lambda t: t) == "x"
            return "child"
        _, status = os.waitpid(child, 0)
        assert os.waitstatus_to_exitcode(status) == 0, status
        return "parent"

    other = async_def(lambda: await_(suspend()))
    other.send(None)
    who = finish(async_def(green))
    other.close()
    gc.collect()
    if who == "child":
        sys.exit(0)
    print("defined")


def fork_in_a_thread():
    """In the child only the forking thread lives on; the others' stacks are orphans."""
    ready, done = threading.Event(), threading.Event()

    def body():
        held = [async_def(lambda: await_(suspend())) for _ in range(10)]
        for coro in held:
            coro.send(None)
        box.extend(held)
        ready.set()
        done.wait(30)
        for coro in held:
            coro.close()

    box = []
    thread = threading.Thread(target=body)
    thread.start()
    ready.wait(30)
    import warnings

    warnings.simplefilter("ignore")
    child = os.fork()
    if child == 0:
        sys.unraisablehook = lambda unraisable: None
        box.clear()
        gc.collect()
        assert finish(async_def(lambda: await_(suspend("x"))), answer=lambda t: t) == "x"
        os._exit(0)
    _, status = os.waitpid(child, 0)
    done.set()
    thread.join()
    assert os.waitstatus_to_exitcode(status) == 0, status
    print("defined")


def sys_settrace_function_that_waits():
    def tracer(frame, event, arg):
        if event == "call" and frame.f_code.co_name == "traced":
            log.append(attempt())

    def traced():
        return "traced"

    def green():
        sys.settrace(tracer)
        try:
            return traced()
        finally:
            sys.settrace(None)

    log = []
    assert finish(async_def(green), answer=lambda tag: tag) == "traced"
    assert log in (["uninvited"], ["refused"]), log
    print("defined")


def keyboard_interrupt_of_a_real_signal():
    # A shell starts what it puts in the background with SIGINT ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)

    def green():
        await_(asyncio.sleep(0))
        os.kill(os.getpid(), signal.SIGINT)
        try:
            for _ in range(10_000):
                sum(range(100))
                await_(asyncio.sleep(0))
        finally:
            print("finally")

    try:
        asyncio.run(async_def(green))
    except KeyboardInterrupt:
        print("defined")


if __name__ == "__main__":
    globals()[sys.argv[1]]()
