"""Calls in executors: threads, processes, sub-interpreters, clusters.

An executor is anything with the interface of `concurrent.futures.Executor`.
"""

from __future__ import annotations

import contextvars
import pickle
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from verdigris import loops
from verdigris.worlds._call import Call
from verdigris.worlds._completed import CallCancelled
from verdigris.worlds._pool import ThreadPool
from verdigris.worlds._thread_executor import ThreadExecutor

if TYPE_CHECKING:
    import concurrent.futures


async def submitted(executor: concurrent.futures.Executor, call: Call) -> Any:
    """Makes a call in an executor, and waits for it.

    Cancelled, it takes the call back if that has not begun.

    Raises:
        BaseException: What the call raises, or why it could not be made.
    """
    delivery = loops.delivery()
    future = submit(executor, call)
    when_done(future, call, delivery.deliver)
    try:
        return await delivery.wait()
    finally:
        if delivery.abandoned:
            future.cancel()


def submit(executor: concurrent.futures.Executor, call: Call) -> concurrent.futures.Future[Any]:
    """Hands a call to an executor, with the context variables where it is one of threads.

    Raises:
        BaseException: The executor does not take it.
    """
    try:
        if _has_our_memory(executor):
            context = contextvars.copy_context()
            return executor.submit(context.run, call.function, *call.args, **call.kwargs)
        return executor.submit(call.function, *call.args, **call.kwargs)
    except BaseException as error:
        raise named(error, call) from error.__cause__


def when_done(
    future: Any, call: Call, receive: Callable[[Any, BaseException | None], None]
) -> None:
    """Passes the outcome of a future on, when it has one. From whichever thread the future likes.

    Args:
        future: Of `concurrent.futures`, or of an engine with that interface.
        call: What it is the outcome of.
        receive: Called with the value and the error.
    """

    def pass_on(future: Any) -> None:
        if future.cancelled():
            receive(None, CallCancelled(f"the call {call} was cancelled by its executor"))
            return
        try:
            value = future.result()
        except BaseException as error:
            receive(None, named(error, call))
        else:
            receive(value, None)

    future.add_done_callback(pass_on)


def named(error: BaseException, call: Call) -> BaseException:
    """The error of a call, with a note or a cause that says which call it was."""
    if isinstance(error, (pickle.PicklingError, TypeError, AttributeError)):
        what = _unpicklable(call)
        if what is not None:
            refusal = pickle.PicklingError(
                f"the call {call} can't be sent to another process: {what} can't be pickled "
                f"({error}). Pass what can be, and make the rest there."
            )
            refusal.__cause__ = error
            return refusal
    return error


def _unpicklable(call: Call) -> str | None:
    """What of a call can't be pickled, if anything."""
    # loky and Dask send by value what pickle can't name.
    cloudpickle = sys.modules.get("cloudpickle") or sys.modules.get("loky.cloudpickle_wrapper")
    dumps = getattr(cloudpickle, "dumps", pickle.dumps)
    parts = [("the function itself", call.function)]
    parts += [(f"its argument {place}", value) for place, value in enumerate(call.args, 1)]
    parts += [(f"its argument {name!r}", value) for name, value in call.kwargs.items()]
    for name, value in parts:
        try:
            dumps(value)
        except Exception:
            return f"{name}, {value!r:.80}"
    return None


def _has_our_memory(executor: concurrent.futures.Executor) -> bool:
    if isinstance(executor, (ThreadPool, ThreadExecutor)):
        return True
    thread = sys.modules.get("concurrent.futures.thread")
    pool: Any = getattr(thread, "ThreadPoolExecutor", ())
    interpreter = sys.modules.get("concurrent.futures.interpreter")
    other: Any = getattr(interpreter, "InterpreterPoolExecutor", ())
    return isinstance(executor, pool) and not isinstance(executor, other)
