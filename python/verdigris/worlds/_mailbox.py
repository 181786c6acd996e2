"""A queue that any thread puts into, and one on a loop takes from."""

from collections import deque
from typing import Any

from verdigris import loops
from verdigris.worlds._os_thread import allocate_lock


class Mailbox:
    """Items in the order in which they came. Many that come at once wake the loop once."""

    def __init__(self) -> None:
        # The stdlib's own, whatever is patched: it is held for moments, by OS threads too.
        self._lock = allocate_lock()
        self._items: deque[Any] = deque()
        self._waiting: loops.Delivery | None = None

    def put(self, item: Any) -> None:
        """Adds an item. From any thread."""
        with self._lock:
            self._items.append(item)
            waiting, self._waiting = self._waiting, None
        if waiting is not None:
            waiting.deliver(None, None)

    async def wait(self) -> None:
        """Waits until there is an item. One at a time."""
        while not self._items:
            with self._lock:
                if self._items:
                    return
                self._waiting = delivery = loops.delivery()
            try:
                await delivery.wait()
            finally:
                with self._lock:
                    if self._waiting is delivery:
                        self._waiting = None

    def take(self) -> Any:
        """The first item; IndexError when there is none."""
        return self._items.popleft()

    def __len__(self) -> int:
        return len(self._items)
