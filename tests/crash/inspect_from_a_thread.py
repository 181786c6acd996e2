"""Functions of two loops wait and go on while a thread looks at them, and traces come and go."""

import asyncio
import gc
import os
import random
import tempfile
import threading

from verdigris import async_def, await_, inspect, with_portal_run
from verdigris.green import threading as green_threading
from verdigris.green import time as green_time

over = threading.Event()
lock = green_threading.Lock()


def deep(levels, chance):
    if levels:
        return deep(levels - 1, chance)
    for _ in range(5):
        kind = chance.randrange(5)
        if kind == 0:
            green_time.sleep(chance.random() / 1000)
        elif kind == 1:
            await_(asyncio.sleep(chance.random() / 1000))
        elif kind == 2:
            with lock:
                await_(asyncio.sleep(0))
        elif kind == 3:
            await_(
                async_def(deep, 0, random.Random(chance.random())) if levels else asyncio.sleep(0)
            )
        else:
            gc.collect(0)
    return levels


async def with_a_portal(seed):
    await asyncio.sleep(0)
    deep(seed % 7, random.Random(seed))


async def main():
    for round_ in range(12):
        tasks = [asyncio.create_task(async_def(deep, n % 30, random.Random(n))) for n in range(60)]
        tasks += [asyncio.create_task(with_portal_run(with_a_portal, n)) for n in range(20)]
        for task in tasks[:: 7 + round_]:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def looks():
    seen = 0
    while not over.is_set():
        for found in inspect.suspended():
            assert found.stack and found.waits_for
            seen += 1
        inspect.enable() if seen % 2 else inspect.disable()
    print("seen", seen > 0)


def traces():
    path = os.path.join(tempfile.mkdtemp(), "trace.json")
    while not over.is_set():
        with inspect.trace(path):
            over.wait(0.01)


def left_behind():
    """A function that waits on a thread that ends."""
    coroutine = async_def(waits_by_hand)
    coroutine.send(None)
    kept.append(coroutine)


class Once:
    def __await__(self):
        yield


def waits_by_hand():
    await_(Once())


kept = []
thread = threading.Thread(target=left_behind)
thread.start()
thread.join()
(found,) = [each for each in inspect.suspended() if each.name == "waits_by_hand"]
print("thread", found.thread, [frame.name for frame in found.stack])

threads = [threading.Thread(target=looks), threading.Thread(target=traces)]
other = threading.Thread(target=lambda: asyncio.run(main()))
for thread in [*threads, other]:
    thread.start()
asyncio.run(main())
other.join()
over.set()
for thread in threads:
    thread.join()
print("over", flush=True)
os._exit(0)  # what was left behind can't be ended
