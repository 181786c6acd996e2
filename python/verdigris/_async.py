"""`async_`: a sync function that async code can await.

The wrapper returns the engine's `GreenCoroutine` as it is. There is no `async def` between, so a
call costs no second coroutine, and a traceback shows no frame of this file.
"""

import contextvars
import functools
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar, overload

from verdigris._coroutine_function import is_async, mark
from verdigris._engine import GreenCoroutine, async_def

P = ParamSpec("P")
T = TypeVar("T")


@overload
def async_(fn: Callable[P, T], *, with_context: bool = ...) -> Callable[P, GreenCoroutine[T]]: ...


@overload
def async_(
    fn: None = ..., *, with_context: bool = ...
) -> Callable[[Callable[P, T]], Callable[P, GreenCoroutine[T]]]: ...


def async_(fn: Any = None, *, with_context: bool = False) -> Any:
    """Makes a sync function awaitable. Also a decorator, with or without arguments.

    Calling the result starts nothing. The function runs when what the call returned is awaited or
    made a task, on a stack of its own, so that it can call `await_`. Awaiting is a checkpoint
    exactly when the function waits.

    Args:
        fn: The sync function. A `staticmethod` or `classmethod` stays one.
        with_context: By default the function shares the context variables of whoever awaits it:
            what it sets is visible at once. With True it runs in a copy, and the values that it
            changed are written back when it ends, also when it ends with an exception. A variable
            that it made unset again stays as it was, because nothing can unset it outside.

    Returns:
        A function with the same signature whose calls return a `GreenCoroutine`. `inspect` and
        asyncio take it for an `async def` function. Without `fn`: a decorator.

    Raises:
        TypeError: `fn` is not callable, or is an `async def` function already.

    Example:
        >>> import asyncio
        >>> from verdigris import async_, await_
        >>> @async_
        ... def double(number):
        ...     await_(asyncio.sleep(0))
        ...     return 2 * number
        >>> async def main():
        ...     return await asyncio.gather(double(1), double(2))
        >>> asyncio.run(main())
        [2, 4]
    """
    if fn is None:
        return functools.partial(async_, with_context=with_context)
    if isinstance(fn, staticmethod):
        return staticmethod(async_(fn.__func__, with_context=with_context))
    if isinstance(fn, classmethod):
        return classmethod(async_(fn.__func__, with_context=with_context))
    if not callable(fn):
        raise TypeError(
            f"async_() needs a function, not {type(fn).__name__!r}. Pass the function itself, and "
            f"its arguments to what async_() returns: await async_(fn)(*args)."
        )
    if is_async(fn):
        raise TypeError(
            f"async_() makes a sync function awaitable, and "
            f"{getattr(fn, '__qualname__', type(fn).__name__)!r} is async already. Call and await "
            f"it as it is."
        )
    return _starting(_in_a_copied_context(fn) if with_context else fn)


def _starting(fn: Callable[P, T]) -> Callable[P, GreenCoroutine[T]]:
    @functools.wraps(fn)
    def start(*args: P.args, **kwargs: P.kwargs) -> GreenCoroutine[T]:
        return async_def(fn, *args, **kwargs)

    mark(start)
    return start


def _in_a_copied_context(fn: Callable[P, T]) -> Callable[P, T]:
    @functools.wraps(fn)
    def run(*args: P.args, **kwargs: P.kwargs) -> T:
        before = contextvars.copy_context()
        inside = before.copy()
        try:
            return inside.run(fn, *args, **kwargs)
        finally:
            # Only what the function changed: the awaiting side may have set other variables in
            # the meantime, and its values are newer than those of the copy.
            for variable, value in inside.items():
                if variable not in before or before[variable] is not value:
                    variable.set(value)

    return run
