"""What a loop has to offer for `spawn`: a task that was started, with its outcome."""

from abc import ABC, abstractmethod
from collections.abc import Coroutine
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Generic, TypeVar

T = TypeVar("T")


#: How long a daemon thread that was cancelled may go on before it is left behind.
SECONDS_TO_END = 1.0


class TaskCancelled(Exception):
    """The result of a task was asked for, and the task was cancelled.

    It tells the one who waits that *the other* task was cancelled. On asyncio it is an
    `asyncio.CancelledError` too, so that code written for asyncio's tasks goes on working.
    """

    # Tracebacks name it as users import it.
    __module__ = "verdigris"


class LoopTask(ABC, Generic[T]):
    """A coroutine that a loop runs in the background.

    All methods belong to the loop's own thread. `failed`, `error` and `value` may be called only
    once `done` is true; `GreenTask` sees to that. An error is handed out, not raised, so that a
    traceback shows one frame of ours and not two.
    """

    @abstractmethod
    def __init__(self, coroutine: Coroutine[Any, Any, T], name: str, daemon: bool = False) -> None:
        """Starts the coroutine on the running loop, in a copy of the current context.

        Args:
            coroutine: What runs.
            name: What the loop calls the task.
            daemon: Whether it is a thread that ends with the program, whatever it does: one that
                goes on when it has been cancelled is left behind.
        """

    @abstractmethod
    async def wait(self, timeout: float | None) -> bool:
        """Waits until the task is done or the time is up, and tells whether it is done.

        Cancelling the one who waits leaves the task alone.
        """

    @abstractmethod
    def cancel(self) -> bool:
        """Asks the task to stop where it waits. False if it is done already."""

    @staticmethod
    def shield() -> AbstractContextManager[object]:
        """Gives a block in which a cancellation that is there already is put off.

        For waits that are short. asyncio delivers a cancellation once, so that there is nothing to
        put off.
        """
        return nullcontext()

    def may_be_left(self) -> None:
        """Has the loop say nothing if it is closed over the task. For threads.

        Most loops end all their tasks, and have nothing to say.
        """

    @abstractmethod
    def done(self) -> bool:
        """Tells whether the task has an outcome."""

    @abstractmethod
    def cancelled(self) -> bool:
        """Tells whether the outcome is that the task was cancelled."""

    @abstractmethod
    def failed(self) -> bool:
        """Tells whether it raised or was cancelled. Counts as looking at it."""

    @abstractmethod
    def error(self) -> BaseException:
        """Gives what the coroutine raised, or `TaskCancelled`. The task must have failed.

        Its traceback is the coroutine's own, whoever has raised it since.
        """

    @abstractmethod
    def value(self) -> T:
        """Gives what the coroutine returned. It must not have failed."""


def waits_for_itself(name: str) -> RuntimeError:
    """The error of a task that would wait for its own end."""
    return RuntimeError(
        f"task {name!r} waits for itself, which would never end. Await or join it from the code "
        f"that spawned it."
    )


def wrong_loop(name: str) -> RuntimeError:
    """The error of waiting on one loop for a task of another."""
    return RuntimeError(
        f"task {name!r} belongs to another event loop than the one that would wait for it. Await "
        f"or join it on the loop, and in the thread, where spawn() was called."
    )


def was_cancelled(name: str) -> str:
    """The text of `TaskCancelled`."""
    return f"task {name!r} was cancelled, so it has no result. Ask cancelled() first."
