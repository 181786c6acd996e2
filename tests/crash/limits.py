"""What a process is limited in runs out: a clear error, and it goes on. One function a case.

Run by tests/test_limits.py.
"""

import asyncio
import contextlib
import errno
import mmap
import os
import resource
import signal
import subprocess
import sys
import threading

import refusals
from aftermath import still_works
from exhaustion import KEPT, end_of, until_full, waits
from hand_driver import finish, suspend

from verdigris import _engine, async_def, await_, block, spawn, to_async

MIB = 2**20


# --- address space and memory ------------------------------------------------


def in_a_child(body):
    """Runs `body` in a fork, and returns how that ended: 0, an exit code, or minus a signal."""
    child = os.fork()
    if child == 0:
        code = 70
        try:
            body()
            code = 0
        except MemoryError:
            code = 71
        except BaseException as error:
            os.write(2, f"{type(error).__name__}: {error}\n".encode())
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def work_until_memory_ends():
    """All that takes memory of the engine's, over and over, and each step may be refused."""

    def deep(depth):
        return deep(depth - 1) + 1 if depth else (await_(suspend()), 0)[1]

    def nests(depth):
        return await_(async_def(nests, depth - 1)) if depth else await_(suspend())

    async def portal():
        return await_(suspend())

    from verdigris import with_portal_run

    held = []
    refused = 0
    for _ in range(300):
        for made in (
            lambda: async_def(waits, 0),
            lambda: async_def(deep, 500),
            lambda: async_def(nests, 5),
            lambda: with_portal_run(portal),
        ):
            try:
                coro = made()
                coro.send(None)
                held.append(coro)
            except MemoryError as error:
                refused += 1
                last = str(error)
    assert refused == 0 or "stack" in last or last == "", last
    while held:
        coro = held.pop()
        # What it does on its way out needs memory as well.
        with contextlib.suppress(MemoryError):
            coro.close()
    still_works()


def sweep(limit, sizes):
    """Every size ends in an orderly way, be it a MemoryError of Python's own."""
    endings = []
    for size in sizes:
        endings.append(in_a_child(lambda size=size: (limit(size), work_until_memory_ends())))
    assert set(endings) <= {0, 71}, [
        (size, ending) for size, ending in zip(sizes, endings, strict=True) if ending not in (0, 71)
    ]
    assert 0 in endings, endings
    print("orderly")


def used(field):
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[field]) * resource.getpagesize()


def without_room(which, field):
    """Limits a kind of memory to what there is and a little, with no room made for Python."""

    def limit(more):
        resource.setrlimit(which, (used(field) + more, resource.RLIM_INFINITY))

    return limit


# Around each size that the engine asks for: one stack, and slabs of 4, 16 and 64 of them.
SIZES = sorted(
    {
        max(0, stacks * 8 * MIB + difference)
        for stacks in (0, 1, 2, 4, 5, 16, 20, 21, 64, 84)
        for difference in (-65536, 0, 4096, 65536, 2 * MIB, 3 * MIB + 4096)
    }
)


def address_space_of_any_size():
    sweep(without_room(resource.RLIMIT_AS, 0), SIZES)


def data_of_any_size():
    """RLIMIT_DATA counts what could be written to, of which stacks are 8 MiB each."""
    sweep(without_room(resource.RLIMIT_DATA, 5), SIZES)


def data_segment_ends():
    for size in (400, 4096):
        blocks = [bytearray(size) for _ in range(4000)]
        KEPT.extend(block for n, block in enumerate(blocks) if n // 100 % 2)
    resource.setrlimit(resource.RLIMIT_DATA, (used(5) + 64 * MIB, resource.RLIM_INFINITY))
    held, refused, error = until_full()
    assert "RLIMIT_DATA" in str(error) and "max_map_count" not in str(error), error
    refused.close()
    for coro in held:
        assert end_of(coro)[0] == "answer"
    still_works()
    print("orderly")


def slabs_are_refused():
    """Overcommit is off: what may be reserved ends, long before address space does."""
    refusals.no_mapping_of(40 * MIB)
    held = [async_def(waits, n) for n in range(50)]
    for coro in held:
        coro.send(None)
    assert [end_of(coro)[1] for coro in held] == list(range(50))
    still_works()
    print("orderly")


def stacks_are_refused():
    refusals.no_mapping_of(8 * MIB)
    held, refused, error = until_full()
    assert "no native stack" in str(error) and "overcommit_memory" in str(error), error
    assert "max_map_count" not in str(error), error
    assert held == []
    refused.close()
    try:
        asyncio.run(async_def(print, "never"))
    except MemoryError as error:
        assert "no native stack" in str(error), error
    print("orderly")


# --- memory mappings ---------------------------------------------------------


def map_limit():
    with open("/proc/sys/vm/max_map_count") as file:
        return int(file.read())


def mappings_end():
    """Each stack takes two mappings, where guards are pages that may not be touched."""
    refusals.no_guard_install()
    held, refused, error = until_full()
    assert "max_map_count" in str(error) and "6.13" in str(error), error
    assert len(held) > map_limit() // 4, len(held)
    assert _engine.stats()["guard"] == "mprotect"
    refused.close()

    # What is left is enough for others: threads, and Python's own memory.
    ran = []
    thread = threading.Thread(target=lambda: ran.append([0] * 1_000_000))
    thread.start()
    thread.join()
    assert ran

    count = len(held)
    for coro in held[count // 2 :]:
        coro.close()
    del held[count // 2 :]
    still_works()
    thread = threading.Thread(target=still_works)
    thread.start()
    thread.join()
    again, refused, error = until_full()
    assert "max_map_count" in str(error), error
    assert len(again) + len(held) >= count - 1, (len(again), len(held), count)
    refused.close()
    for coro in (*held, *again):
        assert end_of(coro)[0] == "answer"
    still_works()
    print("orderly")


def mappings_taken_by_others():
    """The program maps until it may not: the engine has no stack, until there is room again."""
    # Neighbours of one kind would be merged into one mapping.
    shared = [mmap.mmap(-1, mmap.PAGESIZE, mmap.MAP_SHARED) for _ in range(1000)]
    more = []
    with contextlib.suppress(OSError):
        while len(more) <= map_limit():
            more.append(mmap.mmap(-1, mmap.PAGESIZE, mmap.MAP_SHARED))
    for _ in range(3):
        try:
            coro = async_def(waits, 0)
            coro.send(None)
            coro.close()
        except MemoryError as error:
            told = str(error)
    del shared[:], more[100:]
    assert "max_map_count" in told, told
    still_works()
    print("orderly")


def guards_end_in_the_middle():
    """The kernel stops to take guards (as it does for locked memory): others take their place."""
    held = [async_def(waits, n) for n in range(10)]
    for coro in held:
        coro.send(None)
    refusals.no_guard_install()
    more = [async_def(waits, n) for n in range(300)]
    for coro in more:
        coro.send(None)
    assert _engine.stats()["guard"] == "mprotect"
    assert [end_of(coro)[1] for coro in (*held, *more)] == [*range(10), *range(300)]
    still_works()
    print("orderly")


def memory_is_not_given_back():
    """`madvise` refuses to take memory: it is kept, and is still good."""
    refusals.refuse("madvise", errno.EINVAL, argument=2, equal=refusals.MADV_DONTNEED)

    def deep(depth):
        return deep(depth - 1) + 1 if depth else (await_(suspend()), 0)[1]

    for _ in range(3):
        held = [async_def(deep, 500) for _ in range(400)]
        for coro in held:
            coro.send(None)
        assert [finish(coro) for coro in held] == [500] * 400
    still_works()
    print("orderly")


# --- threads, processes, descriptors -----------------------------------------


def threads_end():
    """What needs a thread and gets none fails at once, where it was called."""
    refusals.no_threads()

    def sleeps():
        threading.Event().wait(60)

    async def main():
        for call in (to_async(sleeps), lambda: async_def(lambda: await_(to_async(sleeps)()))):
            try:
                await asyncio.wait_for(call(), 20)
            except RuntimeError as error:
                assert "thread" in str(error), error
            else:
                raise AssertionError("a call ran without its thread")
        return await async_def(lambda: await_(asyncio.sleep(0, "goes on")))

    assert asyncio.run(main()) == "goes on"

    async def value():
        return "value"

    # On a thread of its own, for want of a stack to wait on.
    async def blocks():
        return block(value)

    try:
        asyncio.run(blocks())
    except RuntimeError as error:
        assert "thread" in str(error), error
    assert asyncio.run(async_def(block, value)) == "value"
    assert block(value) == "value"
    still_works()
    print("orderly")


def processes_end():
    from verdigris.green import subprocess as green_subprocess

    refusals.no_threads()

    def green():
        for run in (subprocess.run, green_subprocess.run):
            try:
                run([sys.executable, "-c", ""], check=True)
            except OSError as error:
                assert error.errno == errno.EAGAIN, error
            else:
                raise AssertionError("a process was started")
        return await_(asyncio.sleep(0, "goes on"))

    assert asyncio.run(async_def(green)) == "goes on"
    print("orderly")


def descriptors_end():
    """The loop has its own; the reactor finds none for itself, and says so."""
    from verdigris.green import socket, time

    def green():
        one, other = socket.socketpair()
        # What is imported late is there.
        spawn(time.sleep, 0).join()
        _, room = resource.getrlimit(resource.RLIMIT_NOFILE)
        limit = max(int(fd) for fd in os.listdir("/proc/self/fd")) + 20
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, room))
        taken = []
        with contextlib.suppress(OSError):
            while True:
                taken.append(os.dup(0))
        time.sleep(0.01)
        task = spawn(lambda: (time.sleep(0.05), other.send(b"x")))
        try:
            assert one.recv(1) == b"x"
        except OSError as error:
            assert error.errno == errno.EMFILE, error
        task.join()
        for refused in (socket.socketpair, lambda: one.dup(), lambda: open(os.devnull).close()):
            try:
                refused()
            except OSError as error:
                assert error.errno == errno.EMFILE, error
            else:
                raise AssertionError("there was a descriptor left")
        for fd in taken:
            os.close(fd)
        task = spawn(lambda: (time.sleep(0.05), other.send(b"y")))
        answer = one.recv(2)[-1:]
        task.join()
        one.close()
        other.close()
        return answer

    assert asyncio.run(asyncio.wait_for(async_def(green), 30)) == b"y"
    print("orderly")


# --- the thread's own stack --------------------------------------------------


def depths():
    """How deep functions get here, and that nothing but an exception ends them."""
    import json

    def recurse(depth=0):
        try:
            return recurse(depth + 1)
        except RecursionError:
            return depth

    def nested_sort(_=None):
        sorted([1, 2], key=nested_sort)

    def nested_json():
        json.loads("[" * 100_000 + "]" * 100_000)

    def green():
        found = recurse()
        for endless in (nested_sort, nested_json):
            try:
                endless()
            except (RecursionError, MemoryError):
                await_(suspend())
            else:
                raise AssertionError("it came to an end")
        return found

    return finish(async_def(green))


def an_unlimited_stack():
    """The kernel then lays out mappings the other way round: the script starts itself anew."""
    if "again" not in sys.argv:
        resource.setrlimit(resource.RLIMIT_STACK, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        os.execv(sys.executable, [sys.executable, *sys.argv, "again"])
    assert resource.getrlimit(resource.RLIMIT_STACK)[0] == resource.RLIM_INFINITY
    assert depths() > 500
    thread = threading.Thread(target=lambda: ran.append(depths()))
    ran = []
    thread.start()
    thread.join()
    assert ran[0] > 500
    still_works()
    print("orderly")


def threads_with_small_stacks():
    """Functions have stacks of their own: how deep they get does not depend on the thread's."""
    main = depths()
    threading.stack_size(256 * 1024)
    ran = []
    thread = threading.Thread(target=lambda: ran.append(depths()))
    thread.start()
    thread.join()
    assert abs(ran[0] - main) < 50, (ran, main)
    print("orderly")


if __name__ == "__main__":
    signal.alarm(100)
    globals()[sys.argv[1]]()
