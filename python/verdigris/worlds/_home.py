"""Which library a thread works for: the one whose loop waits for the thread.

Nothing is noted for asyncio: it is what a thread uses that knows of nothing else.
"""

import contextlib
from collections.abc import Iterator
from typing import Any

from verdigris.worlds._os_thread import local

# The stdlib's own, whatever is patched later: it is about OS threads.
_here: Any = local()


def current() -> tuple[str, Any]:
    """The library, and Trio's token where that is known."""
    known: tuple[str, Any] | None = getattr(_here, "home", None)
    return ("asyncio", None) if known is None else known


@contextlib.contextmanager
def of(library: str, token: Any) -> Iterator[None]:
    """Has the thread work for a library while the block runs."""
    before = current()
    _here.home = (library, token)
    try:
        yield
    finally:
        _here.home = before
