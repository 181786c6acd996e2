"""A call that is made later: what is called, with which arguments."""

import reprlib
from typing import Any

# Arguments are shown in errors, and may be large.
_short = reprlib.Repr()
_short.maxstring = _short.maxother = 40


class Call:
    """A function and its arguments."""

    __slots__ = ("args", "function", "kwargs")

    def __init__(self, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Takes what will be called; or, without arguments, what will be waited for."""
        self.function = function
        self.args = args
        self.kwargs = kwargs

    def __str__(self) -> str:
        """What the call looks like in code, shortened."""
        if not callable(self.function):
            name = getattr(self.function, "__qualname__", None)
            if isinstance(name, str):  # a coroutine's
                return f"<{type(self.function).__name__} {name}>"
            return _short.repr(self.function)
        given = [_short.repr(value) for value in self.args]
        given += [f"{name}={_short.repr(value)}" for name, value in self.kwargs.items()]
        return f"{name_of(self.function)}({', '.join(given)})"


def checked(caller: str, call: Call) -> Call:
    """Gives a call back that can be made.

    Raises:
        TypeError: It can neither be made nor waited for.
    """
    function = call.function
    if callable(function):
        return call
    can_be_waited_for = hasattr(function, "__await__") or hasattr(function, "add_done_callback")
    if can_be_waited_for and not call.args and not call.kwargs:
        return call
    raise TypeError(
        f"{caller}() needs a function, with its arguments after it, or something that can be "
        f"awaited, without any; not {type(function).__name__!r}. Pass the function itself."
    )


def name_of(function: Any) -> str:
    """A function's name, as an error shows it."""
    while not hasattr(function, "__qualname__") and hasattr(function, "func"):
        function = function.func
    name = getattr(function, "__qualname__", None)
    return name if isinstance(name, str) else type(function).__qualname__
