"""Green threads, and what they share: locks, queues, events, conditions."""

from __future__ import annotations

from typing import Any

from program import Node

from operations.operation import Operation
from verdigris import await_, spawn
from verdigris.green import queue, threading


class StartsThreads(Operation):
    """Runs in a function that is started for it.

    What a coroutine calls, or a task with a portal, starts OS threads, which can't wait.
    """

    def run(self, node: Node, world: Any) -> int:
        return spawn(self.start, node, world).join()

    def start(self, node: Node, world: Any) -> int:
        raise NotImplementedError


class GreenThread(StartsThreads):
    name = "green thread"
    weight = 0.5
    blocks = 1

    def expect(self, node: Node, model: Any) -> int:
        # A thread begins with an empty context.
        model.trail.append(model.task(level=0).outcome(node.blocks[0]))
        return 0

    def start(self, node: Node, world: Any) -> int:
        child = world.task()
        seen: list[Any] = []

        def body() -> None:
            seen.append(child.outcome(node.blocks[0]))

        thread = threading.Thread(target=body)
        thread.start()
        thread.join()
        world.trail.extend(seen)
        return 0


class Queue(StartsThreads):
    """One puts, another gets, with less room than there are items."""

    name = "queue"
    weight = 0.5

    def expect(self, node: Node, model: Any) -> int:
        model.trail.append(list(range(node.tag % 10)))
        return 0

    def start(self, node: Node, world: Any) -> int:
        items: Any = queue.Queue(maxsize=1 + node.tag % 3)

        def produce() -> None:
            for number in range(node.tag % 10):
                items.put(number)
                if number % 3 == 0:
                    await_(world.loop.checkpoint(0))
            items.put(None)

        thread = threading.Thread(target=produce)
        thread.start()
        world.trail.append(list(iter(items.get, None)))
        thread.join()
        return 0


class Lock(StartsThreads):
    """Some count under one lock, with a wait between reading and writing."""

    name = "lock"
    weight = 0.5

    def expect(self, node: Node, model: Any) -> int:
        return 3 * (1 + node.tag % 4)

    def start(self, node: Node, world: Any) -> int:
        lock = threading.RLock() if node.tag % 2 else threading.Lock()
        count = 0

        def body() -> None:
            nonlocal count
            for _ in range(1 + node.tag % 4):
                with lock:
                    before = count
                    await_(world.loop.checkpoint(0))
                    count = before + 1

        threads = [threading.Thread(target=body) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return count


class HeldLock(Operation):
    """A block under a lock; who is cancelled in it lets it go."""

    name = "held lock"
    weight = 0.5
    blocks = 1
    cancellable = True

    def expect(self, node: Node, model: Any) -> int:
        model.trail.append(("begin", node.tag))
        try:
            return model.block(node.blocks[0])
        finally:
            model.trail.append(("end", node.tag))

    def run(self, node: Node, world: Any) -> int:
        lock = threading.Lock()
        world.trail.append(("begin", node.tag))
        try:
            with lock:
                return world.block(node.blocks[0])
        finally:
            if not lock.locked():
                world.trail.append(("end", node.tag))


class Meet(StartsThreads):
    """Threads that wait for one another: a barrier, an event, a condition, a semaphore."""

    name = "meet"
    weight = 0.3

    def expect(self, node: Node, model: Any) -> int:
        model.trail.append(["begun", "met", "told"])
        return 3

    def start(self, node: Node, world: Any) -> int:
        barrier, event = threading.Barrier(2), threading.Event()
        condition, semaphore = threading.Condition(), threading.Semaphore(0)
        said: list[str] = []

        def other() -> None:
            said.append("begun")
            barrier.wait()
            event.wait()
            with condition:
                said.append("told")
                condition.notify()
            for _ in range(3):
                semaphore.release()

        thread = threading.Thread(target=other)
        thread.start()
        barrier.wait()
        said.append("met")
        event.set()
        with condition:
            assert condition.wait_for(lambda: "told" in said, timeout=60)
        taken = sum(semaphore.acquire(timeout=60) for _ in range(3))
        thread.join()
        world.trail.append(said)
        return taken


class LockTimeout(Operation):
    name = "lock with timeout"
    weight = 0.2
    cancellable = True

    def expect(self, node: Node, model: Any) -> int:
        model.trail.append(False)
        return 0

    def run(self, node: Node, world: Any) -> int:
        lock = threading.Lock()
        lock.acquire()
        world.trail.append(lock.acquire(timeout=0.0005))
        return 0


OPERATIONS = [GreenThread, Queue, Lock, HeldLock, Meet, LockTimeout]
