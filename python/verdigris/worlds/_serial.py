"""`Serial`: calls that are made one after another."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Self

from verdigris import loops
from verdigris._engine import can_await
from verdigris.worlds import _thread_loop
from verdigris.worlds._blocking import block
from verdigris.worlds._call import Call, checked
from verdigris.worlds._completed import CallsTimedOut, note
from verdigris.worlds._progress import Progress, shown
from verdigris.worlds._running import Options, Running, TimeIsOver, failure

if TYPE_CHECKING:
    import concurrent.futures

_monotonic = time.monotonic


class Serial:
    """Calls that are made one after another: async and blocking functions, in any mixture.

    It can be run more than once, on any loop.

    Example:
        >>> import asyncio
        >>> from verdigris import Serial
        >>> Serial().schedule(asyncio.sleep, 0, "async").schedule(pow, 2, 5).block()
        ['async', 32]
    """

    def __init__(
        self,
        *,
        timeout: float | None = None,
        return_exceptions: bool = False,
        executor: concurrent.futures.Executor | None = None,
        progress: bool | Progress = False,
    ) -> None:
        """Sets how the calls will be made.

        Args:
            timeout: How many seconds all of them together may take.
            return_exceptions: Put what a call raises into its place among the results, and go on.
            executor: A `concurrent.futures.Executor` for the blocking functions.
            progress: As of `Parallel`.
        """
        self._calls: list[Call] = []
        self._options = Options(1, executor, "thread", stops_at_error=not return_exceptions)
        self._timeout = timeout
        self._return_exceptions = return_exceptions
        self._progress = progress

    def schedule(self, fn: Callable[..., Any] | Any, /, *args: Any, **kwargs: Any) -> Self:
        """Adds a call, to be made when this is run. As of `Parallel`."""
        self._calls.append(checked("schedule", Call(fn, args, kwargs)))
        return self

    def __len__(self) -> int:
        """How many calls were scheduled."""
        return len(self._calls)

    async def run(self) -> list[Any]:
        """Makes the calls, each when the one before has ended. Blocking ones run on threads.

        Returns:
            The results, in the order in which the calls were scheduled.

        Raises:
            BaseException: What a call raised, with a note of which it was. No further call is made.
            CallsTimedOut: The time is over; a `TimeoutError`, with the results so far.
        """
        results: list[Any] = []
        deadline = None if self._timeout is None else _monotonic() + self._timeout
        calls = tuple(self._calls)
        running = Running(calls, self._options)
        with shown(self._progress, len(calls)) as progress:
            try:
                await running.begin()
                while (one := await running.next(deadline)) is not None:
                    error = one.exception()
                    if error is not None:
                        note(error, one.index, len(calls), one.call)
                        if not self._return_exceptions:
                            raise error
                    results.append(one.result() if error is None else error)
                    progress(len(results), len(calls))
            except TimeIsOver:
                await running.stop()
                raise CallsTimedOut(
                    f"{len(calls) - len(results)} of {len(calls)} calls had not ended within "
                    f"{self._timeout} seconds, the first of them {calls[len(results)]}",
                    results,
                ) from None
            except BaseException:
                await running.stop()
                raise
        return results

    def block(self) -> list[Any]:
        """Makes the calls from blocking code. Blocking ones are called right here.

        With a timeout or an executor they are made as by `run`: a call that is made here can't be
        left when the time is over.
        """
        if self._timeout is not None or self._options.executor is not None:
            return block(self.run)
        results: list[Any] = []
        calls = tuple(self._calls)
        with shown(self._progress, len(calls)) as progress:
            try:
                for place, call in enumerate(calls):
                    try:
                        result = _here(call)
                    except (Exception, _thread_loop.cancelled()) as error:
                        if can_await() and not isinstance(error, Exception):
                            raise  # of the task that this runs in
                        result = failure(error, call)
                        note(result, place, len(calls), call)
                        if not self._return_exceptions:
                            raise result from result.__cause__
                    results.append(result)
                    progress(len(results), len(calls))
            except BaseException:
                for call in calls[len(results) :]:
                    loops.discard(call.function)
                raise
        return results


def _here(call: Call) -> Any:
    if callable(call.function):
        return block(call.function, *call.args, **call.kwargs)

    async def wait() -> Any:
        running = Running((call,), Options(1, None, "thread"))
        try:
            await running.begin()
            one = await running.next(None)
        except BaseException:
            await running.stop()
            raise
        assert one is not None
        return one.result()

    return block(wait)
