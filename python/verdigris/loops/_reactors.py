"""Which reactor belongs to which loop.

The engine asks here when it does not know the loop that runs. One reactor is made for each loop of
asyncio, and for each run of Trio; it lives as long as that.
"""

from __future__ import annotations

import os
import sys
import weakref
from typing import Any

from verdigris import _engine

# By loop, or by Trio's token.
_reactors: weakref.WeakKeyDictionary[Any, _engine.Reactor] = weakref.WeakKeyDictionary()


def _find() -> _engine.Reactor | None:
    trio = sys.modules.get("trio")
    if trio is not None and trio.lowlevel.in_trio_task():
        token = trio.lowlevel.current_trio_token()
        found = _reactors.get(token)
        if found is None:
            from verdigris.loops._trio_reactor import TrioBackend

            found = _reactors[token] = TrioBackend(token).reactor
        return found
    asyncio = sys.modules.get("asyncio")
    loop = None if asyncio is None else asyncio._get_running_loop()
    if loop is None:
        return None
    found = _reactors.get(loop)
    if found is None:
        from verdigris.loops._asyncio_reactor import AsyncioBackend

        try:
            found = AsyncioBackend(loop).reactor
        except NotImplementedError:
            # A loop that can't watch descriptors, such as one made for a test.
            return None
        _reactors[loop] = found
    return found


def of_running_loop() -> _engine.Reactor | None:
    """The reactor of the loop that runs here, or None."""
    return _find()


_engine._register_reactor_finder(_find)
os.register_at_fork(after_in_child=_engine._after_fork)
