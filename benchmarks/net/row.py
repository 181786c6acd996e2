"""What a row is: work that a synchronous client library does, and its counterpart in async code."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal


@dataclass(frozen=True)
class Work:
    """What each worker does: plain functions, or async ones in the native counterpart."""

    # run(opened, count): does the work so many times.
    run: Callable[[Any, int], Any]
    # What a worker needs beforehand: its connection, used once. It is not timed. None for nothing.
    open: Callable[[], Any] | None = None


@dataclass(frozen=True)
class Row:
    """One comparison. The libraries are imported by `sync` and `native`, and nowhere before:
    a peer has to patch first."""

    name: str
    title: str
    # A name of servers.STARTS, or None.
    server: str | None
    # How often the work is done, by all workers together.
    count: int
    workers: int
    # Called with the server's address.
    sync: Callable[[str], Work]
    native: Callable[[str], Work]
    # What the counterpart is written with.
    native_name: str
    shows: Literal["rate", "time"] = "rate"
    # A driver that waits in C, for which a peer needs a patch of its own.
    driver: str | None = None
    # Peers that can't do it, and why: where the client would hang, or look as if it could.
    cannot: dict[str, str] = field(default_factory=dict)
    # Whose versions the results name.
    distributions: tuple[str, ...] = ()

    def scaled(self, divisor: int) -> tuple[int, int]:
        """The count and the workers of a run with less work."""
        if self.count == self.workers:
            return max(2, self.count // divisor), max(2, self.workers // divisor)
        return max(self.workers, self.count // divisor), self.workers
