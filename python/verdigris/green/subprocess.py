"""`subprocess`, green: `Popen` waits for its child and for its pipes.

`run`, `call`, `check_output`, `communicate` and the others are the stdlib's over it. The files of
the pipes cooperate where they are read, wherever the child was started.
"""

from __future__ import annotations

import _thread
import functools
import os as _os
import subprocess as _original
from typing import Any

from verdigris.green import _children, _pipes, _twin, _wait

# They must be there before the twin is made: its `Popen._communicate` uses them by name.
from verdigris.green import os as _green_os
from verdigris.green import selectors as _green_selectors
from verdigris.green import time as _green_time

_NEEDED = (_green_os, _green_selectors, _green_time)

_WNOHANG = _os.WNOHANG
_start_thread = _thread.start_new_thread
_init = _original.Popen.__init__
_exit = _original.Popen.__exit__
_wait_straight: Any = _original.Popen._wait  # type: ignore[attr-defined]


@functools.wraps(_init)
def _start(self: Any, *args: Any, **kwargs: Any) -> None:
    try:
        _init(self, *args, **kwargs)
    except Exception:
        raise
    except BaseException:
        # Cancelled while the child was on the way to its program: nobody has a handle to it.
        if _wait.is_green() and self._child_created and self.returncode is None:
            self.kill()
            _reap_elsewhere(self)
        raise
    bufsize = args[1] if len(args) > 1 else kwargs.get("bufsize", -1)
    for name in ("stdin", "stdout", "stderr"):
        file = getattr(self, name)
        if file is not None:
            setattr(self, name, _pipes.cooperative(file, -1 if bufsize is None else bufsize))


def _wait_for_exit(self: Any, timeout: float | None) -> Any:
    """`Popen._wait`. It asks as the stdlib's does when there is a timeout, so the lock is never
    held while it waits."""
    if self.returncode is not None or not _wait.is_green():
        return _wait_straight(self, timeout)

    def attempt() -> Any:
        if self._waitpid_lock.acquire(False):
            try:
                if self.returncode is None:
                    pid, status = self._try_wait(_WNOHANG)
                    if pid == self.pid:
                        self._handle_exitstatus(status)
            finally:
                self._waitpid_lock.release()
        return self.returncode

    code = _children.until(attempt, self.pid, timeout)
    if code is None:
        assert timeout is not None
        raise _original.TimeoutExpired(self.args, timeout)
    return code


def _leave(self: Any, exc_type: Any, value: Any, traceback: Any) -> None:
    try:
        _exit(self, exc_type, value, traceback)
    except Exception:
        raise
    except BaseException:
        # In a cancelled scope of Trio's every wait is cancelled, this one too. `run` has killed
        # its child then, which must not be left a zombie.
        if _wait.is_green() and self.returncode is None:
            _reap_elsewhere(self)
        raise


def _reap_elsewhere(popen: Any) -> None:
    _start_thread(_wait_straight, (popen, None))


REPLACED: dict[str, Any] = {}

METHODS: dict[str, dict[str, Any]] = {
    "Popen": {"__init__": _start, "__exit__": _leave, "_wait": _wait_for_exit}
}

_twin.make(globals(), _original, REPLACED, METHODS)
