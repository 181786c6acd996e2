"""When a pool adds a worker.

More workers help where those that there are wait, and hurt where they compute: Python code of all
threads together gets one CPU, by the GIL. So while work waits in a pool a thread of its own, the
watch, sleeps for a moment, and looks at two things that tell whether CPU is free:

- **How late it is.** It needs the GIL to go on. Where a thread computes in Python, it gets that
  when the switch interval is over (`sys.getswitchinterval`, 5 ms), and later where several do.
  This also tells when other processes have the CPUs: the one that has the GIL does not run then,
  and the share below is low.
- **The share**: how much CPU time the process took, in CPUs. C code that has released the GIL takes
  up to all of them, and makes nobody late. Python code in short pieces, between calls that release
  the GIL, takes about one CPU, and often lets the watch in at once.

A pool that waits in vain, because the program computes elsewhere and its workers wait for work that
is queued, gets a worker all the same when nothing has moved for a second, the next after two more,
then four: enough to get on, and too few to matter where they can't help.
"""

from __future__ import annotations

import os
import sys

#: The pause before a look, in seconds. It doubles where CPU is not free: a look costs the one who
#: computes a switch of threads.
FIRST, LONGEST = 0.001, 0.032
#: In CPUs: below this, Python code does not take the one that it can have.
SOME = 0.75
#: As a part of all CPUs: above this, C code leaves none.
ALL = 0.9
#: That many looks in a row must find CPU free before workers are added. One alone often falls into
#: the time in which a thread that will compute wakes up.
FREE = 2
#: That many looks in a row must find the GIL free where the share says that Python code may run.
CALM = 5
#: Seconds for which nothing must have moved before a worker is added that may be useless.
STALLED = 1.0


class Growth:
    """Decides, look by look, how many workers are added. One for each watch."""

    def __init__(self, cpus: int | None = None) -> None:
        """Begins.

        Args:
            cpus: How many CPUs the process may use; None for what the system says.
        """
        #: How long to sleep before the next look.
        self.pause = FIRST
        self._cpus = usable_cpus() if cpus is None else cpus
        # What it takes to get the GIL from one who computes, less what a timer may be off.
        self._late = max(sys.getswitchinterval() / 2, 0.0005)
        self._calm = self._free = 0
        self._head: int | None = None
        self._stalled = 0.0
        self._patience = STALLED

    def look(self, elapsed: float, cpu: float, workers: int, head: int) -> int:
        """Says how many workers to add.

        Args:
            elapsed: Seconds that the pause took.
            cpu: The CPU time that the process took meanwhile.
            workers: How many there are.
            head: What tells the work that has waited longest from other work.

        Returns:
            The number: as many again as there are where CPU is free, so that a thousand are there
            in a few looks; one where it may be, or where a stalled pool is to get on; or 0.
        """
        # The elapsed time may be 0 on a coarse clock. Then nothing is known.
        share = cpu / elapsed if elapsed > 0 else float(self._cpus)
        late = elapsed - self.pause > self._late
        added = 0
        if late or share > ALL * self._cpus:
            self._calm = self._free = 0
        elif share < SOME:
            self._free = (self._free + 1) % FREE
            added = 0 if self._free else workers
        else:
            self._free = 0
            self._calm = (self._calm + 1) % CALM
            added = 0 if self._calm else 1
        self.pause = FIRST if added or self._free else min(self.pause * 2, LONGEST)
        return added or self._after_a_stall(elapsed, head)

    def _after_a_stall(self, elapsed: float, head: int) -> int:
        if head != self._head:
            self._head, self._stalled, self._patience = head, 0.0, STALLED
        self._stalled += elapsed
        if self._stalled < self._patience:
            return 0
        self._stalled = 0.0
        self._patience *= 2
        return 1


def usable_cpus() -> int:
    """How many CPUs this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0)) or 1
    return os.cpu_count() or 1
