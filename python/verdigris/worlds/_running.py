"""Calls that are made together, on one loop, its threads, and executors."""

from __future__ import annotations

import contextvars
import functools
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from verdigris import loops
from verdigris._coroutine_function import is_async
from verdigris._engine import async_def
from verdigris.worlds import _executors, _home, _pool
from verdigris.worlds._call import Call
from verdigris.worlds._completed import CallCancelled, Completed
from verdigris.worlds._mailbox import Mailbox

if TYPE_CHECKING:
    import concurrent.futures

_monotonic = time.monotonic

_Outcome = tuple[int, Any, BaseException | None]


@dataclass(frozen=True)
class Options:
    """How calls are made."""

    #: How many at once, or None.
    limit: int | None
    executor: concurrent.futures.Executor | None
    where: str
    #: Whether no further call begins when one has failed.
    stops_at_error: bool = False


class TimeIsOver(Exception):
    """The deadline has come. (A `TimeoutError` may be of a call, or of the program's.)"""


class Running:
    """Calls that were begun, or will be as soon as the limit allows it."""

    def __init__(self, calls: Sequence[Call], options: Options) -> None:
        """Takes the calls. Made on the loop; `begin` has them made."""
        self._calls = calls
        self._options = options
        self._mailbox = Mailbox()
        self._group = loops.group()
        self._home = loops.delivery().home
        self._next_place = 0
        # Those that were begun and have not ended.
        self._open: set[int] = set()
        # Of these, those that an executor may not have begun.
        self._futures: dict[int, concurrent.futures.Future[Any]] = {}
        #: Whether calls that have not begun are not to begin, and no more outcomes are taken.
        self.stopped = False

    @property
    def ended(self) -> int:
        """How many calls have ended."""
        return self._next_place - len(self._open)

    def is_here(self) -> bool:
        """Whether the caller is on the loop on which the calls were begun."""
        return self._group.is_here()

    async def begin(self) -> None:
        """Begins as many calls as may be under way at once."""
        limit = len(self._calls) if self._options.limit is None else self._options.limit
        while len(self._open) < limit and self._next_place < len(self._calls):
            place = self._next_place
            self._next_place += 1
            self._open.add(place)
            await self._start(place, self._calls[place])

    async def next(self, deadline: float | None) -> Completed | None:
        """Waits for the next call that ends.

        Args:
            deadline: Until when to wait, on the monotonic clock.

        Returns:
            How it ended; None when all have, or when this was stopped.

        Raises:
            TimeIsOver: The deadline is over.
            BaseException: A call raised it, and it is neither an `Exception` nor a cancellation:
                KeyboardInterrupt, SystemExit.
        """
        while self._open and not self.stopped:
            if not self._mailbox:
                await self._wait(deadline)
            outcome: _Outcome = self._mailbox.take()
            place, value, error = outcome
            self._futures.pop(place, None)
            if loops.is_coroutine(value):  # of a plain wrapper of an async function
                await self._as_task(place, _Same(value))
                continue
            self._open.discard(place)
            call = self._calls[place]
            failed = None if error is None else failure(error, call)
            if self._next_place < len(self._calls) and not (
                failed is not None and self._options.stops_at_error
            ):
                await self.begin()
            return Completed(place, call, value, failed)
        return None

    async def _wait(self, deadline: float | None) -> None:
        if deadline is None:
            await self._mailbox.wait()
        elif not await self._group.within(deadline - _monotonic(), self._mailbox.wait):
            raise TimeIsOver

    async def stop(self) -> None:
        """Cancels what can be, and waits until no task of ours is left."""
        self._take_back()
        try:
            await self._group.end()
        finally:
            self._empty()

    def drop(self) -> None:
        """The same, for one who can't wait. From any thread."""
        self._take_back()
        self._group.drop()
        self._empty()

    def _take_back(self) -> None:
        self.stopped = True
        futures, self._futures = self._futures, {}
        for future in futures.values():
            _executors.take_back(future)
        for call in self._calls[self._next_place :]:
            loops.discard(call.function)

    def _empty(self) -> None:
        while self._mailbox:
            _, value, _ = self._mailbox.take()
            loops.discard(value)

    def left(self) -> list[int]:
        """The places of the calls that have not ended."""
        return sorted(self._open) + list(range(self._next_place, len(self._calls)))

    # --- beginning one -------------------------------------------------------

    async def _start(self, place: int, call: Call) -> None:
        function = call.function
        if not callable(function):
            future = _executors.future_of(function)
            if future is not None:
                _executors.when_done(future, call, functools.partial(self._put, place))
            else:
                await self._as_task(place, _Same(function))
        elif is_async(function):
            await self._as_task(place, functools.partial(function, *call.args, **call.kwargs))
        elif self._options.where == "green":
            await self._as_task(
                place, functools.partial(async_def, function, *call.args, **call.kwargs)
            )
        elif self._options.executor is not None:
            receive = functools.partial(self._put, place)
            executor = self._options.executor
            try:
                future = _executors.submit(executor, call, self._home)
            except Exception as error:
                receive(None, error)
            else:
                self._futures[place] = future
                _executors.when_done(future, call, receive, executor)
        else:
            context = contextvars.copy_context()
            _pool.default_pool().start(functools.partial(self._work, place, context))

    async def _as_task(self, place: int, make: Callable[[], Awaitable[Any]]) -> None:
        coroutine = self._task(place, make)
        try:
            await self._group.start(coroutine)
        except BaseException:
            coroutine.close()
            raise

    async def _task(self, place: int, make: Callable[[], Awaitable[Any]]) -> None:
        try:
            value = await make()
        except BaseException as error:
            self._put(place, None, _without_our_frame(error))
            # The loop wants to see its cancellation again, and nothing else.
            cancelled = self._group.cancelled
            if isinstance(error, cancelled):
                raise
            if isinstance(error, BaseExceptionGroup):
                cancellations = error.subgroup(cancelled)
                if cancellations is not None:
                    raise cancellations from None
        else:
            self._put(place, value, None)

    def _work(self, place: int, context: contextvars.Context) -> None:
        """Makes a call on a thread."""
        if self.stopped:
            return
        call = self._calls[place]
        try:
            if self._home is None:
                value = context.run(call.function, *call.args, **call.kwargs)
            else:
                with _home.of(*self._home):
                    value = context.run(call.function, *call.args, **call.kwargs)
        except BaseException as error:
            self._put(place, None, _without_our_frame(error))
        else:
            self._put(place, value, None)

    def _put(self, place: int, value: Any, error: BaseException | None) -> None:
        """Notes an outcome. From any thread."""
        if self.stopped:
            loops.discard(value)
        else:
            self._mailbox.put((place, value, error))


def failure(error: BaseException, call: Call) -> Exception:
    """The error of a call as an `Exception`.

    Raises:
        BaseException: That error, where it is about more than the call.
    """
    if isinstance(error, Exception):
        return error
    cancellations = loops.cancellations()
    rest: BaseException | None = error
    if isinstance(error, BaseExceptionGroup):
        # What a nursery raises that was cancelled while something else failed.
        rest = error.split(cancellations)[1]
    elif isinstance(error, cancellations):
        rest = None
    if isinstance(rest, Exception):
        return rest
    if rest is not None:
        raise error
    cancelled = CallCancelled(f"the call {call} was cancelled")
    cancelled.__cause__ = error
    return cancelled


def _without_our_frame(error: BaseException) -> BaseException:
    if error.__traceback__ is not None:
        error.__traceback__ = error.__traceback__.tb_next
    return error


class _Same:
    """What is awaited as it is."""

    __slots__ = ("_awaitable",)

    def __init__(self, awaitable: Awaitable[Any]) -> None:
        self._awaitable = awaitable

    async def __call__(self) -> Any:
        return await self._awaitable

    def __del__(self) -> None:
        # Of a task that was cancelled before its first step.
        loops.discard(self._awaitable)
