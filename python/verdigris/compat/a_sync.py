"""Drop-in for the package `a_sync` 0.5: its names and what they do.

    import verdigris.compat.a_sync as a_sync

What fails there works here: `block` and `Parallel.block` inside a running loop. Threads are those
of verdigris' pool, which grows, where they were 20; loops that are made are closed.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import verdigris
from verdigris import ExitOption as ExitOption
from verdigris import Serial as _Serial
from verdigris import ThreadExecutor as ThreadExecutor
from verdigris import block as block
from verdigris import queue_background_thread as queue_background_thread
from verdigris import run as run

__all__ = [
    "ExitOption",
    "Parallel",
    "Serial",
    "ThreadExecutor",
    "a_input",
    "block",
    "idle_event_loop",
    "queue_background_thread",
    "run",
    "to_async",
    "to_blocking",
]


def to_async(blocking_func: Callable[..., Any]) -> Callable[..., Any]:
    """Makes an async function of a blocking one. An async one is returned unchanged.

    Args:
        blocking_func: The function. It is called on a thread.

    Returns:
        The async function.

    Raises:
        TypeError: It can't be called.
    """
    made: Callable[..., Any] = verdigris.to_async(blocking_func)
    return made


def to_blocking(async_func: Callable[..., Any]) -> Callable[..., Any]:
    """Makes a blocking function of an async one. A blocking one is returned unchanged.

    Args:
        async_func: The function. Its coroutine runs on the thread's own loop, or is waited for
            through the green function or portal that this is called in.

    Returns:
        The blocking function.

    Raises:
        TypeError: It can't be called.
    """
    made: Callable[..., Any] = verdigris.to_blocking(async_func)
    return made


@contextmanager
def idle_event_loop() -> Iterator[Any]:
    """Gives an asyncio loop that does not run, and is the current one while the block runs."""
    with verdigris.idle_event_loop() as loop:
        yield loop


async def a_input(prompt: str) -> str:
    """Asks the user for a line. The end of the line, and space before it, are cut off.

    Args:
        prompt: What is written before.

    Returns:
        The line; "" where standard input has ended.

    Raises:
        asyncio.CancelledError: The caller was cancelled. What was typed of the line is thrown away.
    """
    try:
        return (await verdigris.a_input(prompt)).rstrip()
    except EOFError:
        return ""
    except Exception:
        raise
    except BaseException:
        print("input cancelled...")
        raise


class Parallel(verdigris.Parallel):
    """Functions that are called all at once, async and blocking ones."""

    def __init__(self) -> None:
        """Has no functions yet."""
        super().__init__()

    async def run(self) -> list[Any]:
        """Calls the functions, and waits for all.

        Returns:
            Their results, in the order in which they were scheduled.

        Raises:
            BaseException: What the first function that fails has raised. The others are not waited
                for.
        """
        results: list[Any] = [None] * len(self)
        async with self.as_completed() as calls:
            async for call in calls:
                results[call.index] = call.result()
        return results


class Serial(_Serial):
    """Functions that are called one after another, async and blocking ones."""

    def __init__(self) -> None:
        """Has no functions yet."""
        super().__init__()
