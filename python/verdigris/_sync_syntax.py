"""Async functions, context managers and iterators in sync syntax."""

from collections.abc import AsyncIterable, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager
from functools import update_wrapper, wraps
from types import TracebackType
from typing import Any, Generic, ParamSpec, TypeVar, overload

from verdigris._coroutine_function import unmark
from verdigris._engine import await_
from verdigris._portal import with_portal_run_sync

P = ParamSpec("P")
T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)
F = TypeVar("F", bound=Callable[..., Any])
AF = TypeVar("AF", bound=Callable[..., Awaitable[Any]])


def autoawait(fn: Callable[P, Awaitable[T]]) -> Callable[P, T]:
    """Makes an async function a sync one that waits. A decorator.

    For what can't be async by its nature: special methods, property setters, callbacks. Unlike
    `await_` as a decorator it takes any function whose calls return something awaitable.

    Args:
        fn: The function.

    Returns:
        A function with the same signature, to be called where `await_` works. A call is a
        checkpoint exactly when awaiting would be one, and raises what `await_` raises.

    Example:
        >>> import asyncio
        >>> from verdigris import autoawait, with_portal_run
        >>> class Box:
        ...     @autoawait
        ...     async def __len__(self):
        ...         return await asyncio.sleep(0, 3)
        >>> async def main():
        ...     return len(Box())
        >>> asyncio.run(with_portal_run(main))
        3
    """

    @wraps(fn)
    def call(*args: P.args, **kwargs: P.kwargs) -> T:
        return await_(fn(*args, **kwargs))

    unmark(call)
    return call


@overload
def decorate_as_sync(decorator: Callable[[F], F]) -> Callable[[AF], AF]: ...


@overload
def decorate_as_sync(
    decorator: Callable[..., Any],
) -> Callable[[Callable[..., Awaitable[Any]]], Callable[..., Awaitable[Any]]]: ...


def decorate_as_sync(decorator: Any) -> Any:
    """Applies a decorator that is made for sync functions to an async one.

    The decorator gets a sync function that waits (`autoawait`), and what it makes of that is
    called by `with_portal_run_sync`. Calling the result adds no checkpoint.

    Args:
        decorator: The decorator: `functools.lru_cache()`, a retry, a timer.

    Returns:
        A decorator for async functions.

    Example:
        >>> import asyncio, functools
        >>> from verdigris import decorate_as_sync
        >>> @decorate_as_sync(functools.lru_cache())
        ... async def fetch(key):
        ...     print("fetching", key)
        ...     return await asyncio.sleep(0, key.upper())
        >>> async def main():
        ...     return await fetch("a"), await fetch("a")
        >>> asyncio.run(main())
        fetching a
        ('A', 'A')
    """

    def decorate(async_fn: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        decorated = decorator(autoawait(async_fn))

        async def call(*args: Any, **kwargs: Any) -> Any:
            return await with_portal_run_sync(decorated, *args, **kwargs)

        return update_wrapper(call, decorated)

    return decorate


class async_context(Generic[T_co]):
    """An async context manager for the `with` statement.

    Args:
        manager: The async context manager.

    Raises:
        TypeError: On entering: it is no async context manager.

    Entering and leaving wait, where `await_` works, and are checkpoints exactly when those of
    `async with` would be.

    Example:
        >>> import asyncio
        >>> from verdigris import async_context, with_portal_run
        >>> lock = asyncio.Lock()
        >>> def locked():
        ...     with async_context(lock):
        ...         return lock.locked()
        >>> async def main():
        ...     return locked(), lock.locked()
        >>> asyncio.run(with_portal_run(main))
        (True, False)
    """

    __slots__ = ("_exit", "_manager")
    _await = staticmethod(await_)

    def __init__(self, manager: AbstractAsyncContextManager[T_co, bool | None]) -> None:
        """Takes the manager and looks at nothing yet, as `async with` would."""
        self._manager = manager
        self._exit: Callable[..., Awaitable[bool | None]] | None = None

    def __enter__(self) -> T_co:
        """Enters the manager and gives what it gives."""
        kind = type(self._manager)
        refusal = (
            f"{kind.__name__!r} object does not support the asynchronous context manager protocol"
        )
        # Special methods are those of the type, as for the statement.
        enter = getattr(kind, "__aenter__", None)
        if enter is None:
            raise TypeError(refusal)
        self._exit = getattr(kind, "__aexit__", None)
        if self._exit is None:
            raise TypeError(f"{refusal} (missed __aexit__ method)")
        entered: T_co = self._await(enter(self._manager))
        return entered

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        """Leaves the manager, and tells whether it has swallowed the exception."""
        assert self._exit is not None
        return self._await(self._exit(self._manager, kind, error, traceback))


class async_iter(Generic[T_co]):
    """An async iterable for the `for` statement.

    Args:
        iterable: The async iterable.

    Raises:
        TypeError: It is none.

    Over an async generator it is a generator: it has `send`, `throw` and `close`, so that
    `yield from` works. Every step waits, where `await_` works, and is a checkpoint exactly when
    that of `async for` would be.

    Example:
        >>> import asyncio
        >>> from verdigris import async_iter, with_portal_run
        >>> async def count(to):
        ...     for number in range(to):
        ...         yield await asyncio.sleep(0, number)
        >>> def collect():
        ...     return list(async_iter(count(3)))
        >>> async def main():
        ...     return collect()
        >>> asyncio.run(with_portal_run(main))
        [0, 1, 2]
    """

    __slots__ = ("_iterator", "_next")
    _await = staticmethod(await_)
    _of_generators: "type[async_iter[Any]]"

    def __init__(self, iterable: AsyncIterable[T_co]) -> None:
        """Asks the iterable for its iterator."""
        get_iterator = getattr(type(iterable), "__aiter__", None)
        if get_iterator is None:
            raise TypeError(
                f"'async_iter' requires an object with __aiter__ method, got "
                f"{type(iterable).__name__}"
            )
        self._iterator: Any = get_iterator(iterable)
        self._next: Any = getattr(type(self._iterator), "__anext__", None)
        if self._next is None:
            raise TypeError(
                f"'async_iter' received an object from __aiter__ that does not implement "
                f"__anext__: {type(self._iterator).__name__}"
            )
        if all(hasattr(self._iterator, name) for name in ("asend", "athrow", "aclose")):
            self.__class__ = self._of_generators

    def __iter__(self) -> Iterator[T_co]:
        """Is its own iterator."""
        return self

    def __next__(self) -> T_co:
        """Waits for the next value."""
        try:
            value: T_co = self._await(self._next(self._iterator))
        except StopAsyncIteration as stop:
            raise StopIteration(*stop.args) from None
        return value


class _async_generator_iter(async_iter[T_co]):
    """`async_iter` over an async generator, or over what looks like one."""

    __slots__ = ()

    def send(self, value: Any) -> T_co:
        """Sends a value to the generator and waits for the next one."""
        return self._value_of(self._iterator.asend(value))

    def throw(self, *exception: Any) -> T_co:
        """Throws an exception into the generator and waits for the next value."""
        return self._value_of(self._iterator.athrow(*exception))

    def close(self) -> None:
        """Closes the generator and waits until it is closed."""
        self._await(self._iterator.aclose())

    def _value_of(self, step: Awaitable[T_co]) -> T_co:
        try:
            return self._await(step)
        except StopAsyncIteration as stop:
            raise StopIteration(*stop.args) from None


async_iter._of_generators = _async_generator_iter
