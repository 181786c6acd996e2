"""What a loop has to offer for portals: where its tasks keep their coroutine."""

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

AnyCoroutine = Coroutine[Any, Any, Any]


class PortalHost(ABC):
    """A loop library, seen as the keeper of its tasks' coroutines.

    One instance stands for the library, not for a loop that runs.
    """

    #: The library's name, for messages.
    name: str
    #: A point of schedule and of cancellation. One object, since every portal refers to it.
    checkpoint: Callable[[], Awaitable[None]]

    @abstractmethod
    def is_task(self, candidate: object) -> bool:
        """Tells whether an object is a task of this library."""

    @abstractmethod
    async def current_task(self) -> Any:
        """Gives the task that runs the caller.

        No checkpoint.

        Raises:
            RuntimeError: It is no task, but a callback of the loop.
        """

    @abstractmethod
    def is_current(self, task: Any) -> bool:
        """Tells whether a task is the one that runs the caller."""

    @abstractmethod
    def has_ended(self, task: Any) -> bool:
        """Tells whether a task has an outcome."""

    @abstractmethod
    def is_reachable(self, task: Any) -> bool:
        """Tells whether this thread may change the task: its loop runs here, or nowhere."""

    @abstractmethod
    def coroutine(self, task: Any) -> AnyCoroutine:
        """Gives what the loop steps for a task that has not ended."""

    @abstractmethod
    def replace(self, task: Any, old: AnyCoroutine, new: AnyCoroutine) -> None:
        """Has the loop step another coroutine from the task's next step on.

        Raises:
            RuntimeError: The task can't be changed, or has another coroutine than `old`.
        """

    @abstractmethod
    async def shielded_checkpoint(self) -> None:
        """A point of schedule only: a cancellation is put off."""
