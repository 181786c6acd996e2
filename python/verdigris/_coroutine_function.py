"""What counts as an `async def` function, and how a plain function is marked as one.

Frameworks decide by `inspect.iscoroutinefunction` or asyncio's function of the same name whether
a handler's result must be awaited. A function that returns a `GreenCoroutine` has to be seen as
one, although no `async def` made it.

- 3.12 and later: `inspect.markcoroutinefunction` is made for this.
- 3.11: `inspect` looks at the code's `CO_COROUTINE` flag alone, so the function gets code that
  carries it. `types.coroutine` in the standard library marks generator functions the same way.
  Since 3.11 calling reads no such flag: the `RETURN_GENERATOR` instruction makes coroutines.
"""

import functools
import inspect
import sys
from collections.abc import Callable
from types import FunctionType
from typing import Any, TypeGuard

# How the standard library and Cython have marked functions, on the function itself.
_MARKS = ("_is_coroutine", "_is_coroutine_mark", "_is_coroutine_marker")


def mark(function: Callable[..., Any]) -> None:
    """Makes `inspect` and asyncio take a plain Python function for an `async def` one.

    Args:
        function: A function written in Python. It is changed in place.
    """
    if sys.version_info >= (3, 12):
        inspect.markcoroutinefunction(function)
    else:
        assert isinstance(function, FunctionType)
        code = function.__code__
        function.__code__ = code.replace(co_flags=code.co_flags | inspect.CO_COROUTINE)


def unmark(function: Callable[..., Any]) -> None:
    """Takes away the marks that `functools.wraps` copied from an async function.

    Args:
        function: The sync wrapper of an async function. It is changed in place.
    """
    for name in _MARKS:
        vars(function).pop(name, None)


def is_async(candidate: object) -> TypeGuard[Callable[..., Any]]:
    """Tells whether calling an object gives a coroutine.

    Args:
        candidate: Any object.

    Returns:
        True for `async def` functions, marked functions, their bound methods and partials, and
        for objects whose class has an async `__call__`. False for classes.
    """
    # Most are plain functions with the flag. `inspect` takes ten times as long to see that.
    if type(candidate) is FunctionType and candidate.__code__.co_flags & inspect.CO_COROUTINE:
        return True
    while isinstance(candidate, functools.partial):
        candidate = candidate.func
    if inspect.iscoroutinefunction(candidate) or _has_asyncio_mark(candidate):
        return True
    # A class is called to make an instance, whatever `__call__` its instances have.
    if isinstance(candidate, type) or not callable(candidate):
        return False
    return inspect.iscoroutinefunction(type(candidate).__call__)


def _has_asyncio_mark(candidate: object) -> bool:
    # Compiled functions (Cython) carry this mark, which `inspect` never looked at. Whoever set it
    # imported asyncio, so there is no need to import it here. `asyncio.iscoroutinefunction` would
    # tell too, but is deprecated since 3.14.
    coroutines = sys.modules.get("asyncio.coroutines")
    if coroutines is None:
        return False
    asyncio_mark = getattr(coroutines, "_is_coroutine", None)
    return asyncio_mark is not None and getattr(candidate, "_is_coroutine", None) is asyncio_mark
