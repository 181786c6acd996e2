"""Keeps the green modules whole while the interpreter ends.

At its end the interpreter sets the globals of all modules that it knows, and that are still alive,
to None. What finalizers call after that works only if it is written in C, as most of what the green
functions stand for: `os.close`, `select.poll`, `threading.local`. So before, a copy of each module
takes its place in `sys.modules`, and the interpreter clears that.
"""

from __future__ import annotations

import atexit
import sys
from types import ModuleType


@atexit.register
def _hand_in_copies() -> None:
    loaded: list[tuple[str, object]] = list(sys.modules.items())  # anything may be in there
    for name, module in loaded:
        if isinstance(module, ModuleType) and name.partition(".")[0] == "verdigris":
            copy = ModuleType(name)
            copy.__dict__.update(module.__dict__)
            sys.modules[name] = copy
