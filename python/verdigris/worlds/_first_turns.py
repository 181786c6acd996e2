"""The first turns of an asyncio loop for a task that may end in them, without the loop around.

Starting and stopping a loop takes three times as long as a task that waits for nothing, most of it
for looking after files and timers of which there are none. So where a loop has nothing else to do,
its first turns are done here: the same callbacks in the same order, in a loop that says it runs. A
task that has not ended then goes on in the loop itself.

This uses parts of asyncio's loop that are not public. It is done with CPython's own loop for
selectors only, on versions where the tests have run, and only if all of these parts are there.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from typing import Any

from verdigris.worlds._os_thread import get_ident

# A task that waits for one step of the loop ends in the second turn. What takes more turns most
# likely waits for a file or a timer.
TURNS = 3

_NEEDED = (
    "_asyncgen_finalizer_hook",
    "_asyncgen_firstiter_hook",
    "_debug",
    "_ready",
    "_scheduled",
    "_selector",
    "_stopping",
    "_thread_id",
)


def of(loop: Any) -> Callable[[asyncio.Task[Any]], bool]:
    """Gives what does the first turns of a loop that does not run.

    Args:
        loop: The loop.

    Returns:
        A function to be called with a task that was just made, in the loop's thread. It tells
        whether the task has ended; if not it is to be waited for in the loop, as always. It does
        nothing if the loop has anything else to do.
    """
    is_known = sys.version_info < (3, 16) and type(loop) is asyncio.SelectorEventLoop
    if not is_known or not all(hasattr(loop, name) for name in _NEEDED):
        return _do_nothing
    ready, scheduled, selector = loop._ready, loop._scheduled, loop._selector
    hooks = loop._asyncgen_firstiter_hook, loop._asyncgen_finalizer_hook
    set_running_loop = asyncio._set_running_loop

    def do_turn() -> None:
        for _ in range(len(ready)):
            handle = ready.popleft()
            if not handle._cancelled:
                handle._run()

    def do_first_turns(task: asyncio.Task[Any]) -> bool:
        # Its own start is all there is, and the one file is that by which threads wake the loop.
        if len(ready) != 1 or scheduled or len(selector.get_map()) != 1 or loop._debug:
            return False
        hooks_before = sys.get_asyncgen_hooks()
        loop._thread_id = get_ident()
        try:
            sys.set_asyncgen_hooks(*hooks)
            set_running_loop(loop)
            for _ in range(TURNS):
                do_turn()
                if task.done():
                    # The loop would be told in the next turn.
                    if ready:
                        do_turn()
                    break
                if not ready or loop._stopping:
                    break
            # The loop's own end of a run takes back that it is to stop.
            return task.done() and not loop._stopping
        finally:
            set_running_loop(None)
            loop._thread_id = None
            sys.set_asyncgen_hooks(*hooks_before)

    return do_first_turns


def _do_nothing(task: asyncio.Task[Any]) -> bool:
    return False
