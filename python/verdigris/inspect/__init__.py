"""What runs and what waits in this process: stacks, words and a timeline.

- :func:`suspended` lists every green function that waits, with its whole stack, what it waits for,
  its task and its thread; :func:`format_suspended` and :func:`print_suspended` put that into text;
- :func:`enable` has it known since when they wait;
- :func:`listen` and :func:`install_signal` let it be asked from outside (`python -m verdigris ps`);
- :class:`trace` writes a timeline that Perfetto and chrome://tracing open.

Loaded when it is first asked for: a program that does not pays nothing.
"""

from verdigris.inspect._listen import listen as listen
from verdigris.inspect._report import format_suspended as format_suspended
from verdigris.inspect._report import print_suspended as print_suspended
from verdigris.inspect._signal import install_signal as install_signal
from verdigris.inspect._suspended import Suspended as Suspended
from verdigris.inspect._suspended import suspended as suspended
from verdigris.inspect._trace import trace as trace
from verdigris.inspect._watching import disable as disable
from verdigris.inspect._watching import enable as enable

__all__ = [
    "Suspended",
    "disable",
    "enable",
    "format_suspended",
    "install_signal",
    "listen",
    "print_suspended",
    "suspended",
    "trace",
]
