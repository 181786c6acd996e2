"""`Parallel`: calls that are made all at once."""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncIterator, Callable, Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self

from verdigris import loops
from verdigris._engine import can_await
from verdigris.worlds._blocking import block
from verdigris.worlds._call import Call, checked
from verdigris.worlds._completed import CallsFailed, CallsTimedOut, Completed, note
from verdigris.worlds._progress import Progress, shown, shown_to_nobody
from verdigris.worlds._running import Options, Running, TimeIsOver

if TYPE_CHECKING:
    import concurrent.futures

_monotonic = time.monotonic


class Parallel:
    """Calls that are made all at once: async and blocking functions, in any mixture.

    Async functions run as tasks of the loop that waits for them, blocking ones on threads of
    verdigris' pool, which grows while all of its threads are blocked. It can be run more than once,
    on any loop.

    Example:
        >>> import asyncio, time
        >>> from verdigris import Parallel
        >>> calls = Parallel().schedule(asyncio.sleep, 0.01, "async").schedule(pow, 2, 5)
        >>> calls.block()
        ['async', 32]
    """

    def __init__(
        self,
        *,
        limit: int | None = None,
        timeout: float | None = None,
        return_exceptions: bool = False,
        executor: concurrent.futures.Executor | None = None,
        where: Literal["thread", "green"] = "thread",
        progress: bool | Progress = False,
    ) -> None:
        """Sets how the calls will be made.

        Args:
            limit: How many may be under way at once. None for all.
            timeout: How many seconds all of them together may take.
            return_exceptions: Put what a call raises into its place among the results, as
                `asyncio.gather` does, instead of raising at the end.
            executor: A `concurrent.futures.Executor` for the blocking functions: threads,
                processes, a cluster's. Its calls see no context variables unless it is one of
                threads.
            where: "green" runs the blocking functions on the loop's thread, with `async_def`.
            progress: True shows a bar, which needs tqdm. A function is called with how many have
                ended and how many there are, in the thread of the loop.

        Raises:
            ValueError: `limit` is less than 1, or `where` is something else.
            TypeError: `executor` was given together with `where="green"`.
        """
        if limit is not None and limit < 1:
            raise ValueError(f"limit must be at least 1, not {limit}")
        if where not in ("thread", "green"):
            raise ValueError(f'where must be "thread" or "green", not {where!r}')
        if executor is not None and where == "green":
            raise TypeError('Parallel takes an executor or where="green", not both')
        self._calls: list[Call] = []
        self._options = Options(limit, executor, where)
        self._timeout = timeout
        self._return_exceptions = return_exceptions
        self._progress = progress

    def schedule(self, fn: Callable[..., Any] | Any, /, *args: Any, **kwargs: Any) -> Self:
        """Adds a call, to be made when this is run.

        Args:
            fn: A function, async or blocking; or, without arguments, what can be waited for as it
                is: an awaitable, a future of `concurrent.futures` or of an engine such as Dask. (A
                coroutine can be waited for once, so it can be run once.)
            *args: The function's positional arguments.
            **kwargs: Its keyword arguments.

        Returns:
            This object, so that calls can be chained.

        Raises:
            TypeError: `fn` can neither be called nor waited for; or it is no function, and there
                are arguments.
        """
        self._calls.append(checked("schedule", Call(fn, args, kwargs)))
        return self

    def __len__(self) -> int:
        """How many calls were scheduled."""
        return len(self._calls)

    async def run(self) -> list[Any]:
        """Makes the calls, and waits for all of them. A checkpoint if there is one at least.

        A call that fails does not stop the others. If the caller is cancelled, so are the calls:
        tasks get the cancellation, and have ended when it goes on; what has not begun does not
        begin; what is on a thread comes to its end unseen.

        Returns:
            The results, in the order in which the calls were scheduled.

        Raises:
            CallsFailed: Some calls failed: an `ExceptionGroup` with a note of which. The others'
                results are in it.
            CallsTimedOut: The time is over; a `TimeoutError`, with the results so far.
        """
        calls = tuple(self._calls)
        results: list[Any] = [None] * len(calls)
        errors: dict[int, Exception] = {}
        running, deadline = Running(calls, self._options), self._deadline()
        with shown(self._progress, len(calls)) as progress:
            try:
                await running.begin()
                while (one := await running.next(deadline)) is not None:
                    error = one.exception()
                    if error is None:
                        results[one.index] = one.result()
                    else:
                        note(error, one.index, len(calls), one.call)
                        errors[one.index] = results[one.index] = error
                    progress(running.ended, len(calls))
            except TimeIsOver:
                left = running.left()
                await running.stop()
                for place in left:
                    results[place] = self._late(calls[place])
                if not self._return_exceptions:
                    raise self._timed_out(calls, left, results) from None
                return results
            except BaseException:
                await running.stop()
                raise
        if errors and not self._return_exceptions:
            self._raise(errors, results)
        return results

    def _raise(self, errors: dict[int, Exception], results: list[Any]) -> None:
        failed = [errors[place] for place in sorted(errors)]
        try:
            raise CallsFailed(f"{len(failed)} of {len(results)} calls failed", failed, results)
        finally:
            del errors, results, failed, self

    def _late(self, call: Call) -> TimeoutError:
        return TimeoutError(f"the call {call} had not ended within {self._timeout} seconds")

    def _timed_out(self, calls: tuple[Call, ...], left: list[int], results: list[Any]) -> Any:
        which = ", ".join(str(calls[place]) for place in left[:5]) + ", ..." * (len(left) > 5)
        return CallsTimedOut(
            f"{len(left)} of {len(calls)} calls had not ended within {self._timeout} seconds: "
            f"{which}",
            results,
        )

    def _deadline(self) -> float | None:
        return None if self._timeout is None else _monotonic() + self._timeout

    def block(self) -> list[Any]:
        """Makes the calls from blocking code, as `block(parallel.run)`: see `run` and `block`."""
        return block(self.run)

    def as_completed(self) -> Results:
        """Makes the calls, and gives each as it ends. What fails does not end it.

        Returns:
            An iterator over `Completed`, for `async for` and for `for`. Leaving its `with` or
            `async with` block stops what is still under way.

        Raises:
            CallsTimedOut: While iterating: the time is over.

        Example:
            >>> import asyncio
            >>> from verdigris import Parallel
            >>> calls = Parallel().schedule(asyncio.sleep, 0.1, "slow").schedule(int, "seven")
            >>> for one in calls.as_completed():
            ...     print(one.exception() or one.result())
            invalid literal for int() with base 10: 'seven'
            slow
        """
        return Results(self)


class Results(AsyncIterator[Completed], Iterator[Completed]):
    """The calls of a `Parallel` as they end. Made by `as_completed`."""

    def __init__(self, parallel: Parallel) -> None:
        """Takes what is made. The calls begin with the first step."""
        self._parallel = parallel
        self._calls = tuple(parallel._calls)
        self._running: Running | None = None
        self._deadline: float | None = None
        # What shows the progress, and what ends that.
        self._progress: Progress = shown_to_nobody
        self._shown = contextlib.ExitStack()
        # Somebody waits for the next call; all have been given, or will not be.
        self._steps = self._closed = False

    def __aiter__(self) -> Results:
        return self

    async def __anext__(self) -> Completed:
        """Waits for the next call that ends. A checkpoint."""
        one = await self._next()
        if one is None:
            raise StopAsyncIteration
        return one

    def __iter__(self) -> Results:
        return self

    def __next__(self) -> Completed:
        """Waits for the next call that ends, in the way that `block` does.

        Raises:
            RuntimeError: The caller is async code without a portal.
        """
        self._refuse_where_nothing_can_wait("iterate with 'async for'")
        one = block(self._next)
        if one is None:
            raise StopIteration
        return one

    def _refuse_where_nothing_can_wait(self, instead: str) -> None:
        if loops.running_library() is not None and not can_await():
            raise RuntimeError(
                f"this loop runs the calls, and would have to go on meanwhile: {instead} here, or "
                f"do it in a green function."
            )

    async def _next(self) -> Completed | None:
        if self._closed:
            return None
        if self._steps:
            raise RuntimeError("another task waits for the next call already: one at a time can")
        self._steps = True
        try:
            one = await self._step()
        except BaseException:
            await self.aclose()
            raise
        finally:
            self._steps = False
        if one is None:
            self._closed = True
            self._shown.close()
        return one

    async def _step(self) -> Completed | None:
        parallel, total = self._parallel, len(self._calls)
        if self._running is None:
            self._running = Running(self._calls, parallel._options)
            self._deadline = parallel._deadline()
            self._progress = self._shown.enter_context(shown(parallel._progress, total))
            await self._running.begin()
        running = self._here(self._running)
        try:
            one = await running.next(self._deadline)
        except TimeIsOver:
            raise parallel._timed_out(self._calls, running.left(), []) from None
        if one is not None:
            error = one.exception()
            if error is not None:
                note(error, one.index, total, one.call)
            self._progress(running.ended, total)
        return one

    @staticmethod
    def _here(running: Running) -> Running:
        if not running.is_here():
            raise RuntimeError(
                "the calls were begun on another loop, and go on there only: take all of them in "
                "the thread, and on the loop, where the first was taken."
            )
        return running

    async def aclose(self) -> None:
        """Stops what is still under way, and waits for tasks to end.

        Raises:
            RuntimeError: The calls were begun on another loop.
        """
        if not self._closed:
            if self._running is not None:
                await self._here(self._running).stop()
            self._closed = True
            self._shown.close()

    def close(self) -> None:
        """The same, from blocking code.

        Raises:
            RuntimeError: The caller is async code without a portal; or the calls were begun on
                another loop.
        """
        if self._running is None:
            self._closed = True
        elif not self._closed:
            self._refuse_where_nothing_can_wait("use 'async with', or await aclose()")
            block(self.aclose)

    async def __aenter__(self) -> Results:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.aclose()

    def __enter__(self) -> Results:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __del__(self) -> None:
        running = getattr(self, "_running", None)
        if running is not None and not self._closed:
            running.drop()
            self._shown.close()
