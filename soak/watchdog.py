"""A lost wake-up shows as a hang: this tells where all stand, and ends the process."""

from __future__ import annotations

import faulthandler
import os
import sys
import threading
import time
from collections.abc import Callable

#: The code of a process that hung.
HUNG = 4


class Watchdog:
    """Ends the process when nothing was told for some seconds.

    A thread does, which can say what was going on. Where the interpreter itself stands still,
    faulthandler's own does, half as long again later.
    """

    def __init__(self, seconds: float, tell: Callable[[], str]) -> None:
        self.seconds = seconds
        self.tell = tell
        self.last = time.monotonic()
        self.native_armed = 0.0
        threading.Thread(target=self.watch, daemon=True).start()

    def alive(self) -> None:
        """Something has ended: the time begins anew."""
        self.last = time.monotonic()
        if self.last - self.native_armed > 1:
            self.native_armed = self.last
            faulthandler.dump_traceback_later(self.seconds * 1.5, exit=True)

    def watch(self) -> None:
        while True:
            time.sleep(self.seconds / 10)
            if time.monotonic() - self.last > self.seconds:
                print(f"soak: nothing has ended for {self.seconds} seconds", file=sys.stderr)
                print(self.tell(), file=sys.stderr)
                faulthandler.dump_traceback(all_threads=True)
                sys.stderr.flush()
                os._exit(HUNG)
