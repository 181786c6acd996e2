"""One peer at one row, in a process of its own: `net_client.py ROW PEER ADDRESS COUNT WORKERS`.

Prints figures as JSON. Started by `net/turns.py`, and under strace by `net/system_calls.py`.
"""

from __future__ import annotations

import sys

from net import peers


class Overlap:
    """Refuses a peer under which the workers connect and work one after another.

    Its figures would say nothing: the servers here answer at once, so that a client which blocks
    its loop at each wait may be the fastest of all. Connections count too, because an answer that
    is there before it is asked for needs no wait. Drivers in C always wait, so that there only the
    work itself counts.
    """

    def __init__(self) -> None:
        self._running: set[int] = set()
        self._most = 0

    def begin(self, worker: int) -> None:
        self._running.add(worker)
        self._most = max(self._most, len(self._running))

    def end(self, worker: int) -> None:
        self._running.remove(worker)

    def check(self, workers: int) -> None:
        if self._most == 1 < workers:
            raise RuntimeError("the workers ran one after another: a wait of one blocks them all")


def counted(function: Callable[..., Any], overlap: Overlap, place: int, *args: Any) -> Any:
    """Calls what a worker does."""
    overlap.begin(place)
    result = function(*args)
    overlap.end(place)
    return result


async def counted_natively(
    function: Callable[..., Any], overlap: Overlap, place: int, *args: Any
) -> Any:
    """Awaits what a worker does."""
    overlap.begin(place)
    result = await function(*args)
    overlap.end(place)
    return result


async def main(peer: peers.Peer, row: Row, work: Work, count: int, workers: int) -> Figures:
    """Opens the connections, and has the work timed."""
    before = memory.read().resident
    overlap = Overlap()
    call = counted_natively if native else counted
    opened: list[Any] = [None] * workers
    if work.open is not None:
        opened = await peer.gather(
            [partial(call, work.open, overlap, place) for place in range(workers)]
        )
    if row.driver is not None:
        overlap = Overlap()
    jobs: list[peers.Job] = [
        partial(
            call, work.run, overlap, place, connection, count // workers + (place < count % workers)
        )
        for place, connection in enumerate(opened)
    ]
    start, cpu_start = perf_counter(), process_time()
    await peer.gather(jobs)
    seconds, cpu_seconds = perf_counter() - start, process_time() - cpu_start
    overlap.check(workers)
    peak = memory.peak()
    return {
        "seconds": seconds,
        "cpu_seconds": cpu_seconds,
        "peak_bytes": peak,
        "more_peak_bytes": peak - before,
    }


if __name__ == "__main__":
    row_name, peer_name, address = sys.argv[1:4]
    # Before anything that it patches is imported.
    peer = peers.load(peer_name)

    import json
    import os
    from collections.abc import Callable
    from functools import partial
    from time import perf_counter, process_time
    from typing import Any

    import memory
    from memory import Figures
    from net import rows
    from net.row import Row, Work

    row, native = rows.ALL[row_name], peer_name == peers.NATIVE
    with peer.patched():
        if not native and row.driver in peer.drivers:
            peer.drivers[row.driver]()
        work = (row.native if native else row.sync)(address)
    count, workers = map(int, sys.argv[4:])
    print(json.dumps(peer.run(main(peer, row, work, count, workers))), flush=True)
    # Nobody asks for the connections any more, and to close them all takes its time.
    os._exit(0)
