"""Functions of OS threads, bound when verdigris is imported.

They stay the originals when the modules are patched: `patch_all` is of verdigris, so it comes
later. For what must stay a thread where the program's threads are green.
"""

from _thread import allocate_lock as allocate_lock
from _thread import get_ident as get_ident
from _thread import get_native_id as get_native_id
from _thread import start_new_thread as start_new_thread
from time import monotonic as monotonic
from time import perf_counter_ns as perf_counter_ns
