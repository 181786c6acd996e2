"""A signal that has the process tell what waits in it."""

from __future__ import annotations

import signal
import sys
from types import FrameType

from verdigris.inspect import _report


def install_signal(signum: int = signal.SIGUSR2) -> None:
    """Has a signal print what waits in this process, and where its threads are, to stderr.

    Call it in the main thread. The text comes as soon as the main thread runs Python code, which
    an idle loop does at once. It takes the place of another handler of that signal.

    Args:
        signum: Which signal.

    Raises:
        ValueError: This is not the main thread, or there is no such signal.
    """
    signal.signal(signum, _print)


def _print(signum: int, frame: FrameType | None) -> None:
    stream = sys.stderr or sys.__stderr__
    if stream is not None:
        stream.write(_report.report())
        stream.flush()
