"""Calls on a Dask cluster, through the executor of a client; and Dask's futures.

Dask's own executor (2026.8) differs from others in four ways, which are evened out here. It makes
calls that look equal once. It takes keyword arguments of the function for options of its own. It
waits for the scheduler where a call is cancelled. And it never ends the future of a call whose
result can't be brought here, such as one that can't be pickled.
"""

from __future__ import annotations

import functools
import inspect
import sys
from typing import TYPE_CHECKING, Any

from verdigris.worlds._call import Call

if TYPE_CHECKING:
    import concurrent.futures


def is_executor(executor: object) -> bool:
    """Whether it is the one that `Client.get_executor()` makes."""
    return type(executor).__module__ == "distributed.cfexecutor" and hasattr(executor, "_client")


def is_future(candidate: object) -> bool:
    """Whether it is a future of a Dask client."""
    client: Any = sys.modules.get("distributed.client")
    return client is not None and isinstance(candidate, client.Future)


def submit(executor: Any, call: Call) -> concurrent.futures.Future[Any]:
    """Hands a call to the cluster.

    Returns:
        A future. Cancelling it cancels the call over there, without waiting for that.

    Raises:
        RuntimeError: The executor was shut down, or its client was closed.
    """
    if executor._shutdown:
        raise RuntimeError("cannot schedule new futures after shutdown")
    client = executor._client
    kwargs = dict(call.kwargs)
    taken = {name: kwargs.pop(name) for name in _options_of(client.__class__) & kwargs.keys()}
    function: Any = functools.partial(call.function, **taken) if taken else call.function
    options = {"pure": False, **executor._kwargs}
    future = client.submit(function, *call.args, **options, **kwargs)
    executor._futures.add(future)  # for its shutdown()
    ended = outcome(future)

    def take_back(ended: concurrent.futures.Future[Any]) -> None:
        if ended.cancelled():
            client.loop.add_callback(_cancel, future)

    ended.add_done_callback(take_back)
    return ended


def outcome(future: Any) -> concurrent.futures.Future[Any]:
    """Makes a future of the stdlib that ends as one of Dask does.

    Raises:
        RuntimeError: The client's loop is closed, so nobody will ever know.
    """
    from concurrent.futures import Future

    loop = future.client.loop
    if loop.asyncio_loop.is_closed():
        raise RuntimeError("the Dask client of this future is closed")
    ended: Future[Any] = Future()
    loop.add_callback(_end, future, ended)
    return ended


async def _end(future: Any, ended: concurrent.futures.Future[Any]) -> None:
    """Runs on the client's loop, where its futures can be awaited."""
    value: Any = None
    error: BaseException | None = None
    try:
        try:
            value = await future
        except Exception:
            if future.status != "finished":
                raise
            value = await _fetched(future)
    except GeneratorExit:  # the loop ended first
        error = RuntimeError("the Dask client was closed")
        raise
    except BaseException as raised:
        error = raised
    finally:
        if ended.set_running_or_notify_cancel():
            if error is None:
                ended.set_result(value)
            else:
                ended.set_exception(error)
        del error


async def _fetched(future: Any) -> Any:
    """Fetches a result by itself.

    A client asks for several at once where it can, and one that can't be sent fails them all.
    """
    response = await future.client.scheduler.gather(keys=[future.key])
    if response["status"] != "OK":
        raise RuntimeError(f"the cluster has lost the result of {future.key}")
    return response["data"][future.key]


async def _cancel(future: Any) -> None:
    await future.client.cancel([future])


@functools.cache
def _options_of(kind: Any) -> frozenset[str]:
    """What a client's `submit` takes for itself."""
    parameters = inspect.signature(kind.submit).parameters.values()
    return frozenset(each.name for each in parameters if each.kind is not each.VAR_KEYWORD)
