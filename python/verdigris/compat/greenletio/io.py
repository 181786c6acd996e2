"""greenletio's waits for descriptors."""

from collections.abc import Iterable
from typing import Any

import verdigris.green.select as _green

_select: Any = _green

__all__ = ["wait_many", "wait_to_read", "wait_to_write"]


def wait_to_read(fd: int) -> None:
    """Waits until a descriptor can be read."""
    _wait(fd, _select.POLLIN)


def wait_to_write(fd: int) -> None:
    """Waits until a descriptor can be written."""
    _wait(fd, _select.POLLOUT)


def wait_many(
    read_list: Iterable[Any], write_list: Iterable[Any], timeout: float | None = None
) -> tuple[list[Any], list[Any]]:
    """Waits until one of several descriptors is ready; gives those that are, two empty lists if
    none is in time."""
    readers, writers, _ = _select.select(list(read_list), list(write_list), [], timeout)
    return readers, writers


def _wait(fd: int, events: int) -> None:
    poll = _select.poll()
    poll.register(fd, events)
    poll.poll()
