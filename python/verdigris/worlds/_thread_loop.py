"""The asyncio loop of a thread: made when it is first needed, and closed when the thread ends."""

from __future__ import annotations

import _thread
import atexit
import contextlib
import os
import warnings
from collections.abc import Coroutine, Iterator
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    import asyncio

T = TypeVar("T")

# The stdlib's own, whatever is patched later: loops belong to OS threads. (One that a function
# runs green in has a loop that runs, and needs none of these.)
_here: Any = _thread._local()


class _Kept:
    """A loop that ends with what refers to this: the values of the thread."""

    def __init__(self) -> None:
        import asyncio

        self.loop = asyncio.new_event_loop()
        self.process = os.getpid()

    def is_usable(self) -> bool:
        return not self.loop.is_closed() and self.process == os.getpid()

    def close(self) -> None:
        if self.is_usable() and not self.loop.is_running():
            close(self.loop)

    def __del__(self) -> None:
        # In the thread that ends. The main thread's is closed at exit, before modules go.
        if hasattr(self, "process"):
            with contextlib.suppress(Exception):
                self.close()


def get() -> asyncio.AbstractEventLoop:
    """The loop of this thread. A fork's child has one of its own."""
    kept: _Kept | None = getattr(_here, "kept", None)
    if kept is None or not kept.is_usable():
        if kept is not None:
            _leave_to_the_parent(kept)
        kept = _here.kept = _Kept()
    return kept.loop


def _leave_to_the_parent(kept: _Kept) -> None:
    # Closing it would take the parent's descriptors out of an epoll instance that both share.
    if not kept.loop.is_closed():
        _abandoned.append(kept)


_abandoned: list[_Kept] = []


@atexit.register
def _close_that_of_the_main_thread() -> None:
    kept: _Kept | None = getattr(_here, "kept", None)
    if kept is not None:
        kept.close()


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    """Runs a coroutine on the loop of this thread, in which no loop runs.

    What it leaves behind (tasks, async generators) stays, and goes on with the next.

    Returns:
        Its result.

    Raises:
        BaseException: What it raises. Ctrl-C cancels it, and is raised when it has ended.
    """
    loop = get()
    task = loop.create_task(coroutine)
    try:
        return loop.run_until_complete(task)
    except BaseException:
        if not task.done():
            task.cancel()
            with contextlib.suppress(BaseException):
                loop.run_until_complete(task)
        raise


def close(loop: asyncio.AbstractEventLoop) -> None:
    """Closes a loop, as `asyncio.run` does: tasks are cancelled, generators and threads ended."""
    import asyncio

    try:
        tasks = asyncio.all_tasks(loop)
        for task in tasks:
            task.cancel()
        if tasks:
            loop.run_until_complete(asyncio.wait(tasks))
        for task in tasks:
            if not task.cancelled() and (error := task.exception()) is not None:
                loop.call_exception_handler({
                    "message": "a task of a loop that was closed ended with an exception",
                    "exception": error,
                    "task": task,
                })  # fmt: skip
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.run_until_complete(loop.shutdown_default_executor())
    finally:
        loop.close()


@contextlib.contextmanager
def idle_event_loop() -> Iterator[asyncio.AbstractEventLoop]:
    """Gives an asyncio loop that does not run, and is the current one while the block runs.

    It is the thread's own: the one that `block` uses, made when it is first needed and closed when
    the thread ends. Where a loop runs already, it is a new one, closed at the end of the block; the
    loop that runs is put aside meanwhile, so that the other can run, and is blocked while it does.

    Returns:
        A context manager whose value is the loop.

    Example:
        >>> import asyncio
        >>> from verdigris import idle_event_loop
        >>> with idle_event_loop() as loop:
        ...     loop.run_until_complete(asyncio.sleep(0, "done"))
        'done'
    """
    import asyncio

    running = asyncio._get_running_loop()
    loop = get() if running is None else asyncio.new_event_loop()
    before = _current_loop()
    asyncio.set_event_loop(loop)
    asyncio._set_running_loop(None)
    try:
        yield loop
    finally:
        asyncio._set_running_loop(running)
        asyncio.set_event_loop(before)
        if running is not None and not loop.is_closed():
            asyncio._set_running_loop(None)
            try:
                close(loop)
            finally:
                asyncio._set_running_loop(running)


def _current_loop() -> asyncio.AbstractEventLoop | None:
    """The loop that the thread's policy has, and None where it would have to make one."""
    import asyncio

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        policy = asyncio.get_event_loop_policy()
    local = getattr(policy, "_local", None)
    if local is not None:
        return getattr(local, "_loop", None)
    try:
        return policy.get_event_loop()
    except RuntimeError:
        return None
