"""Green functions whose threads have ended. One function a case.

Run by tests/test_threads.py; prints what the test looks for.
"""

import asyncio
import gc
import sys
import threading
import warnings

from hand_driver import suspend

from verdigris import _engine, async_def, await_


def in_thread(fn):
    """Run `fn` to the end in a thread of its own; its result or its error."""
    box = []

    def body():
        try:
            box.append(fn())
        except BaseException as error:
            box.append(error)

    thread = threading.Thread(target=body)
    thread.start()
    thread.join()
    return box[0]


def waits(log=None):
    try:
        return await_(suspend("waiting"))
    finally:
        if log is not None:
            log.append(threading.get_ident())


def started(log=None):
    coro = async_def(waits, log)
    assert coro.send(None) == "waiting"
    return coro


def resumed_after_its_thread_ended():
    coro = in_thread(started)
    for attempt in (
        lambda: coro.send(None),
        lambda: coro.throw(KeyError("thrown")),
        lambda: asyncio.run(coro),
    ):
        try:
            attempt()
        except RuntimeError as error:
            assert "thread" in str(error), error
            print("RuntimeError")
        else:
            raise AssertionError("a stack was resumed on a thread that is not its own")
    leak(coro)


def leak(coro):
    """Dropping the last reference may warn, and must not crash."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        sys.unraisablehook = lambda unraisable: None
        del coro
        gc.collect()


def closed_after_its_thread_ended():
    coro = in_thread(started)
    try:
        coro.close()
    except RuntimeError as error:
        assert "thread" in str(error), error
        print("RuntimeError")
    leak(coro)


def dropped_after_its_thread_ended():
    log = []
    coro = in_thread(lambda: started(log))
    del coro
    gc.collect()
    # Nobody can unwind it any more: its `finally` must not run elsewhere.
    assert log == [] or log == [None], log
    print("survived")


def new_threads_at_the_same_addresses():
    """A new thread's state is often at an old one's address: compare ids."""
    refused = 0
    for _ in range(50):
        coro = in_thread(started)
        answer = in_thread(lambda coro=coro: coro.send("answer"))
        assert isinstance(answer, RuntimeError), answer
        assert not isinstance(answer, StopIteration)
        refused += 1
        in_thread(lambda: in_thread(started) and None)
    print(refused)
    leak(coro)


def held_by_the_thread_itself():
    """Suspended ones that a dying thread holds in its locals and thread-locals."""
    local = threading.local()

    def body():
        local.held = [started() for _ in range(10)]
        more = [started() for _ in range(10)]
        more.append(more)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for _ in range(20):
            in_thread(body)
            gc.collect()
    print("survived")


def daemon_thread_at_exit():
    """The interpreter ends while a daemon thread has functions suspended."""
    ready = threading.Event()

    def body():
        held = [started() for _ in range(10)]
        ready.set()
        while held:
            coro = async_def(waits)
            coro.send(None)
            coro.close()

    threading.Thread(target=body, daemon=True).start()
    ready.wait(30)
    print("leaving", flush=True)


def dropped_by_another_thread():
    """A living thread's function whose last reference another thread drops."""
    log, box = [], []
    dropped, finished = threading.Event(), threading.Event()

    def owner():
        box.append(started(log))
        held.set()
        dropped.wait(30)
        for _ in range(1000):
            coro = async_def(lambda: await_(suspend()))
            coro.send(None)
            coro.close()
        stats.append(_engine.stats())
        idents.append(threading.get_ident())
        finished.set()

    held, stats, idents = threading.Event(), [], []
    warnings.simplefilter("always")
    thread = threading.Thread(target=owner)
    thread.start()
    held.wait(30)
    box.clear()
    gc.collect()
    dropped.set()
    thread.join()
    if log:
        assert log == idents, "unwound on a thread that is not its own"
        assert stats[0]["stacks_leaked"] == 0
        print("unwound at home")
    else:
        assert stats[0]["stacks_leaked"] == 1, stats
        print("leaked")


def resumed_elsewhere_while_its_thread_lives():
    box, go, done = [], threading.Event(), threading.Event()

    def owner():
        coro = started()
        box.append(coro)
        ready.set()
        go.wait(30)
        try:
            coro.send("answer")
        except StopIteration as end:
            box.append(end.value)
        done.set()

    ready = threading.Event()
    threading.Thread(target=owner).start()
    ready.wait(30)
    for attempt in (lambda: box[0].send("stolen"), lambda: box[0].throw(KeyError())):
        try:
            attempt()
        except RuntimeError as error:
            assert "thread" in str(error), error
        else:
            raise AssertionError("a stack moved to another thread")
    # Refused without harm: at home it goes on.
    go.set()
    done.wait(30)
    print(box[1])


if __name__ == "__main__":
    globals()[sys.argv[1]]()
