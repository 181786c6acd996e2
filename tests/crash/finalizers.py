"""`await_` in code that the collector, a deallocation or a hook runs. One function a case.

Run by tests/test_finalizers.py. Whether such code may wait depends on where it is run; what is
tested is that nothing crashes, nothing is lost, and what it interrupts goes on unharmed.
"""

import asyncio
import atexit
import contextlib
import gc
import random
import sys
import threading
import weakref

from hand_driver import finish, suspend, value

from verdigris import NoAwaitContext, _engine, async_def, await_, with_portal_run

SEEN = {"waited": 0, "refused": 0, "ended": 0}


def attempt(tag="uninvited"):
    """Waits, or is refused, or is ended while it waits."""
    try:
        await_(suspend(tag))
    except NoAwaitContext:
        SEEN["refused"] += 1
    except GeneratorExit:
        SEEN["ended"] += 1
        raise
    else:
        SEEN["waited"] += 1


class Waits:
    """Waits when it is freed. In a cycle, so that the collector frees it."""

    def __init__(self, cycle=True):
        if cycle:
            self.me = self

    def __del__(self):
        attempt()


def in_turns(coros, seed=1):
    """Steps all of them in a seeded order until they end; gives their results."""
    rng = random.Random(seed)
    waiting = dict(enumerate(coros))
    results = {}
    while waiting:
        n = rng.choice(list(waiting))
        try:
            waiting[n].send(None)
        except StopIteration as end:
            results[n] = end.value
            del waiting[n]
    return [results[n] for n in range(len(coros))]


def all_is_well(*expected):
    gc.set_threshold(700)
    gc.collect()
    gc.collect()
    stats = _engine.stats()
    assert stats["stacks_in_use"] == 0 and stats["stacks_leaked"] == 0, stats
    for name in expected:
        assert SEEN[name], SEEN
    assert finish(async_def(lambda: await_(suspend("x"))), answer=lambda tag: tag) == "x"
    print("defined")


def work(make, steps=20):
    total = 0
    for n in range(steps):
        make()
        # Enough objects for the collector, wherever it is called.
        total += len([[n] for n in range(20)])
        await_(suspend(n))
        total += len([{n: [n]} for n in range(20)])
        await_(value(n))
    return total


def collector_at_any_moment():
    """With the lowest threshold it runs in the engine's own allocations too: around a switch."""
    gc.set_threshold(1, 1, 1)
    results = in_turns([async_def(work, Waits) for _ in range(20)])
    assert results == [20 * 40] * 20, results
    all_is_well("waited")


def collector_on_the_drivers_side():
    """Garbage of the functions is found while the driver runs, where nothing may wait."""
    gc.disable()
    coros = [async_def(work, Waits) for _ in range(20)]
    for n in range(400):
        try:
            coros[n % 20].send(None)
        except StopIteration:
            continue
        gc.collect(n % 3)
    for coro in coros:
        coro.close()
    gc.enable()
    all_is_well("refused")


def weakref_callbacks_at_any_moment():
    refs = set()

    class Thing:
        pass

    def make():
        thing = Thing()
        thing.me = thing

        def gone(ref):
            refs.discard(ref)
            attempt()

        refs.add(weakref.ref(thing, gone))

    gc.set_threshold(1, 1, 1)
    in_turns([async_def(work, make) for _ in range(20)])
    all_is_well("waited")


def weakref_finalize_with_others_waiting():
    class Thing:
        pass

    def make():
        thing = Thing()
        weakref.finalize(thing, attempt)
        thing.me = thing

    gc.set_threshold(10, 1, 1)
    in_turns([async_def(work, make) for _ in range(20)])
    all_is_well("waited")


def collector_callbacks():
    """`gc.callbacks` run at both ends of a collection, which must not begin another meanwhile."""

    def callback(phase, info):
        attempt(phase)

    gc.callbacks.append(callback)
    gc.set_threshold(50, 2, 2)
    in_turns([async_def(work, list) for _ in range(5)])
    gc.callbacks.remove(callback)
    all_is_well()


def while_it_is_being_closed():
    """Garbage is freed on the way out of a function that is closed, and waits there."""

    def holds(cycle):
        kept = Waits(cycle)
        await_(suspend(kept))

    sys.unraisablehook = lambda unraisable: None
    for cycle in (False, True):
        for _ in range(20):
            coro = async_def(holds, cycle)
            coro.send(None)
            try:
                coro.close()
            except RuntimeError as error:
                assert "ignored GeneratorExit" in str(error), error
                coro.close()
            coro = async_def(holds, cycle)
            coro.send(None)
            del coro
            gc.collect()
    all_is_well()


def steps_and_drops_others():
    """A finalizer resumes, closes and drops functions that wait, while one of them is stepped."""
    rng = random.Random(3)
    others = []

    class Meddles:
        def __init__(self):
            self.me = self

        def __del__(self):
            if not others:
                return
            # Ended or removed meanwhile, or it is the one that runs.
            with contextlib.suppress(StopIteration, ValueError, RuntimeError, IndexError):
                other = rng.choice(others)
                rng.choice([lambda: other.send(None), other.close, lambda: others.remove(other)])()

    gc.set_threshold(1, 1, 1)
    sys.unraisablehook = lambda unraisable: None
    for _ in range(40):
        others.extend(async_def(work, Meddles, 10) for _ in range(10))
        for _ in range(150):
            try:
                # The choice itself makes objects, so a finalizer may come in between.
                coro = rng.choice(others)
            except IndexError:
                continue
            try:
                coro.send(None)
            except (StopIteration, RuntimeError, ValueError):
                with contextlib.suppress(ValueError):
                    others.remove(coro)
        del coro
        others.clear()
    all_is_well()


def resurrects_its_function():
    """A function that is garbage is put into a global by its own `finally` block."""
    saved = []

    def comes_back(box):
        try:
            await_(suspend())
        finally:
            saved.append(box)
            attempt("again")

    sys.unraisablehook = lambda unraisable: None
    for _ in range(50):
        box = []
        box.append(async_def(comes_back, box))
        box[0].send(None)
        del box
        gc.collect()
    for (coro,) in saved:
        coro.close()
        assert coro.cr_frame is None
    saved.clear()
    all_is_well()


class Link:
    def __init__(self, child, waits):
        self.child = child
        self.waits = waits

    def __del__(self):
        try:
            if self.waits:
                attempt()
        finally:
            LINKS[0] -= 1


LINKS = [0]


def chain(length, every):
    link = None
    for n in range(length):
        link = Link(link, n % every == 0)
        # Objects of several types: each has its own way into the trashcan.
        link = Link([(link,), {n: {"link": link}}][n % 2], False)
        LINKS[0] += 2
    return link


def deep_deallocation_that_waits():
    """The trashcan is open on one stack while others, and the driver, use their own."""

    def frees():
        for _ in range(2):
            link = chain(3_000, 500)
            await_(suspend())
            del link
            await_(suspend())
        return "freed"

    # The driver frees deep structures in between.
    rng = random.Random(5)
    coros = [async_def(frees) for _ in range(8)]
    waiting, results = list(coros), []
    while waiting:
        coro = rng.choice(waiting)
        try:
            coro.send(None)
        except StopIteration as end:
            results.append(end.value)
            waiting.remove(coro)
        link = chain(200, 50)
        del link
    assert results == ["freed"] * 8, results
    gc.collect()
    # What was left in a trashcan goes with the next deallocation of its stack or thread.
    nested = None
    for _ in range(1000):
        nested = [nested]
    del nested
    assert LINKS == [0], LINKS
    all_is_well("waited")


def deep_deallocation_that_is_closed():
    """Closed while a `__del__` in the middle of a deep deallocation waits."""
    sys.unraisablehook = lambda unraisable: None

    def frees():
        link = chain(2_000, 300)
        del link
        await_(suspend())

    for _ in range(5):
        coro = async_def(frees)
        coro.send(None)
        for _ in range(20):
            try:
                coro.close()
                break
            except RuntimeError as error:
                assert "ignored GeneratorExit" in str(error), error
        assert coro.cr_frame is None
    gc.collect()
    assert LINKS == [0], LINKS
    all_is_well()


def hooks():
    """Every other hook that runs in the middle of something."""
    seen = []

    def trace(frame, event, arg):
        attempt("trace")
        return

    def profile(frame, event, arg):
        if event == "c_call":
            attempt("profile")

    def audit(event, arguments):
        if event == "verdigris.test" and auditing:
            seen.append(event)
            attempt("audit")

    auditing = True
    sys.addaudithook(audit)

    def breaks():
        class Broken:
            def __del__(self):
                raise ValueError

        Broken()

    def unraisable(unraisable):
        attempt("unraisable")

    def green():
        sys.audit("verdigris.test")
        sys.unraisablehook = unraisable
        breaks()
        sys.unraisablehook = sys.__unraisablehook__
        sys.setprofile(profile)
        len([])
        sys.setprofile(None)
        sys.settrace(trace)
        (lambda: None)()
        sys.settrace(None)
        if sys.version_info >= (3, 12):
            monitoring = sys.monitoring
            monitoring.use_tool_id(3, "test")
            monitoring.register_callback(3, monitoring.events.PY_START, lambda *_: attempt("mon"))
            monitoring.set_events(3, monitoring.events.PY_START)
            (lambda: None)()
            monitoring.set_events(3, 0)
            monitoring.free_tool_id(3)
        return "over"

    assert in_turns([async_def(green)]) == ["over"]
    auditing = False
    assert seen
    all_is_well("waited")


def in_portals_and_tasks():
    gc.set_threshold(1, 1, 1)

    def sync(make):
        for _ in range(20):
            make()
            await_(asyncio.sleep(0))

    class WaitsForLoop:
        def __init__(self):
            self.me = self

        def __del__(self):
            try:
                await_(asyncio.sleep(0))
                SEEN["waited"] += 1
            except NoAwaitContext:
                SEEN["refused"] += 1

    async def portal():
        for _ in range(5):
            sync(WaitsForLoop)
            await asyncio.sleep(0)

    async def native():
        for _ in range(200):
            WaitsForLoop()
            await asyncio.sleep(0)

    async def main():
        await asyncio.gather(
            *(async_def(sync, WaitsForLoop) for _ in range(10)),
            *(with_portal_run(portal) for _ in range(5)),
            native(),
        )

    asyncio.run(main())
    all_is_well("waited", "refused")


def in_threads():
    """Garbage of one thread's functions is freed by another thread, whose functions wait."""

    def body():
        in_turns([async_def(work, Waits) for _ in range(10)])

    gc.set_threshold(20, 2, 2)
    threads = [threading.Thread(target=body) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    all_is_well("waited")


def at_the_end_of_the_interpreter():
    """What is freed last has nowhere to wait, and says so."""

    class Last:
        def __del__(self):
            try:
                await_(suspend())
            except NoAwaitContext:
                print("refused", flush=True)

    def at_exit():
        try:
            await_(suspend())
        except NoAwaitContext:
            print("refused", flush=True)
        # A function may still be started, and run to its end.
        print(finish(async_def(lambda: await_(suspend("x"))), answer=lambda tag: tag), flush=True)

    global last
    last = Last()
    last.me = last
    atexit.register(at_exit)
    weakref.finalize(Last, at_exit)


if __name__ == "__main__":
    globals()[sys.argv[1]]()
