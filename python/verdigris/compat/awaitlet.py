"""Drop-in for the package `awaitlet`: its names, its error types, its texts.

    import verdigris.compat.awaitlet as awaitlet

One promise is wider: "awaitlet() calls cannot be nested" there, and can be here, at any depth.
The errors are `RuntimeError`s here, where they were plain `Exception`s.
"""

from collections.abc import Awaitable, Callable
from types import FunctionType
from typing import Any, TypeVar

from verdigris import GreenCoroutine, NoAwaitContext, await_
from verdigris import NoAwaitOccurred as NoAwaitOccurred
from verdigris import async_def as _async_def
from verdigris._coroutine_function import mark as _mark

__all__ = ["NoAwaitOccurred", "NoAwaitletContext", "async_def", "awaitlet"]

_T = TypeVar("_T")


class NoAwaitletContext(NoAwaitContext):
    """`awaitlet` was called where there is nothing to await in."""


def awaitlet(awaitable: Awaitable[_T]) -> _T:
    """Awaits an awaitable in a sync function that runs under `async_def`.

    Args:
        awaitable: The coroutine, future, or other awaitable.

    Returns:
        Its result.

    Raises:
        NoAwaitletContext: The call stack was not entered with `async_def`. A coroutine is closed.
        TypeError: The argument cannot be awaited.
        BaseException: Whatever the awaitable raises.
    """
    try:
        result = await_(awaitable)
    except NoAwaitContext as error:
        # Ours only if it comes straight from this call. One from deeper belongs to that code.
        if error.__traceback__ is None or error.__traceback__.tb_next is not None:
            raise
        raise NoAwaitletContext(
            "Can't call awaitlet() unless the call stack was invoked with async_def()."
        ) from error
    # `await_` is a decorator too. `awaitlet` never was: a function passed here is one that
    # somebody forgot to call.
    if type(result) is FunctionType and getattr(result, "__wrapped__", None) is awaitable:
        raise TypeError(
            f"object {type(awaitable).__name__} can't be awaited. Call it: awaitlet(fn(...))."
        )
    return result


def async_def(
    fn: Callable[..., _T],
    *args: Any,
    assert_await_occurs: bool = False,
    **kwargs: Any,
) -> GreenCoroutine[_T]:
    """Runs a sync function so that it can use `awaitlet`.

    Args:
        fn: The sync function.
        *args: Its positional arguments.
        assert_await_occurs: Whether to raise if the function never called `awaitlet`.
        **kwargs: Its keyword arguments.

    Returns:
        What the function returns, when awaited. A checkpoint exactly when the function waits.

    Raises:
        NoAwaitOccurred: With `assert_await_occurs`, the function ended without a wait.
    """
    # Without its keyword the engine's call is the short one.
    if assert_await_occurs:
        return _async_def(fn, *args, assert_await_occurs=True, **kwargs)
    return _async_def(fn, *args, **kwargs)


# It was an `async def` function, and frameworks asked.
_mark(async_def)
