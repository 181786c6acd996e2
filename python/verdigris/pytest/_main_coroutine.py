"""The coroutine of a test loop's main task: the green function, which errors can be thrown into.

What happens to the loop while it waits (Ctrl-C, a signal's handler that raises) is meant for the
test that runs. A loop can only cancel its main task, or on Trio interrupt it. What arrives by that
is exchanged for the error that was meant.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any

from verdigris._engine import async_def
from verdigris.green import _wait


class MainCoroutine:
    """Awaitable once: steps the green function."""

    def __init__(self, function: Callable[[], None]) -> None:
        """Takes the green function."""
        self._green: Any = async_def(function)
        self._meant: BaseException | None = None
        #: The last error that came in exchange.
        self.thrown: BaseException | None = None
        #: Called when an exchange has been made.
        self.exchanged: Callable[[], object] = lambda: None

    @property
    def computes(self) -> bool:
        """Whether the calling code is the green function's own, and not the loop's."""
        return _wait.current() is self._green

    @property
    def is_to_throw(self) -> bool:
        """Whether an error has not arrived yet."""
        return self._meant is not None

    def throw_instead(self, error: BaseException) -> None:
        """Has the next exception that the loop throws be this one."""
        # Where it was caught is the loop's business, and no part of the test's traceback.
        self._meant = error.with_traceback(None)

    def __await__(self) -> Generator[Any, Any, None]:
        step, value = self._green.send, None
        while True:
            try:
                waited_for = step(value)
            except StopIteration:
                return
            try:
                step, value = self._green.send, self._exchange_sent((yield waited_for))
            except GeneratorExit:
                self._green.close()
                raise
            except BaseException as error:
                step, value = self._green.throw, self._exchange(error)

    def _exchange(self, error: BaseException) -> BaseException:
        if self._meant is None:
            return error
        self.thrown, self._meant = self._meant, None
        self.exchanged()
        return self.thrown

    def _exchange_sent(self, value: Any) -> Any:
        # Trio throws nothing. It sends an outcome, which its own code unwraps.
        if isinstance(getattr(value, "error", None), KeyboardInterrupt):
            return type(value)(self._exchange(value.error))
        return value
