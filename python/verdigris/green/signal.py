"""`signal`, green: what it says to one thread, where green threads share one of the system.

`pthread_sigmask` in a green thread would block signals for the whole loop, and for every process
started from then on (`multiprocessing` does so in a thread of its own). A green thread has a mask
that it can set and ask for; the signals come as before. `pthread_kill` finds the OS thread of a
green function: the system would take the number for the address of a thread.
"""

from __future__ import annotations

import errno as _errno
import os as _os
import signal as _original
from collections.abc import Iterable
from operator import index as _index
from typing import Any

from verdigris.green import _thread, _twin

_stdlib_kill: Any = getattr(_original, "pthread_kill", None)
_stdlib_mask: Any = getattr(_original, "pthread_sigmask", None)


def pthread_kill(thread_id: int, signalnum: int, /) -> None:
    """`signal.pthread_kill`.

    Raises:
        ProcessLookupError: No thread and no function with this identity runs.
    """
    _stdlib_kill(_thread.os_ident(thread_id), signalnum)


def pthread_sigmask(how: int, mask: Iterable[int]) -> set[Any]:
    """`signal.pthread_sigmask`. In a green thread nothing is blocked."""
    thread = _thread.green_thread()
    if thread is None:
        before: set[Any] = _stdlib_mask(how, mask)
        return before
    if thread.blocked_signals is None:
        thread.blocked_signals = frozenset(_stdlib_mask(_original.SIG_BLOCK, ()))
    before = set(thread.blocked_signals)
    chosen = {_number(signal) for signal in mask}
    how = _index(how)
    if how == _original.SIG_BLOCK:
        chosen |= before
    elif how == _original.SIG_UNBLOCK:
        chosen = before - chosen
    elif how != _original.SIG_SETMASK:
        raise OSError(_errno.EINVAL, _os.strerror(_errno.EINVAL))
    # As the members of `Signals`, where there are such, and without what can't be blocked.
    unblockable = {_original.SIGKILL, _original.SIGSTOP}
    valid: dict[int, Any] = {signal: signal for signal in _original.valid_signals()}
    thread.blocked_signals = frozenset(valid.get(one, one) for one in chosen - unblockable)
    return before


def _number(signal: Any) -> int:
    number = _index(signal)
    if not 0 < number < _original.NSIG:
        raise ValueError(f"signal number {number} out of range [1; {_original.NSIG - 1}]")
    return number


REPLACED: dict[str, Any] = {
    name: green
    for name, green in {"pthread_kill": pthread_kill, "pthread_sigmask": pthread_sigmask}.items()
    if hasattr(_original, name)
}

_twin.make(globals(), _original, REPLACED)
