"""`time`, green: `sleep`, and the clock of a thread."""

import time as _original
from typing import Any

from verdigris.green import _thread, _twin, _wait

_stdlib_clock: Any = getattr(_original, "pthread_getcpuclockid", None)


def pthread_getcpuclockid(thread_id: int, /) -> int:
    """`time.pthread_getcpuclockid`: of a green thread or function it is its OS thread's.

    Raises:
        ProcessLookupError: No thread and no function with this identity runs.
    """
    clock: int = _stdlib_clock(_thread.os_ident(thread_id))
    return clock


REPLACED: dict[str, Any] = {"sleep": _wait.sleep}
if _stdlib_clock is not None:
    REPLACED["pthread_getcpuclockid"] = pthread_getcpuclockid

_twin.make(globals(), _original, REPLACED)
