"""`to_async`: a blocking function as an async one, and `run`, which takes either kind."""

from __future__ import annotations

import contextvars
import functools
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Literal, ParamSpec, TypeVar, overload

from verdigris import loops
from verdigris._coroutine_function import is_async
from verdigris._engine import async_def
from verdigris.worlds import _home, _pool
from verdigris.worlds._call import Call, name_of
from verdigris.worlds._executors import submitted

if TYPE_CHECKING:
    import concurrent.futures

P = ParamSpec("P")
T = TypeVar("T")

Where = Literal["thread", "green"]


@overload
def to_async(
    fn: Callable[P, Awaitable[T]],
    /,
    *,
    where: Where = ...,
    executor: concurrent.futures.Executor | None = ...,
) -> Callable[P, Awaitable[T]]: ...


@overload
def to_async(
    fn: Callable[P, T],
    /,
    *,
    where: Where = ...,
    executor: concurrent.futures.Executor | None = ...,
) -> Callable[P, Awaitable[T]]: ...


@overload
def to_async(
    fn: None = ...,
    /,
    *,
    where: Where = ...,
    executor: concurrent.futures.Executor | None = ...,
) -> Callable[[Callable[P, T]], Callable[P, Awaitable[T]]]: ...


def to_async(
    fn: Any = None,
    /,
    *,
    where: Where = "thread",
    executor: concurrent.futures.Executor | None = None,
) -> Any:
    """Makes an async function of a blocking one. Also a decorator, with or without arguments.

    What is async already is returned unchanged: `async def` functions, those that
    `inspect.markcoroutinefunction` marked, their bound methods and partials, and objects with an
    async `__call__`. A plain wrapper that returns the coroutine of an async function is called
    where it is told to, and its coroutine is awaited on the loop.

    Works on asyncio, uvloop, Trio and curio. The function sees a copy of the caller's context
    variables (not in another process). A caller that is cancelled goes on at once: a function that
    has not begun never does, one on a thread comes to its end unseen, and a green one is cancelled.

    Args:
        fn: The function.
        where: "thread" calls it on a thread of verdigris' pool, which grows while all of its
            threads are blocked. "green" calls it on this thread, with `async_def`: for functions
            that wait in green ways only (`await_`, patched modules), some hundred times as fast.
        executor: Any `concurrent.futures.Executor` to call it in, instead of the pool.

    Returns:
        An async function with the same signature. Awaiting it is a checkpoint; with "green" only
        if the function waits.

    Raises:
        TypeError: `fn` is not callable; or `executor` was given together with `where="green"`.
        ValueError: `where` is something else.

    Example:
        >>> import asyncio, time
        >>> from verdigris import to_async
        >>> async def main():
        ...     nap = to_async(time.sleep)
        ...     await asyncio.gather(*(nap(0.01) for _ in range(100)))  # 0.01 s, not 1 s
        >>> asyncio.run(main())
    """
    if fn is None:
        return functools.partial(to_async, where=where, executor=executor)
    if where not in ("thread", "green"):
        raise ValueError(f'to_async() runs functions where="thread" or "green", not {where!r}')
    if executor is not None and where == "green":
        raise TypeError('to_async() takes an executor or where="green", not both')
    if isinstance(fn, staticmethod):
        return staticmethod(to_async(fn.__func__, where=where, executor=executor))
    if isinstance(fn, classmethod):
        return classmethod(to_async(fn.__func__, where=where, executor=executor))
    if not callable(fn):
        raise TypeError(
            f"to_async() needs a function, not {type(fn).__name__!r}. Pass the function itself, "
            f"and its arguments to what to_async() returns: await to_async(fn)(*args)."
        )
    if is_async(fn):
        return fn
    if where == "green":
        return _green(fn)
    return _on_thread(fn) if executor is None else _in_executor(fn, executor)


def _on_thread(fn: Callable[..., Any]) -> Callable[..., Awaitable[Any]]:
    @functools.wraps(fn)
    async def call(*args: Any, **kwargs: Any) -> Any:
        delivery = loops.delivery()
        context = contextvars.copy_context()
        _pool.default_pool().start(functools.partial(_work, delivery, context, fn, args, kwargs))
        del context, args, kwargs
        value = await delivery.wait()
        return await value if loops.is_coroutine(value) else value

    return call


def _work(
    delivery: loops.Delivery,
    context: contextvars.Context,
    fn: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> None:
    """Calls the function on a thread."""
    if delivery.abandoned:
        return
    try:
        if delivery.home is None:
            value = context.run(fn, *args, **kwargs)
        else:
            with _home.of(*delivery.home):
                value = context.run(fn, *args, **kwargs)
    except BaseException as error:
        del fn, args, kwargs, context
        error.__traceback__ = error.__traceback__ and error.__traceback__.tb_next
        delivery.deliver(None, error)
    else:
        del fn, args, kwargs, context
        delivery.deliver(value, None)


def _in_executor(
    fn: Callable[..., Any], executor: concurrent.futures.Executor
) -> Callable[..., Awaitable[Any]]:
    @functools.wraps(fn)
    async def call(*args: Any, **kwargs: Any) -> Any:
        value = await submitted(executor, Call(fn, args, kwargs))
        return await value if loops.is_coroutine(value) else value

    return call


def _green(fn: Callable[..., Any]) -> Callable[..., Awaitable[Any]]:
    @functools.wraps(fn)
    async def call(*args: Any, **kwargs: Any) -> Any:
        value = await async_def(fn, *args, **kwargs)
        return await value if loops.is_coroutine(value) else value

    return call


@overload
async def run(fn: Callable[P, Awaitable[T]], /, *args: P.args, **kwargs: P.kwargs) -> T: ...


@overload
async def run(fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T: ...


async def run(fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
    """Calls a function from async code, whether it is async or blocking.

    An async function is awaited here. A blocking one runs on a thread, as with `to_async`, which is
    a checkpoint.

    Args:
        fn: The function.
        *args: Its positional arguments.
        **kwargs: Its keyword arguments.

    Returns:
        What the function returns.

    Raises:
        BaseException: Whatever the function raises.
        TypeError: `fn` is not callable.

    Example:
        >>> import asyncio, time
        >>> from verdigris import run
        >>> async def main():
        ...     return await run(asyncio.sleep, 0, "async"), await run(time.sleep, 0)
        >>> asyncio.run(main())
        ('async', None)
    """
    if not callable(fn):
        raise TypeError(f"run() needs a function, not {type(fn).__name__!r} ({name_of(fn)})")
    return await to_async(fn)(*args, **kwargs)
