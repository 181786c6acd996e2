"""The workers of a pool, and what they share with it.

    start ──> queue ──> a worker that is awake takes the oldest
      │
      └─────> idle: the locks that workers sleep on, the last to lie down on top

Work is queued, and then the worker on top of `idle` is woken; if there is none, perhaps one is
added. The last who lay down is the first to be woken, so that those below sleep long enough to
end. What must not be missed:

- *Work that comes while a worker lies down.* The one who queues work looks for a sleeper
  afterwards; the worker looks for work after it has put its lock on `idle`. One of the two sees the
  other.
- *Work that comes while a worker ends.* The same, with the count of workers.
- *A wake-up.* Who takes a lock off `idle` releases it, once, and nobody else does. A worker that
  can't take its own lock off again has been woken, and waits for the release.

None of this needs a lock of ours, since `append`, `pop` and `remove` are single steps under the
GIL. So work can be queued in a finalizer or a signal handler, whatever it interrupted. The counts
are guarded by a lock that its owner can take again, for the same reason.

Workers know the crew and not the pool, so that a pool that nobody knows goes, and its workers end
when the queue is empty.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from time import monotonic, process_time
from typing import Any

from verdigris.worlds._growth import Growth, usable_cpus
from verdigris.worlds._os_thread import (
    OSThread,
    allocate_lock,
    get_ident,
    local,
    make_guard,
    report_exception,
)

Work = Callable[[], object]


class _Here(local):  # type: ignore[misc, valid-type]
    """What a thread has. The stdlib's own, whatever is patched: it is about OS threads."""

    #: The crew that it is a worker of. (A class's attribute: a default for `getattr` costs 0.5 us.)
    crew: Crew | None = None


_here = _Here()

# Crews that have workers: the interpreter's exit waits for them.
_crews: set[Crew] = set()
_exits = False


class Crew:
    """The workers and the queue of one pool."""

    __slots__ = (
        "alive", "blocked", "closed", "ended", "guard", "idle", "idle_seconds", "maximum", "name",
        "queue", "quick", "started", "threads", "watched", "workers",
    )  # fmt: skip

    def __init__(self, name: str, maximum: int, idle_seconds: float) -> None:
        """Makes a crew without workers.

        Args:
            name: The beginning of the threads' names.
            maximum: How many workers there are at most.
            idle_seconds: How long a worker waits for work before it ends.
        """
        self.name = name
        self.maximum = maximum
        self.idle_seconds = idle_seconds
        #: That many are added without a look at the CPU, when work finds no idle one.
        self.quick = min(32, usable_cpus() + 4, maximum)
        self.queue: deque[Work] = deque()
        self.idle: list[Any] = []
        #: Guards the counts, and nothing else.
        self.guard = make_guard()
        #: Workers, with those that are just being started.
        self.workers = 0
        #: Those whose thread did start.
        self.alive = 0
        self.started = self.ended = 0
        #: Workers that wait for other calls. They don't count to the limit: what they wait for may
        #: be queued here.
        self.blocked = 0
        self.threads: set[OSThread] = set()
        self.watched = False
        #: No work is taken any more.
        self.closed = False

    @property
    def limit(self) -> int:
        """How many workers there may be now."""
        return self.maximum + self.blocked

    def check_open(self) -> None:
        """Raises an error if no work is taken any more.

        Raises:
            RuntimeError: The pool was shut down, or the interpreter exits.
        """
        if self.closed and not _exits:
            raise RuntimeError(
                "the thread pool was shut down and takes no more calls: make another ThreadPool, "
                "or shut this one down later."
            )
        if _exits:
            raise RuntimeError(
                "the interpreter exits, and thread pools take no more calls: wait for what makes "
                "them before the main program ends."
            )

    def start(self, work: Work) -> None:
        """Queues work, and sees to it that somebody does it."""
        if self.closed or _exits:
            self.check_open()
        self.queue.append(work)
        if self.idle:
            try:
                wake = self.idle.pop()
            except IndexError:  # somebody was faster
                self._want_worker(work)
            else:
                wake.release()
        elif self.workers < self.quick or (not self.watched and self.workers < self.limit):
            self._want_worker(work)

    def start_now(self, work: Work) -> bool:
        """Has work begin at once, in an idle worker or a new one. Or tells that none is to be had.

        Raises:
            RuntimeError: There could be a worker, but the system has no thread for it.
        """
        self.check_open()
        try:
            wake = self.idle.pop()
        except IndexError:
            # It begins with that work: others wait longer, but may be waiting for a free CPU.
            return self._add_worker(work)
        # In front of what waits: each of that has woken a worker too.
        self.queue.appendleft(work)
        wake.release()
        return True

    def do_although_closed(self, work: Work) -> None:
        """Queues work that was taken out of the queue."""
        self.queue.append(work)
        if self.workers < self.quick:
            self._want_worker(work)

    def close(self) -> None:
        """Takes no more work. Workers end when the queue is empty. Does not wait for them."""
        self.closed = True
        while self.idle:
            try:
                self.idle.pop().release()
            except IndexError:
                return

    def join(self) -> None:
        """Waits for the end of all workers, other than the one that calls this."""
        me = get_ident()
        # Those that end take themselves away, and those that still begin may add others.
        while others := [thread for thread in list(self.threads) if thread.ident != me]:
            for thread in others:
                thread.join()

    def drain(self) -> list[Work]:
        """Takes everything out of the queue."""
        drained: list[Work] = []
        while self.queue:
            try:
                drained.append(self.queue.popleft())
            except IndexError:
                break
        return drained

    def left_behind_by_fork(self) -> Crew:
        """In the child of a fork: gives the crew that takes this one's place.

        The workers are the parent's, but for one that has itself forked. It ends with its work.
        """
        new = Crew(self.name, self.maximum, self.idle_seconds)
        new.closed = self.closed
        self.guard = make_guard()
        self.closed = True
        self.queue.clear()
        self.idle.clear()
        return new

    # --- workers begin and end ---

    def _want_worker(self, work: Work) -> None:
        """Called when queued work has found nobody idle."""
        if self.workers >= self.quick:
            self._begin_watch()
            return
        try:
            self._add_worker()
        except RuntimeError:
            if self.alive:
                return  # they will do it
            try:
                self.queue.remove(work)
            except ValueError:
                return  # somebody has taken it
            raise

    def _add_worker(self, first: Work | None = None) -> bool:
        with self.guard:
            if self.workers >= self.limit:
                return False
            self.workers += 1
            self.started += 1
            number = self.started
            _crews.add(self)
        thread = OSThread(f"{self.name}_{number}")
        self.threads.add(thread)
        try:
            thread.start(_be_worker, self, thread, first)
        except BaseException:
            self.threads.discard(thread)
            with self.guard:
                self.started -= 1
                self._one_less()
            raise
        with self.guard:
            self.alive += 1
        return True

    def _one_less(self) -> None:
        self.workers -= 1
        if not self.workers:
            _crews.discard(self)

    def _lie_down(self, wake: Any) -> bool:
        """A worker waits for work. Tells whether it shall look for some."""
        self.idle.append(wake)
        if not self.queue and not self.closed and wake.acquire(True, self.idle_seconds):
            return True
        try:
            self.idle.remove(wake)
        except ValueError:
            wake.acquire()
            return True
        return bool(self.queue)

    def _may_end(self) -> bool:
        """A worker wants to end. Tells whether it may, or work has come."""
        with self.guard:
            self._one_less()
            self.alive -= 1
            self.ended += 1
        if self.queue:
            with self.guard:
                if self.workers < self.limit:
                    self.workers += 1
                    self.alive += 1
                    self.ended -= 1
                    _crews.add(self)
                    return False
        return True

    def __enter__(self) -> None:
        """A worker begins to wait for other calls."""
        with self.guard:
            self.blocked += 1
        if self.queue:
            self._begin_watch()

    def __exit__(self, *error: object) -> None:
        """It goes on. Workers above the limit end when they have nothing to do."""
        with self.guard:
            self.blocked -= 1

    # --- the watch ---

    def _begin_watch(self) -> None:
        with self.guard:
            if self.watched or self.workers >= self.limit:
                return
            self.watched = True
        try:
            OSThread(f"{self.name}_growth").start(self._watch)
        except RuntimeError:
            self.watched = False  # the next one who queues work tries again

    def _watch(self) -> None:
        """Adds workers while work waits: see `_growth`. Runs in a thread of its own."""
        growth = Growth()
        never = allocate_lock()
        never.acquire()
        while True:
            began, cpu = monotonic(), process_time()
            never.acquire(True, growth.pause)
            elapsed, cpu = monotonic() - began, process_time() - cpu
            try:
                head = id(self.queue[0])
            except IndexError:
                head = 0
            if not head or self.workers >= self.limit:
                self.watched = False
                if not self.queue or self.workers >= self.limit:
                    return
                # Work came just now, and who brought it may have seen a watch.
                with self.guard:
                    if self.watched:
                        return
                    self.watched = True
            elif not self.idle:
                self._grow(growth.look(elapsed, cpu, self.workers, head))

    def _grow(self, number: int) -> None:
        for _ in range(min(number, len(self.queue))):
            try:
                if not self._add_worker():
                    return
            except RuntimeError:
                return  # the system has no more threads for us; there are workers


def of_this_worker() -> Crew | None:
    """Gives the crew of the caller's thread, if it is a worker of one.

    In a `with` block of it the worker waits for other calls, which its pool may have queued.
    """
    return _here.crew


def _be_worker(crew: Crew, thread: OSThread, work: Work | None) -> None:
    _here.crew = crew
    wake = allocate_lock()
    wake.acquire()
    take = crew.queue.popleft
    if work is not None:
        _do(work)
        work = None
    while True:
        try:
            work = take()
        except IndexError:
            if not crew._lie_down(wake) and crew._may_end():
                break
            continue
        try:
            work()
        except BaseException:
            report_exception()
        work = None  # not kept while the worker sleeps
    crew.threads.discard(thread)


def _do(work: Work) -> None:
    try:
        work()
    except BaseException:
        report_exception()


def _exit() -> None:
    """Called when the main thread is over: waits for queued and running work."""
    global _exits
    _exits = True
    while _crews:
        for crew in list(_crews):
            crew.close()
            crew.join()


try:
    # The stdlib's pools use it too. `atexit` comes too late: after daemon threads may have stopped.
    threading._register_atexit(_exit)  # type: ignore[attr-defined]
except RuntimeError:  # it exits already
    _exits = True
