"""Asking a process that does not listen, from CPython 3.14 on: by `sys.remote_exec`.

The main thread of the other process runs a script of ours when it next runs Python code. An idle
loop sleeps in the kernel; it is woken by stopping it for an instant, as a debugger does.
"""

from __future__ import annotations

import ctypes
import os
import sys
import tempfile
import time
from pathlib import Path

from verdigris.inspect import _meeting_place

# In names of its own: it runs in the other's __main__.
_SCRIPT = """\
exec(
    '''
import os, sys
if "verdigris" in sys.modules:
    try:
        from verdigris.inspect._report import report
        text = report()
    except Exception as error:
        text = f"The report failed: {{error!r}}\\\\n"
else:
    text = "verdigris is not imported there.\\\\n"
with open(path + ".part", "x", encoding="utf-8", errors="backslashreplace") as file:
    file.write(text)
os.rename(path + ".part", path)
''',
    {{"path": {path!r}}},
)
"""

_PTRACE_SEIZE, _PTRACE_INTERRUPT, _PTRACE_DETACH, _WALL = 0x4206, 0x4207, 17, 0x40000000


def ask(pid: int, timeout: float) -> str:
    """Asks a process, and waits for its answer.

    Raises:
        OSError: It can't be reached.
        RuntimeError: It is not of this version of CPython, or does not let itself be asked.
        TimeoutError: It has not answered.
    """
    with tempfile.TemporaryDirectory(dir=_meeting_place.directory()) as directory:
        answer = Path(directory, "answer")
        script = Path(directory, "script.py")
        script.write_text(_SCRIPT.format(path=str(answer)), encoding="utf-8")
        sys.remote_exec(pid, str(script))  # type: ignore[attr-defined,unused-ignore]
        end = time.monotonic() + timeout
        # One that is busy answers in a moment.
        wake_at = time.monotonic() + 0.2
        while not answer.exists():
            now = time.monotonic()
            if now > end:
                # The script must not be found when it is too late.
                raise TimeoutError
            if now > wake_at:
                wake_at = end
                _wake(pid)
            time.sleep(0.01)
        return answer.read_text(encoding="utf-8")


def _wake(pid: int) -> None:
    """Has the main thread return from a wait in the kernel. Its parent sees nothing of it."""
    if sys.platform != "linux":
        return
    ptrace = ctypes.CDLL(None, use_errno=True).ptrace
    ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
    ptrace.restype = ctypes.c_long
    if ptrace(_PTRACE_SEIZE, pid, None, None) != 0:
        return
    try:
        if ptrace(_PTRACE_INTERRUPT, pid, None, None) == 0:
            os.waitpid(pid, _WALL)
    finally:
        ptrace(_PTRACE_DETACH, pid, None, None)
