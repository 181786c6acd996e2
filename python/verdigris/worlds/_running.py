"""Calls that are made together, on one loop, its threads, and executors."""

from __future__ import annotations

import contextvars
import functools
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass
from types import CoroutineType
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
        # Those that were begun and have not ended; of these, those that are tasks.
        self._open: set[int] = set()
        self._tasks: set[int] = set()
        # Of those that were given to the executor.
        self._futures: dict[int, concurrent.futures.Future[Any]] = {}
        #: Whether calls that have not begun are not to begin.
        self.stopped = False

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
            How it ended; None when all have.

        Raises:
            TimeoutError: The deadline is over.
            KeyboardInterrupt, SystemExit: A call raised it.
        """
        while self._open:
            if not self._mailbox:
                await self._wait(deadline)
            outcome: _Outcome = self._mailbox.take()
            place, value, error = outcome
            self._tasks.discard(place)
            self._futures.pop(place, None)
            if type(value) is CoroutineType:  # of a plain wrapper of an async function
                await self._as_task(place, _same(value))
                continue
            self._open.discard(place)
            if self._next_place < len(self._calls):
                await self.begin()
            call = self._calls[place]
            if isinstance(error, (KeyboardInterrupt, SystemExit)):
                raise error
            if error is not None and not isinstance(error, Exception):
                cancelled = CallCancelled(f"the call {call} was cancelled")
                cancelled.__cause__ = error
                error = cancelled
            return Completed(place, call, value, error)
        return None

    async def _wait(self, deadline: float | None) -> None:
        if deadline is None:
            await self._mailbox.wait()
        elif not await self._group.within(deadline - _monotonic(), self._mailbox.wait):
            raise TimeoutError

    async def stop(self) -> None:
        """Cancels what can be, and waits until no task of ours is left."""
        self.stopped = True
        self._take_back()
        if self._tasks:
            await self._group.cancel()
            await self._group.shielded(self._tasks_to_end)

    def drop(self) -> None:
        """The same, for one who can't wait."""
        self.stopped = True
        self._take_back()
        self._group.drop()

    def _take_back(self) -> None:
        futures, self._futures = self._futures, {}
        for future in futures.values():
            _executors.take_back(future)

    def left(self) -> list[int]:
        """The places of the calls that have not ended."""
        return sorted(self._open) + list(range(self._next_place, len(self._calls)))

    async def _tasks_to_end(self) -> None:
        while self._tasks:
            await self._mailbox.wait()
            while self._mailbox:
                place, value, _ = self._mailbox.take()
                self._tasks.discard(place)
                if type(value) is CoroutineType:
                    value.close()

    # --- beginning one -------------------------------------------------------

    async def _start(self, place: int, call: Call) -> None:
        function = call.function
        if not callable(function):
            future = _executors.future_of(function)
            if future is not None:
                _executors.when_done(future, call, functools.partial(self._put, place))
            else:
                await self._as_task(place, _same(function))
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
        self._tasks.add(place)
        coroutine = self._task(place, make)
        try:
            await self._group.start(coroutine)
        except BaseException:
            coroutine.close()
            raise

    async def _task(self, place: int, make: Callable[[], Awaitable[Any]]) -> None:
        try:
            value = await make()
        except Exception as error:
            self._put(place, None, error)
        except (KeyboardInterrupt, SystemExit) as error:
            self._put(place, None, error)  # and raised in the one who waits
        except BaseException as error:
            self._put(place, None, error)
            raise
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
            self._put(place, None, error)
        else:
            self._put(place, value, None)

    def _put(self, place: int, value: Any, error: BaseException | None) -> None:
        """Notes an outcome. From any thread."""
        self._mailbox.put((place, value, error))


def _same(awaitable: Awaitable[Any]) -> Callable[[], Coroutine[Any, Any, Any]]:
    async def wait() -> Any:
        return await awaitable

    return wait
