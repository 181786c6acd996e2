"""`spawn`: a sync function started in the background, and the handle of it.

The function becomes a `GreenCoroutine`, the running loop makes a task of it (`verdigris.loops`),
and :class:`GreenTask` gives that task one face on every loop, for green code and for async code.
"""

from collections.abc import Callable, Generator
from typing import Any, Generic, ParamSpec, TypeVar, final

from verdigris import loops
from verdigris._coroutine_function import is_async
from verdigris._engine import async_def, await_

P = ParamSpec("P")
T = TypeVar("T")


@final
class GreenTask(Generic[T]):
    """A function that runs in the background. Made by `spawn`.

    Await it from async code, `join` it from green code. Whoever waits can be cancelled without
    any effect on the task; only `cancel` cancels it. It goes on running when the handle is
    dropped. An exception that nobody has looked at by then is reported: through the loop's
    exception handler on asyncio, through the logger `verdigris` on Trio.

    Use it in the thread of its loop.
    """

    __slots__ = ("__weakref__", "_name", "_task")

    def __init__(self, task: loops.LoopTask[T], name: str) -> None:
        """Takes a task that was started. Call `spawn` instead."""
        self._task = task
        self._name = name

    @property
    def name(self) -> str:
        """The qualified name of the function; the loop's task has it too."""
        return self._name

    def __await__(self) -> Generator[Any, Any, T]:
        """Waits for the end of the task and gives its result.

        A checkpoint on Trio. On asyncio only if the task has not ended yet.

        Returns:
            What the function returned.

        Raises:
            TaskCancelled: The task was cancelled.
            BaseException: Whatever the function raised.
            RuntimeError: The task waits for itself, or belongs to another loop.
        """
        yield from self._task.wait(None).__await__()
        if self._task.failed():
            raise self._task.error()
        return self._task.value()

    def join(self, timeout: float | None = None) -> T:
        """Waits, in green code, for the end of the task and gives its result.

        A checkpoint on Trio. On asyncio only if the task has not ended yet.

        Args:
            timeout: How many seconds to wait at most. None waits as long as it takes.

        Returns:
            What the function returned.

        Raises:
            TimeoutError: The task has not ended in time. It goes on.
            TaskCancelled: The task was cancelled.
            NoAwaitContext: The caller does not run under `async_def`.
            BaseException: Whatever the function raised.
            RuntimeError: The task waits for itself, or belongs to another loop.

        Example:
            >>> import asyncio
            >>> from verdigris import async_def, await_, spawn
            >>> def child():
            ...     await_(asyncio.sleep(0))
            ...     return "done"
            >>> def parent():
            ...     return spawn(child).join(timeout=5)
            >>> async def main():
            ...     return await async_def(parent)
            >>> asyncio.run(main())
            'done'
        """
        if not await_(self._task.wait(timeout)):
            raise TimeoutError(
                f"task {self._name!r} has not ended within {timeout} seconds. It goes on; cancel() "
                f"it if it should not."
            )
        if self._task.failed():
            raise self._task.error()
        return self._task.value()

    def cancel(self) -> bool:
        """Asks the task to stop: its function gets the loop's cancellation where it waits.

        Not a checkpoint: join or await the task to see its end.

        Returns:
            False if the task has ended already, else True.
        """
        return self._task.cancel()

    def done(self) -> bool:
        """Tells whether the task has ended: returned, raised or cancelled."""
        return self._task.done()

    def cancelled(self) -> bool:
        """Tells whether the task has ended by its cancellation."""
        return self._task.cancelled()

    def result(self) -> T:
        """Gives the result of a task that has ended, without waiting.

        Returns:
            What the function returned.

        Raises:
            RuntimeError: The task has not ended.
            TaskCancelled: The task was cancelled.
            BaseException: Whatever the function raised.
        """
        self._check_ended("result")
        if self._task.failed():
            raise self._task.error()
        return self._task.value()

    def exception(self) -> BaseException | None:
        """Gives the exception of a task that has ended, without waiting.

        Returns:
            What the function raised, or None if it returned.

        Raises:
            RuntimeError: The task has not ended.
            TaskCancelled: The task was cancelled.
        """
        self._check_ended("exception")
        if self._task.cancelled():
            raise self._task.error()
        return self._task.error() if self._task.failed() else None

    def _check_ended(self, what: str) -> None:
        if not self._task.done():
            raise RuntimeError(
                f"task {self._name!r} has not ended, so it has no {what} yet. Await it, or join() "
                f"it from green code."
            )

    def __repr__(self) -> str:
        if not self._task.done():
            state = "running"
        elif self._task.cancelled():
            state = "cancelled"
        else:
            # Not whether it raised: asking would count as looking at the exception.
            state = "ended"
        return f"<GreenTask {self._name!r} {state}>"


def spawn(fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> GreenTask[T]:
    """Starts a sync function in the background, on the loop that runs now.

    The function runs on a stack of its own, so that it can call `await_`, in a copy of the
    caller's context. Not a checkpoint: the function begins when the loop comes to it, or at once
    under asyncio's eager task factory. On Trio it is a system task: it is cancelled when the main
    task has ended, as asyncio's are by `asyncio.run`.

    Args:
        fn: The sync function.
        *args: Its positional arguments.
        **kwargs: Its keyword arguments.

    Returns:
        The handle.

    Raises:
        RuntimeError: No asyncio or Trio loop runs in this thread.
        TypeError: `fn` is not callable, or is an `async def` function.

    Example:
        >>> import asyncio
        >>> from verdigris import await_, spawn
        >>> def work(number):
        ...     await_(asyncio.sleep(0))
        ...     return number * number
        >>> async def main():
        ...     tasks = [spawn(work, number) for number in range(4)]
        ...     return [await task for task in tasks]
        >>> asyncio.run(main())
        [0, 1, 4, 9]
    """
    name = getattr(fn, "__qualname__", type(fn).__name__)
    if is_async(fn):
        raise TypeError(
            f"spawn() starts sync functions, and {name!r} is async. Start it with the loop's own "
            f"means: asyncio.create_task({name}(...)) or nursery.start_soon({name}, ...)."
        )
    task_type = loops.current()
    if task_type is None:
        raise RuntimeError(
            f"spawn({name}) found no running asyncio or Trio loop in this thread. Call it from "
            f"code that the loop runs: inside asyncio.run(...) or trio.run(...)."
        )
    coroutine = async_def(fn, *args, **kwargs)
    try:
        return GreenTask(task_type(coroutine, name), name)
    except BaseException:
        # The loop refused it, because it is shutting down. Closed, so that the one error the
        # caller sees is the loop's, without a "never awaited" warning after it.
        coroutine.close()
        raise
