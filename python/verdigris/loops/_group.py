"""What a loop has to offer for calls made together: tasks, a time limit, a shield."""

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any


class Group(ABC):
    """Tasks of one who waits for them. Made on the loop."""

    @abstractmethod
    async def start(self, coroutine: Coroutine[Any, Any, None]) -> None:
        """Starts a task in a copy of the current context. The coroutine keeps its own outcome."""

    @abstractmethod
    async def cancel(self) -> None:
        """Asks all of its tasks to stop where they wait, and does not wait for it."""

    @abstractmethod
    def drop(self) -> None:
        """The same, for one who can't wait: as far as the loop can do it."""

    @abstractmethod
    async def within(self, seconds: float, wait: Callable[[], Awaitable[None]]) -> bool:
        """Waits for so long at most. False when the time was over first."""

    @abstractmethod
    async def shielded(self, wait: Callable[[], Awaitable[None]]) -> None:
        """Waits to the end, also where the caller was cancelled."""
