"""The asyncio loop of a thread: made when it is first needed, and closed when the thread ends."""

from __future__ import annotations

# `_signal` and not `signal`, whose functions take ten times as long (0.4 and 6 us), most of it
# for enumerations.
import _signal  # type: ignore[import-not-found]
import atexit
import contextlib
import os
import threading
import warnings
from collections.abc import Coroutine, Iterator
from types import FrameType
from typing import TYPE_CHECKING, Any, TypeVar

from verdigris.worlds._os_thread import get_ident, local

if TYPE_CHECKING:
    import asyncio

T = TypeVar("T")

# The stdlib's own, whatever is patched later: loops belong to OS threads. (One that a function
# runs green in has a loop that runs, and needs none of these.)
_here: Any = local()
_get_ident = get_ident

#: How many forks lie behind this process. Asking for the process is a system call; but in the child
#: CPython ends the values of other threads before it calls what is registered here.
_forks = 0


def _see_fork() -> None:
    global _forks
    _forks += 1


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_see_fork)


class _Kept:
    """A loop that ends with what refers to this: the values of the thread."""

    def __init__(self) -> None:
        import asyncio

        from verdigris.worlds import _first_turns

        self.loop = asyncio.new_event_loop()
        self.do_first_turns = _first_turns.of(self.loop)
        self.thread = _get_ident()
        # As `threading` knows it, if it does.
        self.listed = threading._active.get(self.thread)  # type: ignore[attr-defined]
        self.process = os.getpid()
        self.forks = _forks
        #: Whether this thread may set handlers of signals: the main one may.
        self.has_signals = _may_set_handlers()

    def is_usable(self) -> bool:
        return not self.loop.is_closed() and self.forks == _forks

    def close(self) -> None:
        """Ends it, in the thread that it is of, or at exit that of a thread that is frozen."""
        if self.loop.is_closed():
            return
        if self.process != os.getpid():
            _give_up(self.loop)
        elif not self.loop.is_running():
            if self.thread == _get_ident():
                with _listed(self.thread, self.listed):
                    close(self.loop)
            else:
                self.loop.close()

    def __del__(self) -> None:
        # In the thread that ends. The main thread's is closed at exit, before modules go.
        if hasattr(self, "process"):
            self.close()


@contextlib.contextmanager
def _listed(ident: int, thread: threading.Thread | None) -> Iterator[None]:
    """Has `threading` know a thread that ends, as long as its loop is being closed.

    It has been forgotten already. Whoever asks for the current thread, as every record of a log
    does, would get a dummy that nobody takes away.
    """
    active: dict[int, threading.Thread] = threading._active  # type: ignore[attr-defined]
    if ident in active:
        yield
        return
    if thread is not None:
        active[ident] = thread
    try:
        yield
    finally:
        if active.pop(ident, None) is not thread:
            # From 3.13 on a dummy goes with this, which nobody would take away either.
            vars(getattr(threading, "_thread_local_info", _NoInfo())).clear()


class _NoInfo:
    """Has no attributes."""


def get() -> asyncio.AbstractEventLoop:
    """The loop of this thread. A fork's child has one of its own."""
    return _get().loop


def _get() -> _Kept:
    kept: _Kept | None = getattr(_here, "kept", None)
    if kept is None or not kept.is_usable():
        # The one before goes, and closes what a fork's child had of the parent's.
        kept = _here.kept = _Kept()
    return kept


def _give_up(loop: Any) -> None:
    """Ends what a fork's child has of a loop, which goes on in the parent.

    Nothing of it runs here. And nothing may be taken out of its selector: an epoll instance is
    shared with the parent, which would not be woken any more.
    """
    import asyncio
    import selectors

    for task in asyncio.all_tasks(loop):
        task._log_destroy_pending = False  # type: ignore[attr-defined]
    if isinstance(loop, asyncio.SelectorEventLoop):
        loop._selector.close()  # type: ignore[attr-defined]
        loop._selector = selectors.SelectSelector()  # type: ignore[attr-defined]
        loop._thread_id = None  # type: ignore[attr-defined]
        loop.close()


_exits = False


@atexit.register
def _close_that_of_this_thread() -> None:
    # What runs at exit after this closes its loop at once.
    global _exits
    _exits = True
    kept: _Kept | None = getattr(_here, "kept", None)
    if kept is not None:
        kept.close()


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    """Runs a coroutine on the loop of this thread, in which no loop runs.

    What it leaves behind (tasks, async generators) stays, and goes on with the next.

    Returns:
        Its result.

    Raises:
        BaseException: What it raises.
        KeyboardInterrupt: Ctrl-C. The coroutine is cancelled, and this is raised when it has ended;
            at the second Ctrl-C at once.
    """
    try:
        return _on_loop(_get(), coroutine)
    finally:
        if _exits:
            _close_that_of_this_thread()


def _may_set_handlers() -> bool:
    try:
        _signal.signal(_signal.SIGINT, _signal.getsignal(_signal.SIGINT))
    except (ValueError, TypeError):  # another thread; or a handler that is not Python's
        return False
    return True


def _on_loop(kept: _Kept, coroutine: Coroutine[Any, Any, T]) -> T:
    task = kept.loop.create_task(coroutine)
    if kept.has_signals and _signal.getsignal(_signal.SIGINT) is _signal.default_int_handler:
        ctrl_c = _CtrlC(kept.loop, task)
        _signal.signal(_signal.SIGINT, ctrl_c)
        return _run_with_ctrl_c(kept, task, ctrl_c)
    return _run(kept, task)


def _run_with_ctrl_c(kept: _Kept, task: asyncio.Task[T], ctrl_c: _CtrlC) -> T:
    try:
        result = _run(kept, task)
    except BaseException:
        if ctrl_c.came and task.cancelled():
            raise KeyboardInterrupt from None
        raise
    finally:
        if _signal.getsignal(_signal.SIGINT) is ctrl_c:
            _signal.signal(_signal.SIGINT, _signal.default_int_handler)
    if ctrl_c.came:
        raise KeyboardInterrupt
    return result


def _run(kept: _Kept, task: asyncio.Task[T]) -> T:
    loop = kept.loop
    try:
        if kept.do_first_turns(task):
            return task.result()
        return loop.run_until_complete(task)
    except BaseException as error:
        # It was left in the middle: by the handler of a signal, or by `loop.stop()`.
        if not task.done() and not isinstance(error, KeyboardInterrupt):
            task.cancel()
            with contextlib.suppress(cancelled()):
                loop.run_until_complete(task)
        raise
    finally:
        del task  # it has the result, and an error has this frame


def cancelled() -> type[BaseException]:
    """What asyncio cancels tasks with."""
    import asyncio

    return asyncio.CancelledError


class _CtrlC:
    """The handler of SIGINT while a task runs: cancels it.

    KeyboardInterrupt in the middle of the loop's own code could lose a callback, and what waits for
    it would never be woken. `asyncio.run` does the same.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, task: asyncio.Task[Any]) -> None:
        self._loop = loop
        self._task = task
        self.came = False

    def __call__(self, number: int, frame: FrameType | None) -> None:
        if self.came or self._task.done():
            raise KeyboardInterrupt
        self.came = True
        self._task.cancel()
        self._loop.call_soon_threadsafe(_nothing)  # which wakes it


def _nothing() -> None:
    return


def _has_executor(loop: asyncio.AbstractEventLoop) -> bool:
    """Whether a loop may have threads of its own. (uvloop does not tell.)"""
    return getattr(loop, "_default_executor", loop) is not None


def close(loop: asyncio.AbstractEventLoop) -> None:
    """Closes a loop, as `asyncio.run` does: tasks are cancelled, generators and threads ended."""
    import asyncio

    try:
        tasks = asyncio.all_tasks(loop)
        # The usual case, and nothing is left behind: running a loop in a thread that ends makes
        # values of the thread anew, which CPython frees no more.
        if not (tasks or getattr(loop, "_asyncgens", True) or _has_executor(loop)):
            return
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
        # From 3.12 on no thread can be started for it when the interpreter exits. Closing the loop
        # lets the executor's threads end as well; at exit they have ended.
        with contextlib.suppress(RuntimeError):
            loop.run_until_complete(loop.shutdown_default_executor())
    finally:
        loop.close()


@contextlib.contextmanager
def idle_event_loop() -> Iterator[asyncio.AbstractEventLoop]:
    """Gives an asyncio loop that does not run, and is the current one while the block runs.

    It is the thread's own: the one that `block` uses, made when it is first needed and closed when
    the thread ends. Where a loop runs already, it is a new one, closed at the end of the block; the
    loop that runs is put aside meanwhile, so that the other can run, and is blocked while it does.
    Not a checkpoint.

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
    if running is None:
        loop = get()
        with _as_current(loop):
            yield loop
        return
    loop = asyncio.new_event_loop()
    with _put_aside(running):
        try:
            with _as_current(loop):
                yield loop
        finally:
            if not loop.is_closed():
                close(loop)


@contextlib.contextmanager
def _as_current(loop: asyncio.AbstractEventLoop) -> Iterator[None]:
    import asyncio

    before = _current_loop()
    asyncio.set_event_loop(loop)
    try:
        yield
    finally:
        asyncio.set_event_loop(before)


@contextlib.contextmanager
def _put_aside(running: asyncio.AbstractEventLoop) -> Iterator[None]:
    """Makes it as if no loop ran."""
    import asyncio

    # Before 3.12 the current task of each loop is kept apart, and need not be touched.
    swap_task: Any = getattr(asyncio.tasks, "_swap_current_task", lambda loop, task: None)
    task = swap_task(running, None)
    asyncio._set_running_loop(None)
    try:
        yield
    finally:
        asyncio._set_running_loop(running)
        swap_task(running, task)


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
