"""Portals in bad company: other libraries, dying threads, an interpreter that ends.

Run by tests/test_portal_bad_input.py, one function a case; prints what the test looks for.
"""

import asyncio
import atexit
import gc
import random
import sys
import threading
import warnings

from hand_driver import suspend

from verdigris import _engine, await_, bestow_portal, ensure_portal, has_portal, with_portal_run


def start(library, async_fn):
    if library == "trio":
        import trio

        return trio.run(async_fn)
    return asyncio.run(async_fn())


async def step(library, result=None):
    if library == "trio":
        import trio

        await trio.lowlevel.checkpoint()
    else:
        await asyncio.sleep(0)
    return result


def current_task(library):
    if library == "trio":
        import trio

        return trio.lowlevel.current_task()
    return asyncio.current_task()


# --- greenback in the same task ----------------------------------------------
#
# Where one of the two can't do what it is asked for, any exception will do.


def greenback_first(library):
    import greenback

    async def main():
        await greenback.ensure_portal()
        for attempt in (
            lambda: greenback.await_(ensure_portal()),
            lambda: bestow_portal(current_task(library)),
        ):
            try:
                attempt()
            except RuntimeError as error:
                assert "has a portal of greenback" in str(error), error
                print("refused")
        assert not has_portal()
        print(greenback.await_(step(library, "goes on")))

    start(library, main)


def inside_greenbacks_run(library):
    import greenback

    async def within():
        try:
            await ensure_portal()
        except RuntimeError as error:
            assert "has a portal of greenback" in str(error), error
            print("refused")
        assert not has_portal()
        print(greenback.await_(step(library, "goes on")))

    async def main():
        await greenback.with_portal_run(within)
        # That portal is gone with its call.
        await ensure_portal()
        print(await_(step(library, "ours")))

    start(library, main)


def another_task_inside_greenbacks_run(library):
    import greenback

    tasks = []

    async def waits():
        for _ in range(20):
            await step(library)
        return "waited"

    async def natively():
        await waits()
        return greenback.await_(step(library, "goes on"))

    async def in_sync_code():
        return greenback.await_(waits())

    async def other():
        tasks.append(current_task(library))
        for within in (natively, in_sync_code):
            print(await greenback.with_portal_run(within))

    async def bestows():
        while not tasks:
            await step(library)
        for _ in range(30):
            await step(library)
            try:
                bestow_portal(tasks[0])
            except RuntimeError as error:
                assert "has a portal of greenback" in str(error), error
            else:
                raise AssertionError("two libraries in one task")
            assert not has_portal(tasks[0])
        print("refused")

    async def main():
        if library == "trio":
            import trio

            async with trio.open_nursery() as nursery:
                nursery.start_soon(other)
                nursery.start_soon(bestows)
        else:
            await asyncio.gather(other(), bestows())

    start(library, main)


def their_await(library):
    import greenback

    try:
        print(greenback.await_(step(library, "theirs")), flush=True)
    except Exception:
        print("refused", flush=True)


def greenbacks_run_inside_ours(library, others_wait):
    """Their greenlets begin on one native stack; another task may have that one later."""
    import greenback

    randomness = random.Random(1)
    results = []

    def their_await(depth):
        return their_await(depth - 1) if depth else greenback.await_(step(library, "theirs"))

    async def within(number):
        for _ in range(20):
            assert their_await(number % 7) == "theirs"
            await step(library)
        return "done"

    async def ours(number):
        await ensure_portal()
        try:
            results.append(await greenback.with_portal_run(within, number))
        except Exception:
            results.append("refused")

    async def other(number):
        await ensure_portal()
        for _ in range(60):
            if others_wait == "natively" or randomness.random() < 0.5:
                await step(library)
            else:
                await_(step(library))

    async def main():
        calls = [(fn, number) for number in range(20) for fn in (ours, other)]
        if library == "trio":
            import trio

            async with trio.open_nursery() as nursery:
                for fn, number in calls:
                    nursery.start_soon(fn, number)
        else:
            await asyncio.gather(*(fn(number) for fn, number in calls))

    start(library, main)
    assert len(results) == 20 and set(results) <= {"done", "refused"}, results
    print("lives")


def both_await_inside_greenbacks_run(library):
    import greenback

    async def within():
        their_await(library)
        print(await_(step(library, "ours")), flush=True)
        their_await(library)
        await step(library)
        their_await(library)

    async def main():
        await ensure_portal()
        await greenback.with_portal_run(within)

    try:
        start(library, main)
    except Exception:
        print("refused")
    print("lives")


def ours_first(library):
    """Theirs is put around ours."""
    import greenback

    async def main():
        await ensure_portal()
        await greenback.ensure_portal()
        their_await(library)

    try:
        start(library, main)
    except Exception:
        print("refused")
    print("lives")


def ours_inside_greenbacks(library):
    """`with_portal_run` in a task of theirs, and their `await_` below it."""
    import greenback

    async def within():
        print(await_(step(library, "ours")), flush=True)
        their_await(library)
        print(await_(step(library, "ours")), flush=True)

    async def main():
        await greenback.ensure_portal()
        try:
            await with_portal_run(within)
        except Exception:
            print("refused")
        their_await(library)

    start(library, main)
    print("lives")


def greenlets_outlive_steps(library):
    """A coroutine that keeps a greenlet from one native wait to the next, as SQLAlchemy does."""
    from greenlet import getcurrent, greenlet

    results = []

    async def greenlet_spawn(fn, *args):
        child = greenlet(fn)
        result = child.switch(*args)
        while not child.dead:
            result = child.switch(await result)
        return result

    def query(number):
        return [getcurrent().parent.switch(step(library, number)) for _ in range(5)]

    async def body(number):
        await ensure_portal()
        for _ in range(5):
            results.append(await greenlet_spawn(query, number) == [number] * 5)
            # Others take a step meanwhile, on other stacks.
            await_(step(library))

    async def main():
        if library == "trio":
            import trio

            async with trio.open_nursery() as nursery:
                for number in range(10):
                    nursery.start_soon(body, number)
        else:
            await asyncio.gather(*(body(number) for number in range(10)))

    start(library, main)
    assert results == [True] * 50, results
    print("lives")


# --- tasks that never end ----------------------------------------------------


def sync_waits(name="in sync code"):
    try:
        await_(asyncio.Event().wait())
    except GeneratorExit:
        print("GeneratorExit", flush=True)
        raise
    finally:
        print(name, flush=True)


async def natively():
    await ensure_portal()
    try:
        await asyncio.Event().wait()
    finally:
        print("natively", flush=True)


async def in_sync_code():
    await ensure_portal()
    try:
        sync_waits()
    finally:
        print("below sync code", flush=True)


def loop_with(*async_fns):
    loop = asyncio.new_event_loop()
    loop.set_exception_handler(lambda loop, context: print(context["message"], flush=True))
    tasks = [loop.create_task(async_fn()) for async_fn in async_fns]
    for _ in range(5):
        loop.run_until_complete(asyncio.sleep(0))
    return loop, tasks


def loop_closed(which):
    loop, tasks = loop_with(globals()[which])
    loop.close()
    print("closed", flush=True)
    tasks.clear()
    gc.collect()
    assert _engine.stats()["stacks_in_use"] == 0
    print("collected")


def loop_closed_by_the_garbage_collector(which):
    loop, tasks = loop_with(globals()[which])
    loop.close()
    tasks.append(tasks)
    del loop, tasks
    gc.collect()
    assert _engine.stats()["stacks_in_use"] == 0
    print("collected")


def interpreter_exit():
    global held
    held = loop_with(natively, in_sync_code, in_sync_code)
    atexit.register(print, "leaving", flush=True)


def interpreter_exit_in_a_cycle():
    held = list(loop_with(natively, in_sync_code, in_sync_code))
    held.append(held)
    held[1][0].add_done_callback(lambda task: held)
    gc.disable()
    print("leaving", flush=True)


def interpreter_exit_inside():
    async def main():
        await ensure_portal()
        leaves()

    def leaves():
        await_(asyncio.sleep(0))
        print("leaving", flush=True)
        sys.exit(3)

    asyncio.run(main())


def trio_run_that_crashes():
    """Trio gives its tasks up: they are collected, some of them in sync code."""
    import trio

    async def waits():
        await ensure_portal()
        try:
            await_(trio.sleep_forever())
        finally:
            print("unwound", flush=True)

    async def main():
        async with trio.open_nursery() as nursery:
            nursery.start_soon(waits)
            await trio.testing.wait_all_tasks_blocked()
            trio.lowlevel.spawn_system_task(fails)
            await trio.sleep_forever()

    async def fails():
        raise KeyError("a crash")

    import trio.testing

    try:
        trio.run(main)
    except trio.TrioInternalError:
        print("crashed", flush=True)
    gc.collect()
    print(_engine.stats()["stacks_in_use"], flush=True)


# --- threads -----------------------------------------------------------------


async def waits_in_both_ways(log):
    try:
        log.append(await suspend("natively"))
        log.append(sync_suspend(log))
        return "ended"
    finally:
        log.append(threading.get_ident())


def sync_suspend(log):
    try:
        return await_(suspend("in sync code"))
    finally:
        log.append(threading.get_ident())


def in_thread(fn):
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


def thread_ends_while_sync_code_waits():
    log = []

    def started():
        portal = _engine.portal(waits_in_both_ways(log))
        portal.send(None)
        assert portal.send(1) == "in sync code"
        return portal

    portal = in_thread(started)
    for attempt, *arguments in (
        (portal.send, None),
        (portal.throw, KeyError()),
        (portal.close,),
        (asyncio.run, portal),
    ):
        try:
            attempt(*arguments)
        except RuntimeError as error:
            assert "thread" in str(error), error
            print("RuntimeError")
        else:
            raise AssertionError("a stack was used on a thread that is not its own")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        del portal, attempt, arguments
        gc.collect()
    print([warning.category.__name__ for warning in caught])
    assert "waits_in_both_ways" in str(caught[0].message), caught[0].message
    assert log == [1], "unwound on a thread that is not its own"


def thread_ends_with_its_loop():
    """A whole loop is left behind in a thread, with its tasks."""

    def body():
        _loop, tasks = loop_with(natively, in_sync_code)
        return [has_portal(task) for task in tasks]

    warnings.simplefilter("ignore", ResourceWarning)
    for _ in range(5):
        assert in_thread(body) == [True, True]
        gc.collect()
    print("survived")


def held_by_a_thread_local():
    local = threading.local()

    def body():
        local.held = []
        for _ in range(10):
            portal = _engine.portal(waits_in_both_ways([]))
            portal.send(None)
            assert portal.send(None) == "in sync code"
            local.held.append(portal)
        return len(local.held)

    warnings.simplefilter("ignore")
    for _ in range(10):
        assert in_thread(body) == 10
        gc.collect()
    print("survived")


def dropped_by_another_thread():
    log, box = [], []
    held, dropped = threading.Event(), threading.Event()

    def owner():
        box.append(_engine.portal(waits_in_both_ways(log)))
        box[0].send(None)
        box[0].send(None)
        held.set()
        dropped.wait(30)
        for _ in range(1000):
            portal = _engine.portal(waits_in_both_ways([]))
            portal.send(None)
            portal.close()
        box.append(threading.get_ident())

    thread = threading.Thread(target=owner)
    thread.start()
    held.wait(30)
    box.clear()
    gc.collect()
    dropped.set()
    thread.join()
    assert log == [None, box[0], box[0]], (log, box)
    print("unwound at home")


def daemon_thread_at_exit():
    ready = threading.Event()

    def body():
        held = []
        for _ in range(10):
            held.append(_engine.portal(waits_in_both_ways([])))
            held[-1].send(None)
            held[-1].send(None)
        ready.set()
        while held:
            portal = _engine.portal(waits_in_both_ways([]))
            portal.send(None)
            portal.send(None)
            portal.close()

    threading.Thread(target=body, daemon=True).start()
    assert ready.wait(30)
    print("leaving", flush=True)


# --- no stack is left --------------------------------------------------------


def limit_to(more_bytes):
    import resource

    with open("/proc/self/statm") as statm:
        now = int(statm.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (now + more_bytes, resource.RLIM_INFINITY))


def in_sync(number):
    async def body():
        await suspend("first")
        return sync_suspend([]), number

    return _engine.portal(body())


def out_of_stacks():
    """The step that finds no stack is a MemoryError, and can be tried again."""
    limit_to(512 * 2**20)
    idle = [in_sync(number) for number in range(300)]
    for portal in idle:
        # One stack serves them all.
        assert portal.send(None) == "first"
    held = []
    for portal in idle:
        try:
            portal.send(None)
        except MemoryError as error:
            assert "stack" in str(error).lower(), error
            break
        held.append(portal)
    else:
        raise AssertionError("the limit had no effect")
    assert len(held) >= 8, len(held)

    refused = idle[len(held)]
    for attempt in (lambda: refused.send(None), lambda: refused.throw(KeyError()), refused.close):
        try:
            attempt()
        except MemoryError:
            continue
        raise AssertionError("there was a stack")
    try:
        held.pop().send("answer")
    except StopIteration as end:
        assert end.value == ("answer", len(held))
    # Refused without harm.
    assert refused.send(None) == "in sync code"
    held.append(refused)
    for portal in idle:
        portal.close()
    assert _engine.stats()["stacks_in_use"] == 0
    assert _engine.stats()["stacks_leaked"] == 0
    print("nothing lost")


def out_of_stacks_in_a_loop():
    """Tasks that find no stack fail with MemoryError, and are unwound; the others finish."""
    import resource

    unwound = []

    async def body(first, second, number):
        await ensure_portal()
        try:
            await first.wait()
            await_(second.wait())
            return number
        finally:
            unwound.append(number)

    async def main():
        first, second = asyncio.Event(), asyncio.Event()
        tasks = [asyncio.create_task(body(first, second, number)) for number in range(300)]
        for _ in range(3):
            await asyncio.sleep(0)
        unlimited = resource.getrlimit(resource.RLIMIT_AS)
        limit_to(512 * 2**20)
        first.set()
        for _ in range(3):
            await asyncio.sleep(0)
        # Only the tasks' stacks shall find nothing: what follows needs memory as well.
        resource.setrlimit(resource.RLIMIT_AS, unlimited)
        second.set()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        done = [result for result in results if isinstance(result, int)]
        full = [result for result in results if isinstance(result, MemoryError)]
        assert len(done) + len(full) == 300, results
        assert done and full
        del tasks, results, full
        gc.collect()
        await ensure_portal()
        assert await_(asyncio.sleep(0, "works")) == "works"

    asyncio.run(main())
    gc.collect()
    assert sorted(unwound) == list(range(300)), len(unwound)
    print("nothing lost")


if __name__ == "__main__":
    globals()[sys.argv[1]](*sys.argv[2:])
