"""Drop-in for the package `greenback` 1.3: its names, its signatures, its errors and their texts.

    import verdigris.compat.greenback as greenback

What verdigris can do and greenback can't (trees of tasks on asyncio, other loop libraries) is
refused here with greenback's errors, so that a program behaves as it did. The names of `verdigris`
itself have no such limits.

Which library runs is asked of sniffio, as greenback does, but only where a portal is set up or an
error is told. `await_` in a task with a portal is one call of the engine.
"""

import inspect
from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Coroutine,
    Iterator,
)
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from functools import update_wrapper, wraps
from types import GeneratorType, ModuleType
from typing import Any, TypeVar, overload

import verdigris as _verdigris
from verdigris import AutoPortalInstrument as AutoPortalInstrument
from verdigris import NoAwaitContext as _NoAwaitContext
from verdigris import PortalCoroutine as _PortalCoroutine
from verdigris import await_ as _await
from verdigris import can_await as _can_await
from verdigris import has_portal as has_portal
from verdigris._coroutine_function import unmark as _unmark
from verdigris._sync_syntax import _async_generator_iter
from verdigris._sync_syntax import async_context as _async_context
from verdigris._sync_syntax import async_iter as _async_iter
from verdigris.loops import host_of as _host_of
from verdigris.loops import running_host as _running_host

__all__ = [
    "AutoPortalInstrument",
    "async_context",
    "async_iter",
    "autoawait",
    "await_",
    "bestow_portal",
    "decorate_as_sync",
    "ensure_portal",
    "has_portal",
    "portals_for_children",
    "portals_for_tree",
    "with_portal_run",
    "with_portal_run_sync",
    "with_portal_run_tree",
]

_T = TypeVar("_T")
_T_co = TypeVar("_T_co", covariant=True)
_F = TypeVar("_F", bound=Callable[..., Any])
_AF = TypeVar("_AF", bound=Callable[..., Awaitable[Any]])


# --- waiting -----------------------------------------------------------------


def await_(aw: Awaitable[_T]) -> _T:
    """Awaits an awaitable in a sync function, by the portal of the current task.

    A checkpoint exactly when the `await` statement would be one.

    Args:
        aw: The coroutine, future, or other awaitable. A function is none: this is no decorator.

    Returns:
        Its result.

    Raises:
        RuntimeError: There is no portal here, or it does not work yet, or no task runs. A
            coroutine is closed, and a future is left alone.
        sniffio.AsyncLibraryNotFoundError: No event loop runs here. It is a `RuntimeError`.
        TypeError: The argument cannot be awaited.
        BaseException: Whatever the awaitable raises.
    """
    # The type is asked, as the statement does, and not `inspect`, which takes eight times as long.
    if not hasattr(type(aw), "__await__") and not _is_generator_to_await(aw):
        raise _why_not_awaitable(aw) if _can_await() else _why_no_portal()
    try:
        return _await(aw)
    except _NoAwaitContext as error:
        if _can_await():
            raise  # not of this call: the awaitable has raised it
        # The engine has closed a native coroutine. There are other classes of them.
        if isinstance(aw, Coroutine):
            aw.close()
        raise _why_no_portal() from error


def _is_generator_to_await(candidate: object) -> bool:
    if not isinstance(candidate, GeneratorType):
        return False
    return bool(candidate.gi_code.co_flags & inspect.CO_ITERABLE_COROUTINE)


def _why_not_awaitable(candidate: Any) -> TypeError:
    """What the interpreter says to `await candidate`. The text differs between its versions."""

    async def awaiting() -> None:
        await candidate

    try:
        awaiting().send(None)
    except TypeError as error:
        return error.with_traceback(None)
    raise AssertionError(f"{candidate!r} can be awaited")


def _why_no_portal() -> Exception:
    """What greenback says where `await_` can't wait."""
    try:
        task = _current_task()
    except RuntimeError as error:
        return error
    host = _host_of(task)
    if host is not None and isinstance(host.coroutine(task), _PortalCoroutine):
        return RuntimeError(
            f"You must yield to the event loop (try 'await {host.name}.sleep(0)') after calling "
            f"'greenback.bestow_portal()' on the current task before using the portal"
        )
    return RuntimeError(
        "You must create a greenback portal for this task in order to use 'greenback.await_()'. "
        "Try 'await greenback.ensure_portal()' or "
        "'await greenback.with_portal_run(some_fn, *args)'."
    )


def _current_task() -> Any:
    library = _sniffio().current_async_library()
    if library == "trio":
        import trio

        return trio.lowlevel.current_task()
    if library == "asyncio":
        import asyncio

        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("No asyncio task is running")
        return task
    raise RuntimeError(f"greenback does not support {library}")


def _sniffio() -> ModuleType:
    try:
        import sniffio
    except ImportError as error:
        raise ImportError(
            "verdigris.compat.greenback needs the package sniffio, as greenback did, to tell which "
            "event loop runs: pip install verdigris[greenback]"
        ) from error
    return sniffio


# --- portals -----------------------------------------------------------------


async def ensure_portal() -> None:
    """Makes the current task able to use `await_`, from here to its end.

    A second call changes nothing. Always a checkpoint, of schedule and of cancellation.

    Raises:
        RuntimeError: No task of asyncio or Trio runs the caller.
        sniffio.AsyncLibraryNotFoundError: No event loop runs here. It is a `RuntimeError`.
    """
    if not _can_await():
        _current_task()  # for its errors
    await _verdigris.ensure_portal()


def bestow_portal(task: Any) -> None:
    """Makes a task able to use `await_`, from its next step on.

    For the current task that is after it has yielded to the loop. Not a checkpoint.

    Args:
        task: A task of asyncio or Trio. One that has a portal keeps it, and one that has ended
            stays as it is.

    Raises:
        TypeError: It is no task.
        RuntimeError: Its loop runs in another thread.
    """
    host = _host_of(task)
    if host is None or not host.has_ended(task):
        _verdigris.bestow_portal(task)


async def with_portal_run(async_fn: Callable[..., Awaitable[_T]], *args: Any, **kwds: Any) -> _T:
    """Awaits an async function so that sync functions below it can use `await_`.

    An existing portal is used. Adds no checkpoint to those of the function.

    Args:
        async_fn: The async function.
        *args: Its positional arguments.
        **kwds: Its keyword arguments.

    Returns:
        What the function returns.

    Raises:
        RuntimeError: No task of asyncio or Trio runs the caller.
        sniffio.AsyncLibraryNotFoundError: No event loop runs here. It is a `RuntimeError`.
        BaseException: Whatever the function raises.
    """
    if not _can_await():
        _current_task()  # for its errors
    return await _verdigris.with_portal_run(async_fn, *args, **kwds)


async def with_portal_run_sync(sync_fn: Callable[..., _T], *args: Any, **kwds: Any) -> _T:
    """Calls a sync function so that it can use `await_`.

    An existing portal is used. Adds no checkpoint to those of the function.

    Args:
        sync_fn: The sync function.
        *args: Its positional arguments.
        **kwds: Its keyword arguments.

    Returns:
        What the function returns.

    Raises:
        RuntimeError: No task of asyncio or Trio runs the caller.
        sniffio.AsyncLibraryNotFoundError: No event loop runs here. It is a `RuntimeError`.
        BaseException: Whatever the function raises.
    """
    if _can_await():
        return sync_fn(*args, **kwds)
    _current_task()  # for its errors
    return await _verdigris.with_portal_run_sync(sync_fn, *args, **kwds)


@contextmanager
def portals_for_children() -> Iterator[None]:
    """Gives a portal to the tasks of nurseries that are opened within, and to their children.

    The current task gets none. Trio only, as in greenback. No checkpoint.

    Raises:
        RuntimeError: Trio does not run the caller.
    """
    _demand_trio()
    with _verdigris.portals_for_children():
        yield


@asynccontextmanager
async def portals_for_tree() -> AsyncIterator[None]:
    """Gives a portal to the current task, for the block, and to the children it starts within.

    Entering and leaving it are schedule points, but no cancellation points. Trio only, as in
    greenback.

    Raises:
        RuntimeError: Trio does not run the caller.
    """
    _demand_trio()
    async with _verdigris.portals_for_tree():
        yield


async def with_portal_run_tree(
    async_fn: Callable[..., Awaitable[_T]], *args: Any, **kwds: Any
) -> _T:
    """Awaits an async function so that it and all tasks it starts can use `await_`.

    Trio only, as in greenback. Adds no checkpoint to those of the function.

    Args:
        async_fn: The async function.
        *args: Its positional arguments.
        **kwds: Its keyword arguments.

    Returns:
        What the function returns.

    Raises:
        RuntimeError: Trio does not run the caller.
        BaseException: Whatever the function raises.
    """
    _demand_trio()
    return await _verdigris.with_portal_run_tree(async_fn, *args, **kwds)


def _demand_trio() -> None:
    host = _running_host()
    if host is None or host.name != "trio":
        raise RuntimeError("This function is only supported when running under Trio")


# --- async things in sync syntax ---------------------------------------------
#
# `verdigris` has the same, over its own `await_`. These are over the one above, for its errors and
# for the frame that it leaves in tracebacks.


def autoawait(fn: Callable[..., Awaitable[_T]]) -> Callable[..., _T]:
    """Makes an async function a sync one that waits. A decorator.

    Args:
        fn: The function.

    Returns:
        A function to be called where `await_` works. A checkpoint exactly when awaiting would be.
    """

    @wraps(fn)
    def call(*args: Any, **kwds: Any) -> _T:
        return await_(fn(*args, **kwds))

    _unmark(call)
    return call


@overload
def decorate_as_sync(decorator: Callable[[_F], _F]) -> Callable[[_AF], _AF]: ...


@overload
def decorate_as_sync(
    decorator: Callable[..., Any],
) -> Callable[[Callable[..., Awaitable[Any]]], Callable[..., Awaitable[Any]]]: ...


def decorate_as_sync(decorator: Any) -> Any:
    """Applies a decorator that is made for sync functions to an async one.

    Args:
        decorator: The decorator. It gets a sync function that waits, as of `autoawait`.

    Returns:
        A decorator for async functions. What it gives runs by `with_portal_run_sync`.
    """

    def decorate(async_fn: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        decorated = decorator(autoawait(async_fn))

        async def call(*args: Any, **kwds: Any) -> Any:
            return await with_portal_run_sync(decorated, *args, **kwds)

        return update_wrapper(call, decorated)

    return decorate


class async_context(_async_context[_T_co]):
    """An async context manager for the `with` statement.

    Args:
        cm: The async context manager.

    Raises:
        TypeError: On entering: it is no async context manager.
    """

    __slots__ = ()
    _await = staticmethod(await_)

    def __init__(self, cm: AbstractAsyncContextManager[_T_co, bool | None]) -> None:
        """Takes the manager and looks at nothing yet, as `async with` would."""
        super().__init__(cm)


class async_iter(_async_iter[_T_co]):
    """An async iterable for the `for` statement.

    Over an async generator it is a generator: it has `send`, `throw` and `close`, so that
    `yield from` works.

    Args:
        iterable: The async iterable.

    Raises:
        TypeError: It is none.
    """

    __slots__ = ()
    _await = staticmethod(await_)


class _async_generator(async_iter[_T_co], _async_generator_iter[_T_co]):
    """`async_iter` over an async generator, or over what looks like one."""

    __slots__ = ()


async_iter._of_generators = _async_generator
