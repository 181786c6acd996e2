"""Calls in executors: threads, processes, sub-interpreters, clusters.

An executor is anything with the interface of `concurrent.futures.Executor`. What engines call a
future is waited for as well, whichever of three protocols it has: see `future_of`.
"""

from __future__ import annotations

import contextvars
import functools
import pickle
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from verdigris import loops
from verdigris.worlds import _dask, _home, _pool, _unpicklable
from verdigris.worlds._call import Call
from verdigris.worlds._completed import CallCancelled
from verdigris.worlds._thread_executor import ThreadExecutor

if TYPE_CHECKING:
    import concurrent.futures

# Executors with a `submit` that is written in Python may take these for their own parameters.
_OWN_NAMES = {"self", "fn", "func"}

#: A library and its token, as a `Delivery` has them.
Home = tuple[str, Any] | None


async def submitted(executor: concurrent.futures.Executor, call: Call) -> Any:
    """Makes a call in an executor, and waits for it.

    Cancelled, it takes the call back if that has not begun.

    Raises:
        BaseException: What the call raises, or why it could not be made.
    """
    delivery = loops.delivery()
    future = submit(executor, call, delivery.home)
    when_done(future, call, delivery.deliver, executor)
    try:
        return await delivery.wait()
    finally:
        take_back(future)


def submit(
    executor: concurrent.futures.Executor, call: Call, home: Home
) -> concurrent.futures.Future[Any]:
    """Hands a call to an executor.

    One of threads gets the context variables along, and what library the thread works for.

    Raises:
        Exception: The executor does not take it. A note says which call it was.
    """
    function: Any = call.function
    try:
        if _has_our_memory(executor):
            context = contextvars.copy_context()
            function = functools.partial(context.run, function)
            if home is not None:
                function = functools.partial(_at_home, home, function)
            return executor.submit(function, *call.args, **call.kwargs)
        if _dask.is_executor(executor):
            return _dask.submit(executor, call)
        if call.kwargs.keys() & _OWN_NAMES:
            function = functools.partial(function, **call.kwargs)
            return executor.submit(function, *call.args)
        return executor.submit(function, *call.args, **call.kwargs)
    except Exception as error:
        if (told := _named(error, call, executor)) is not error:
            raise told from error
        error.add_note(f"the executor did not take the call {call}")
        raise


def when_done(
    future: Any,
    call: Call,
    receive: Callable[[Any, BaseException | None], None],
    executor: concurrent.futures.Executor | None = None,
) -> None:
    """Passes the outcome of a future on, when it has one. From whichever thread the future likes.

    Args:
        future: Of `concurrent.futures`, or of an engine with that interface.
        call: What it is the outcome of.
        receive: Called with the value and the error.
        executor: The one that makes the call, if it was given to one.
    """

    def pass_on(future: Any) -> None:
        if future.cancelled():
            receive(None, CallCancelled(f"the call {call} was cancelled by its executor"))
            return
        try:
            value = future.result()
        except BaseException as error:
            receive(None, _named(error, call, executor))
        else:
            receive(value, None)

    future.add_done_callback(pass_on)


def take_back(future: concurrent.futures.Future[Any]) -> None:
    """Cancels the call of a future that nobody waits for any more, if it has not begun."""
    if not future.done():
        future.cancel()


def future_of(candidate: Any) -> Any:
    """What tells from another thread that a future of an engine is done; None for an awaitable.

    - Futures of `concurrent.futures` have `add_done_callback` and `result`.
    - Dask's can be awaited on the loop of their client, which is rarely the one that asks.
    - Ray's references can be awaited on asyncio, and make such a future for everybody else.
    - Futures and tasks of asyncio are awaitables.
    """
    if getattr(candidate, "_asyncio_future_blocking", None) is not None:
        return None
    if _dask.is_future(candidate):
        return _dask.outcome(candidate)
    if _is_told(candidate):
        return candidate
    if hasattr(type(candidate), "__await__") and callable(getattr(candidate, "future", None)):
        future = candidate.future()
        return future if _is_told(future) else None
    return None


def _is_told(candidate: Any) -> bool:
    return hasattr(candidate, "add_done_callback") and hasattr(candidate, "result")


# --- errors ------------------------------------------------------------------


def _named(
    error: BaseException, call: Call, executor: concurrent.futures.Executor | None
) -> BaseException:
    """The error of a call. What is the executor's fault, not the function's, names the call."""
    from concurrent.futures import BrokenExecutor

    if isinstance(error, BrokenExecutor):
        return _of_this_call(error, call)
    if executor is not None and _has_our_memory(executor):
        return error
    if not isinstance(error, (Exception, KeyboardInterrupt, SystemExit)):
        # Some library's cancellation, of the call. Here it would be taken for one of the caller.
        cancelled = CallCancelled(f"the call {call} was cancelled")
        cancelled.__cause__ = error
        return cancelled
    if executor is None:
        return error
    if type(error).__module__.partition(".")[0] == "distributed":
        error.add_note(f"in the call {call}")
        return error
    what = _what_was_refused(error, call, executor)
    if what is None:
        return error
    refusal = pickle.PicklingError(f"the call {call} can't be made in another process: {what}")
    refusal.__cause__ = error
    return refusal


def _of_this_call(error: BaseException, call: Call) -> BaseException:
    """A copy of an error that all calls of an executor share, for a note of its own."""
    # Not by `copy`: it calls `__init__`, which may take other arguments; and where tblib has been
    # imported, copies share their attributes.
    kind = type(error)
    own = kind.__new__(kind, *error.args)
    own.__dict__.update({k: v for k, v in error.__dict__.items() if k != "__notes__"})
    own.__cause__ = error.__cause__
    own.add_note(f"the call {call} was lost with it; it may have been made, or in part")
    return own


def _what_was_refused(
    error: BaseException, call: Call, executor: concurrent.futures.Executor
) -> str | None:
    """What pickle refused, if the error is about that. Its type alone does not tell."""
    sent_back = "_sendback_result" in str(error.__cause__)
    if _dask.is_executor(executor) and "Could not serialize object" in str(error):
        # When a call is handed over, or when its result is fetched.
        sent_back = not isinstance(error.__cause__, Exception)
    kinds = (pickle.PicklingError, TypeError, AttributeError, ValueError, RecursionError)
    if sent_back:
        raised = "During handling of the above exception" in str(error.__cause__)
        what = "the exception that it raised" if raised else "its result"
        reason = str(error).strip().rpartition("\n")[2]  # Dask puts a whole traceback before it
        return f"{what} can't be pickled ({reason}). {_INSTEAD_OF_RESULT}"
    if not isinstance(error, kinds):
        return None
    what_of_it = _unpicklable.found(call, _unpicklable.dumps_of(executor))
    if what_of_it is None:
        if type(error).__name__ == "NotShareableError":  # an interpreter's, and the call was taken
            return f"its result can't be pickled ({error}). {_INSTEAD_OF_RESULT}"
        return None
    return f"{what_of_it}. {_INSTEAD_OF_ARGUMENT}"


_INSTEAD_OF_ARGUMENT = "Pass what can be, and make the rest there."
_INSTEAD_OF_RESULT = "Return what can be, such as plain data made of it."


# --- kinds of executors ------------------------------------------------------


def _has_our_memory(executor: concurrent.futures.Executor) -> bool:
    if isinstance(executor, (_pool.ThreadPool, ThreadExecutor)):
        return True
    from concurrent.futures import ThreadPoolExecutor

    interpreter = sys.modules.get("concurrent.futures.interpreter")
    other: Any = getattr(interpreter, "InterpreterPoolExecutor", ())
    return isinstance(executor, ThreadPoolExecutor) and not isinstance(executor, other)


def _at_home(home: tuple[str, Any], function: Callable[..., Any], /, *args: Any, **kw: Any) -> Any:
    with _home.of(*home):
        return function(*args, **kw)
