"""`await_` on an `async def` function: the decorator form.

The engine handles what can be awaited, and hands any other argument to :func:`decorate`, which is
registered here once. The decorated function awaits in whatever green function calls it.
"""

import functools
from collections.abc import Awaitable, Callable
from typing import Any, ParamSpec, TypeVar

from verdigris import _engine
from verdigris._coroutine_function import is_async, unmark
from verdigris._engine import await_ as await_

P = ParamSpec("P")
T = TypeVar("T")


def decorate(function: object) -> object:
    """Makes an async function callable from sync code that runs under `async_def`.

    Args:
        function: An `async def` function or a bound method, partial or callable object of that
            kind, or a `staticmethod` or `classmethod` around one.

    Returns:
        A function with the same signature that waits for the result and returns it. A
        `staticmethod` or `classmethod` stays one. `NotImplemented` for what cannot be called at
        all: the engine refuses it, as it refuses all that cannot be awaited.

    Raises:
        TypeError: The argument can be called, but is no async function.
    """
    if isinstance(function, staticmethod):
        return staticmethod(_waiting(_checked(function.__func__)))
    if isinstance(function, classmethod):
        return classmethod(_waiting(_checked(function.__func__)))
    if not callable(function):
        return NotImplemented
    return _waiting(_checked(function))


def _checked(function: Callable[..., Any]) -> Callable[..., Awaitable[Any]]:
    if is_async(function):
        return function
    name = getattr(function, "__qualname__", type(function).__name__)
    raise TypeError(
        f"await_() needs an awaitable or an async function, and {name!r} is neither. Call it, and "
        f"pass what it returns if that is awaitable."
    )


def _waiting(function: Callable[P, Awaitable[T]]) -> Callable[P, T]:
    @functools.wraps(function)
    def wait(*args: P.args, **kwargs: P.kwargs) -> T:
        return await_(function(*args, **kwargs))

    unmark(wait)
    return wait


_engine._register_decorator(decorate)
