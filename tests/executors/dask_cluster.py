"""A Dask cluster: a scheduler and workers, each a process of its own on loopback."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator

from server_processes import free_port, listening, running

from executors.kinds import TESTS

# Quiet, without dashboards, and without a search for graphics cards.
SETTINGS = {
    "DASK_DISTRIBUTED__DIAGNOSTICS__NVML": "false",
    "DASK_DISTRIBUTED__LOGGING__DISTRIBUTED": "critical",
    "DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": "1",
    # What wants a worker that is gone gives up soon.
    "DASK_DISTRIBUTED__COMM__TIMEOUTS__CONNECT": "5s",
}


@contextlib.contextmanager
def cluster(workers: int) -> Iterator[str]:
    """Runs one in the block, and gives the address of its scheduler."""
    port = free_port()
    address = f"tcp://127.0.0.1:{port}"
    path = os.pathsep.join([TESTS, *filter(None, sys.path)])
    environment = {**os.environ, **SETTINGS, "PYTHONPATH": path}
    scheduler = [
        *(sys.executable, "-m", "distributed.cli.dask_scheduler"),
        *("--host", "127.0.0.1", "--port", str(port), "--no-dashboard", "--no-show"),
        *("--dashboard-address", "127.0.0.1:0"),  # its server runs without one too
    ]
    worker = [
        *(sys.executable, "-m", "distributed.cli.dask_worker", address),
        *("--no-nanny", "--nthreads", "1", "--no-dashboard", "--host", "127.0.0.1"),
        *("--dashboard-address", "127.0.0.1:0"),
    ]
    with contextlib.ExitStack() as stack:
        stack.enter_context(running(scheduler, listening(port), env=environment))
        for _ in range(workers):
            port = free_port()
            one = [*worker, "--worker-port", str(port)]
            stack.enter_context(running(one, listening(port), env=environment))
        yield address
