"""Address space for stacks runs out (RLIMIT_AS). One function a case.

Run by tests/test_stacks.py.
"""

import asyncio
import resource
import sys

from hand_driver import suspend

from verdigris import _engine, async_def, await_

KEPT = []


def limit_to(more_bytes):
    """Limits the address space. The stacks take all of it, so Python gets some room before."""
    for size in (400, 4096):
        blocks = [bytearray(size) for _ in range(4000)]
        # Every second piece of it stays: what is free lies between, and can't go back.
        KEPT.extend(block for n, block in enumerate(blocks) if n // 100 % 2)
    with open("/proc/self/statm") as statm:
        now = int(statm.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (now + more_bytes, resource.RLIM_INFINITY))


def waits(n):
    return await_(suspend(n)), n


def until_full():
    """Suspended functions until there is no stack left, and the one refused."""
    held = []
    while True:
        coro = async_def(waits, len(held))
        try:
            coro.send(None)
        except MemoryError as error:
            return held, coro, error
        held.append(coro)
        assert len(held) < 100_000, "the limit had no effect"


def end_of(coro):
    try:
        coro.send("answer")
    except StopIteration as end:
        return end.value
    raise AssertionError("did not end")


def nothing_is_lost():
    limit_to(512 * 2**20)
    held, refused, error = until_full()
    # 8 MiB each: a clear text, and not after the first.
    assert "stack" in str(error).lower(), error
    assert len(held) >= 8, len(held)

    # The refused one never ran. It is still whole, or was closed cleanly.
    if refused.cr_frame is None:
        refused.close()
    else:
        assert end_of(held.pop(0)) == ("answer", 0)
        assert refused.send(None) == len(held) + 1
        held.append(refused)

    for coro in held:
        result = end_of(coro)
        assert result[0] == "answer"

    # Everything came back: as many fit again.
    again, refused, error = until_full()
    assert len(again) >= len(held) - 1, (len(again), len(held))
    refused.close()
    for coro in again:
        coro.close()
    assert _engine.stats()["stacks_in_use"] == 0
    assert _engine.stats()["stacks_leaked"] == 0
    print("nothing lost")


def in_a_loop():
    """Tasks that find no stack fail with MemoryError; the others finish."""
    limit_to(512 * 2**20)

    def f(event, n):
        await_(event.wait())
        return n

    async def main():
        event = asyncio.Event()
        tasks = [asyncio.create_task(async_def(f, event, n)) for n in range(300)]
        await asyncio.sleep(0.01)
        event.set()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        done = [r for r in results if isinstance(r, int)]
        full = [r for r in results if isinstance(r, MemoryError)]
        assert len(done) + len(full) == 300, results
        assert done and full
        assert await async_def(lambda: await_(asyncio.sleep(0, "works"))) == "works"

    asyncio.run(main())
    print("nothing lost")


def inside_a_function():
    """The stack runs out for what a green function starts; it goes on and cleans up."""
    limit_to(256 * 2**20)

    def green():
        held, refused, _ = until_full()
        await_(asyncio.sleep(0))
        refused.close()
        for coro in held:
            coro.close()
        return await_(async_def(lambda: await_(asyncio.sleep(0, len(held)))))

    assert asyncio.run(async_def(green)) >= 4
    print("nothing lost")


if __name__ == "__main__":
    globals()[sys.argv[1]]()
