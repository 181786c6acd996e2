"""Which library a thread works for: the one whose loop waits for the thread.

Nothing is noted for asyncio: it is what a thread uses that knows of nothing else.
"""

import contextlib
from collections.abc import Iterator
from typing import Any

from verdigris.worlds._os_thread import local


class _Here(local):  # type: ignore[misc, valid-type]
    """What a thread has. The stdlib's own, whatever is patched later: it is about OS threads."""

    home: tuple[str, Any] = ("asyncio", None)


_here = _Here()


def current() -> tuple[str, Any]:
    """The library, and Trio's token where that is known."""
    return _here.home


@contextlib.contextmanager
def of(library: str, token: Any) -> Iterator[None]:
    """Has the thread work for a library while the block runs."""
    before = current()
    _here.home = (library, token)
    try:
        yield
    finally:
        _here.home = before
