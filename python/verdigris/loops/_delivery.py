"""What a loop has to offer for work in another thread: a result that arrives."""

from abc import ABC, abstractmethod
from types import CoroutineType
from typing import Any

from verdigris._engine import GreenCoroutine


class Delivery(ABC):
    """The outcome of one piece of work, made in any thread, for one who waits on a loop.

    Made on the loop, by the one who waits.
    """

    #: Whether nobody waits any more. Work that has not begun need not begin.
    abandoned: bool
    #: What the thread works for, as `worlds._home` has it; None for asyncio.
    home: tuple[str, Any] | None = None

    @abstractmethod
    def deliver(self, value: Any, error: BaseException | None) -> None:
        """Brings the outcome. Once, from any thread.

        A loop that was closed meanwhile has nobody who waits.
        """

    @abstractmethod
    async def wait(self) -> Any:
        """Waits for it. Cancelled, it sets `abandoned`.

        Returns:
            The value.

        Raises:
            BaseException: The error, if there is one.
        """


def is_coroutine(value: object) -> bool:
    """Whether work gave a coroutine, as a plain wrapper of an async function does."""
    kind = type(value)
    return kind is CoroutineType or kind is GreenCoroutine


def discard(value: Any) -> None:
    """Ends what nobody waits for: a coroutine would be reported as never awaited.

    One that was begun is left to who began it.
    """
    if is_coroutine(value) and not value.cr_running and not value.cr_suspended:
        value.close()
