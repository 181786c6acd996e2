"""What a loop has to offer for calls made together: tasks, a time limit, a shield."""

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any


class Group(ABC):
    """Tasks of one who waits for them. Made on the loop."""

    #: What the loop cancels a task with.
    cancelled: type[BaseException]

    @abstractmethod
    def is_here(self) -> bool:
        """Whether the loop that it was made on runs the caller."""

    @abstractmethod
    async def start(self, coroutine: Coroutine[Any, Any, None]) -> None:
        """Starts a task in a copy of the current context.

        The coroutine keeps its own outcome, and raises nothing but `cancelled`.
        """

    @abstractmethod
    async def end(self) -> None:
        """Cancels all of its tasks, and waits until they have ended; also when it is cancelled.

        A task that was cancelled before its first step never takes one.
        """

    @abstractmethod
    def drop(self) -> None:
        """Cancels them for one who can't wait, in any thread: as far as the loop can do it."""

    @abstractmethod
    async def within(self, seconds: float, wait: Callable[[], Awaitable[None]]) -> bool:
        """Waits for so long at most. False when the time was over first."""
