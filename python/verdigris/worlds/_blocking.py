"""`to_blocking` and `block`: an async function as a blocking one, wherever it is called."""

from __future__ import annotations

import functools
import sys
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Literal, ParamSpec, TypeVar, overload

from verdigris import loops
from verdigris._coroutine_function import is_async, unmark
from verdigris._engine import _register_block, await_, can_await
from verdigris._engine import block as block
from verdigris.worlds import _crew, _home, _pool, _thread_loop
from verdigris.worlds._call import name_of
from verdigris.worlds._to_async import to_async

if TYPE_CHECKING:
    import concurrent.futures

P = ParamSpec("P")
T = TypeVar("T")

Library = Literal["asyncio", "trio", "curio"]


@overload
def to_blocking(
    fn: Callable[P, Awaitable[T]], /, *, library: Library | None = ...
) -> Callable[P, T]: ...


@overload
def to_blocking(fn: Callable[P, T], /, *, library: Library | None = ...) -> Callable[P, T]: ...


@overload
def to_blocking(
    fn: None = ..., /, *, library: Library | None = ...
) -> Callable[[Callable[P, Awaitable[T]]], Callable[P, T]]: ...


def to_blocking(fn: Any = None, /, *, library: Library | None = None) -> Any:
    """Makes a blocking function of an async one. Also a decorator, with or without arguments.

    What is blocking already is returned unchanged, partials too. The function waits in the way that
    fits where it is called:

    - in a green function, or a task with a portal, it waits as `await_` does, and blocks nothing;
    - in a thread without a loop, the coroutine runs on the thread's own asyncio loop, which is made
      once and closed when the thread ends. On threads that work for a Trio or curio run (`to_async`
      there), it runs on that library: on Trio in the run that waits for the thread;
    - in async code without a portal, it runs on another thread, with a copy of the context
      variables. The loop is blocked meanwhile, which the blocking-call detector tells; what needs
      that very loop to go on would wait for ever.

    In a green function a call is a checkpoint if the function waits.

    Args:
        fn: The function.
        library: Whose function it is, where that can't be seen: in a thread without a loop.

    Returns:
        A blocking function with the same signature.

    Raises:
        TypeError: `fn` is not callable.
        ValueError: `library` is none of "asyncio", "trio", "curio".

    Example:
        >>> import asyncio
        >>> from verdigris import to_blocking
        >>> nap = to_blocking(asyncio.sleep)
        >>> nap(0, "rested")
        'rested'
    """
    if fn is None:
        return functools.partial(to_blocking, library=library)
    if library not in (None, "asyncio", "trio", "curio"):
        raise ValueError(f'library is "asyncio", "trio" or "curio", not {library!r}')
    if isinstance(fn, staticmethod):
        return staticmethod(to_blocking(fn.__func__, library=library))
    if isinstance(fn, classmethod):
        return classmethod(to_blocking(fn.__func__, library=library))
    if not callable(fn):
        raise TypeError(
            f"to_blocking() needs a function, not {type(fn).__name__!r}. Pass the async function "
            f"itself, and its arguments to what to_blocking() returns: to_blocking(fn)(*args)."
        )
    if not is_async(fn):
        return fn

    @functools.wraps(fn)
    def call(*args: Any, **kwargs: Any) -> Any:
        if not can_await():
            return _outside(library, fn, args, kwargs)
        if library is not None and library != (loops.running_library() or library):
            # Of another library than the loop that goes on meanwhile.
            return await_(to_async(_without_loop)(library, None, fn, args, kwargs))
        return await_(fn(*args, **kwargs))

    unmark(call)
    return call


def _block_elsewhere(fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
    """`block`, where no stack of the engine runs."""
    if can_await():  # through another library's greenlet
        return _finish(fn, fn(*args, **kwargs))
    if is_async(fn):
        return _outside(None, fn, args, kwargs)
    result = fn(*args, **kwargs)
    if loops.is_coroutine(result):  # of a plain wrapper of an async function
        return _outside(None, lambda: result, (), {})
    return result


def _finish(fn: Callable[..., Any], result: Any) -> Any:
    """Waits for what a function gave, if it is an async one."""
    if loops.is_coroutine(result) or is_async(fn):
        return await_(result)
    return result


_register_block(_block_elsewhere, _finish)


def _outside(
    library: str | None, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    """Waits where there is nothing to wait through."""
    running = loops.running_library()
    crew = _crew.of_this_worker()
    if crew is not None:
        with crew:
            return _wherever_it_runs(running, library, fn, args, kwargs)
    return _wherever_it_runs(running, library, fn, args, kwargs)


def _wherever_it_runs(
    running: str | None,
    library: str | None,
    fn: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> Any:
    if running is not None:
        blocked = functools.partial(_without_loop, library or running, None, fn, args, kwargs)
        return _pool.default_pool().submit(_in_context(blocked)).result()
    home, token = _home.current()
    if home == "asyncio" and _works_for_trio():
        home = "trio"
    return _without_loop(library or home, token, fn, args, kwargs)


def _in_context(function: Callable[[], T]) -> Callable[[], T]:
    import contextvars

    return functools.partial(contextvars.copy_context().run, function)


def _without_loop(
    library: str,
    token: Any,
    fn: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> Any:
    """Waits in a thread in which no loop runs."""
    if library == "asyncio":
        return _thread_loop.run(_coroutine(fn(*args, **kwargs)))
    call = functools.partial(fn, *args, **kwargs)
    if library == "trio":
        import trio

        if token is not None or _works_for_trio():
            return trio.from_thread.run(call, trio_token=token)
        return trio.run(call)
    import curio

    return curio.run(call)


def _works_for_trio() -> bool:
    """Whether this thread is one of `trio.to_thread`."""
    threads: Any = sys.modules.get("trio._threads")
    if threads is None:
        return False
    parent = getattr(threads, "PARENT_TASK_DATA", None)
    return hasattr(parent, "token")


def _coroutine(awaitable: Any) -> Any:
    """A coroutine of an awaitable: a loop makes tasks of nothing else."""
    return awaitable if loops.is_coroutine(awaitable) else _wait(awaitable)


async def _wait(awaitable: Awaitable[T]) -> T:
    return await awaitable


@overload
def queue_background_thread(
    fn: Callable[P, Awaitable[T]], /, *args: P.args, **kwargs: P.kwargs
) -> concurrent.futures.Future[T]: ...


@overload
def queue_background_thread(
    fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs
) -> concurrent.futures.Future[T]: ...


def queue_background_thread(
    fn: Callable[..., Any], /, *args: Any, **kwargs: Any
) -> concurrent.futures.Future[Any]:
    """Calls a function on a thread of verdigris' pool, and does not wait for it.

    The pool grows while all of its threads are blocked, so the call hardly ever has to wait for
    another. An async function runs on the loop of its thread. Context variables are carried over.
    The interpreter waits for it when it exits. Not a checkpoint.

    Args:
        fn: The function, async or blocking.
        *args: Its positional arguments.
        **kwargs: Its keyword arguments.

    Returns:
        The `concurrent.futures.Future` of the call.

    Raises:
        TypeError: `fn` is not callable.
        RuntimeError: The interpreter is exiting.

    Example:
        >>> from verdigris import queue_background_thread
        >>> queue_background_thread(sum, [1, 2]).result()
        3
    """
    if not callable(fn):
        raise TypeError(f"queue_background_thread() needs a function, not {name_of(fn)!r}")
    import contextvars

    call: Callable[[], Any] = functools.partial(to_blocking(fn), *args, **kwargs)
    return _pool.default_pool().submit(contextvars.copy_context().run, call)
