"""A loop for tests: it runs while a test or a fixture does, and stands still in between.

All that is run on it runs in one green function, one after the other, in the loop's main task. So
a fixture, the tests that use it, and its end have the same loop, the same task and the same
context, whatever the fixture's scope is. While pytest does its own work no loop runs in the
thread, so that plugins for async tests can run theirs.

    pytest        run(setup)  |             run(test)      |           close()
    the loop      ...waits    setup, done, ...waits        test, done, ...waits   end
                  ^ stands still           ^ stands still
"""

from __future__ import annotations

import contextlib
import contextvars
import importlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any, Generic, TypeVar, cast

import pytest

from verdigris import _inner_loop
from verdigris._patch_in_place import is_patched
from verdigris.loops import _reactors
from verdigris.pytest._main_coroutine import MainCoroutine

T = TypeVar("T")

#: The test that the running code belongs to; None for what is meant to outlive it. Tasks inherit
#: it, so it tells whose they are.
_owner: contextvars.ContextVar[object] = contextvars.ContextVar("verdigris test", default=None)

# How many turns of the loop a test's tasks get to end, after the test.
_TURNS_TO_END = 10


class LeakedTaskWarning(pytest.PytestWarning):
    """Tasks that a green test has started were still running after it. They were cancelled."""

    __module__ = "verdigris.pytest"


class _Job(Generic[T]):
    """One call that is made on the loop, and how it ended."""

    def __init__(self, function: Callable[[], T], owner: object) -> None:
        self.function = function
        self.owner = owner
        #: Whether an error is not the function's own, but came from outside while it waited.
        self.is_from_outside: Callable[[BaseException], bool] = lambda error: False
        self.ended = False
        self._value: T | None = None
        self._error: BaseException | None = None

    def __call__(self) -> None:
        __tracebackhide__ = True
        token = _owner.set(self.owner)
        try:
            self._value = self.function()
        except BaseException as error:
            self._error = error
        finally:
            self.ended = True
            _owner.reset(token)

    def result(self) -> T:
        __tracebackhide__ = True
        error, self._error = self._error, None
        if error is None:
            return cast(T, self._value)
        if isinstance(error, KeyboardInterrupt) or self.is_from_outside(error):
            _cut_waiting(error.__traceback__)
        try:
            raise error
        finally:
            del error  # the traceback has this frame


def _cut_waiting(trace: TracebackType | None) -> None:
    """Takes away the end of a traceback that shows how a loop waits: the line before it waited."""
    last = trace
    while trace is not None:
        if trace.tb_frame.f_globals.get("__name__", "").partition(".")[0] not in _WAITING:
            last = trace
        trace = trace.tb_next
    if last is not None:
        last.tb_next = None


_WAITING = {"asyncio", "uvloop", "trio", "outcome", "verdigris"}


class TestLoop(ABC):
    """A loop for tests. It begins with the first call of `run`."""

    __test__ = False

    def __init__(self, name: str) -> None:
        """Takes the name that users give it."""
        self.name = name
        #: Whether it has ended in an error, by which nothing can be run on it any more.
        self.broken = False
        self._job: _Job[Any] | None = None
        self._main = MainCoroutine(self._serve)
        self._closing = False

    def run(self, function: Callable[[], T], owner: object = None) -> T:
        """Calls a function on the loop, in the green function that is there for it.

        Args:
            function: The sync function. It may wait.
            owner: The test that it belongs to; None if what it starts may outlive the test.

        Returns:
            What the function returns.

        Raises:
            BaseException: Whatever the function raises.
            RuntimeError: The loop has ended by an error before.
        """
        __tracebackhide__ = True
        if self._job is not None:
            return function()  # it is called from there
        job = self._job = _Job(function, owner)
        job.is_from_outside = lambda error: error is self._main.thrown
        try:
            with alone():
                self._advance(job)
        except BaseException:
            self.broken = not job.ended
            raise
        finally:
            self._job = None
        value: T = job.result()
        return value

    def end_tasks_of(self, owner: object) -> list[str]:
        """Gives the tasks of a test some turns to end, and cancels those that are left.

        Returns:
            The names of these.
        """

        def end() -> list[str]:
            for _ in range(_TURNS_TO_END):
                if not self._tasks_of(owner):
                    return []
                self._turn()
            return self._cancel(owner)

        return self.run(end)

    @abstractmethod
    def _advance(self, job: _Job[Any]) -> None:
        """Runs the loop until the job has ended."""

    def close(self) -> None:
        """Ends the loop. What tasks there are still are cancelled.

        Raises:
            BaseException: What the loop ended by.
        """
        self._closing = True
        with alone():
            self._end()

    @abstractmethod
    def _end(self) -> None:
        """Runs the loop to its end."""

    @abstractmethod
    def _wait_for_job(self) -> None:
        """Waits, in the green function, for the loop to be run again."""

    @abstractmethod
    def _job_has_ended(self) -> None:
        """Has the loop stand still."""

    @abstractmethod
    def _turn(self) -> None:
        """Lets the loop go round once. Called on it."""

    @abstractmethod
    def _tasks_of(self, owner: object) -> list[Any]:
        """Finds the tasks that a test has started and that run. Called on the loop."""

    @abstractmethod
    def _cancel(self, owner: object) -> list[str]:
        """Cancels these, waits a second at most for their end, and names them."""

    def _serve(self) -> None:
        """The green function."""
        __tracebackhide__ = True
        _reactors.of_running_loop()
        _inner_loop.allow()
        while True:
            while self._job is None or self._job.ended:
                if self._closing:
                    return
                self._wait_for_job()
            with _as_main_thread():
                self._job()
            self._job_has_ended()


@contextlib.contextmanager
def _as_main_thread() -> Iterator[None]:
    """Has green `threading` take the green function for the main thread, where it is patched."""
    if not is_patched("threading"):
        yield
        return
    green: Any = importlib.import_module("verdigris.green.threading")
    main: AbstractContextManager[None] = green._as_main_thread()
    with main:
        yield


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """Hides a loop that somebody has left in the thread.

    anyio does: a guest run of Trio, as long as an async fixture lasts.
    """
    outside = _inner_loop._Current()
    outside.hide()
    try:
        yield
    finally:
        outside.show()


def start(name: str) -> TestLoop:
    """Makes a loop for tests.

    Args:
        name: asyncio, uvloop or trio. It must be installed.
    """
    if name == "trio":
        from verdigris.pytest._trio_loop import TrioTestLoop

        with alone():
            return TrioTestLoop()
    from verdigris.pytest._asyncio_loop import AsyncioTestLoop

    return AsyncioTestLoop(name)
