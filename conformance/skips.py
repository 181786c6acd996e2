"""The tests that are not run on verdigris, each with its reason.

Every entry is in one of the categories below. None is there because its test is slow, or fails now
and then. `run.py --listed` runs them too, and names those that pass.
"""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase

#: The categories.
OS_THREADS = "needs OS threads by nature"
INTERNALS = "tests CPython's internals"
FORK = "needs fork in a threaded parent"
DEFECT = "a real defect"
CATEGORIES = (OS_THREADS, INTERNALS, FORK, DEFECT)


@dataclass(frozen=True)
class Skip:
    """Tests with one reason."""

    category: str
    reason: str
    #: Ids without the leading "test."; `*` stands for anything.
    ids: tuple[str, ...]
    #: The parts of the names of modes that it is for: "trio". All if empty.
    modes: tuple[str, ...] = ()
    #: The versions that it is for. All if empty.
    versions: tuple[str, ...] = ()

    def covers(self, one: str, version: str, mode: str) -> bool:
        """Whether a test is covered."""
        return (
            (not self.modes or any(part in mode for part in self.modes))
            and (not self.versions or version in self.versions)
            and any(fnmatchcase(one.removeprefix("test."), pattern) for pattern in self.ids)
        )


SKIPS: tuple[Skip, ...] = ()


def listed(one: str, version: str, mode: str) -> Skip | None:
    """The entry that covers a test."""
    return next((skip for skip in SKIPS if skip.covers(one, version, mode)), None)
