"""How a call ended, and the error of several that failed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from verdigris.worlds._call import Call


class Completed:
    """A call of a `Parallel` that has ended. `as_completed` gives these.

    Attributes:
        index: Its place in the order of `schedule`, from 0.
        call: What was called: `function`, `args`, `kwargs`, and as text what it looks like.
    """

    __module__ = "verdigris"
    __slots__ = ("_error", "_value", "call", "index")

    def __init__(self, index: int, call: Call, value: Any, error: Exception | None) -> None:
        """Takes the outcome."""
        self.index = index
        self.call = call
        self._value = value
        self._error = error

    def result(self) -> Any:
        """Gives what the call returned.

        Raises:
            Exception: What it raised.
        """
        if self._error is not None:
            raise self._error
        return self._value

    def exception(self) -> Exception | None:
        """Gives what the call raised, or None."""
        return self._error

    def __repr__(self) -> str:
        how = "returned" if self._error is None else "raised"
        what = self._value if self._error is None else self._error
        return f"<Completed {self.index}: {self.call} {how} {what!r}>"


class CallsFailed(ExceptionGroup[Exception]):
    """Some of the calls that were made together failed. A note of each error says which call.

    Attributes:
        results: The results of all calls in the order of `schedule`; an error in the place of each
            that failed.
    """

    __module__ = "verdigris"

    results: list[Any]

    def __new__(
        cls, message: str, exceptions: Sequence[Exception], results: Sequence[Any] = ()
    ) -> CallsFailed:
        """Makes one, as of any exception group."""
        made = super().__new__(cls, message, exceptions)
        made.results = list(results)
        return made

    def derive(self, excs: Sequence[Exception]) -> CallsFailed:  # type: ignore[override]
        """The group of some of the errors, for `except*`."""
        return CallsFailed(self.message, excs, self.results)


class CallsTimedOut(TimeoutError):
    """Calls that were made together took longer than they may.

    Attributes:
        results: The results so far. Of a `Parallel` they are in the order of `schedule`, with an
            error in the place of each call that failed or had not ended.
    """

    __module__ = "verdigris"

    def __init__(self, message: str, results: Sequence[Any] = ()) -> None:
        """Takes the text and the results."""
        super().__init__(message)
        self.results = list(results)


class CallCancelled(RuntimeError):
    """A call was cancelled, by itself or by the executor that was to make it."""

    __module__ = "verdigris"


def note(error: BaseException, index: int, total: int, call: Call) -> None:
    """Says in the notes of an error which call it is of."""
    text = f"in call {index + 1} of {total}: {call}"
    if text not in getattr(error, "__notes__", ()):
        error.add_note(text)
