"""The peers: what makes a library that was written for threads run beside others of its kind.

Each has the same three parts: what it does before the library is imported, what runs the client,
and how workers are started and waited for. A process can have one of them, as patching can't be
undone; so each imports what it needs when it is chosen, and the others weigh nothing.
"""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

# Without arguments: what a worker does. Async functions for the native clients.
Job = Callable[[], Any]

THREADS, GEVENT, GREENLETIO, NATIVE = "threads", "gevent", "greenletio", "native"
ASYNCIO, UVLOOP, TRIO = "asyncio", "uvloop", "trio"
OURS = tuple(f"verdigris-{loop}" for loop in (ASYNCIO, UVLOOP, TRIO))


@dataclass(frozen=True)
class Peer:
    """One way to run the workers."""

    # Runs the client. For threads and gevent it is an async function that never suspends.
    run: Callable[[Coroutine[Any, Any, Any]], Any]
    # Starts all, and returns their results when all have ended.
    gather: Callable[[list[Job]], Awaitable[list[Any]]]
    # The library is imported in this block.
    patched: Callable[[], contextlib.AbstractContextManager[None]] = contextlib.nullcontext
    # What a driver needs that waits in C, by its name. Called after `patched`.
    drivers: dict[str, Callable[[], object]] = field(default_factory=dict)


def _to_its_end(main: Coroutine[Any, Any, Any]) -> Any:
    """Runs an async function that never suspends: where there is no loop."""
    try:
        main.send(None)
    except StopIteration as stop:
        return stop.value
    raise RuntimeError("it suspended, and there is no loop to wait for")


def _threads() -> Peer:
    import threading

    async def gather(jobs: list[Job]) -> list[Any]:
        results: list[Any] = [None] * len(jobs)
        errors: list[Exception] = []

        def work(place: int, job: Job) -> None:
            try:
                results[place] = job()
            except Exception as error:
                errors.append(error)

        threads = [threading.Thread(target=work, args=place) for place in enumerate(jobs)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if errors:
            raise errors[0]
        return results

    return Peer(_to_its_end, gather)


def _gevent() -> Peer:
    from gevent import monkey  # type: ignore[import-untyped]

    monkey.patch_all()
    import gevent

    async def gather(jobs: list[Job]) -> list[Any]:
        started = [gevent.spawn(job) for job in jobs]
        gevent.joinall(started, raise_error=True)
        return [greenlet.value for greenlet in started]

    def psycopg2() -> None:
        # As psycogreen does it. psycopg 3 knows gevent by itself.
        from gevent.socket import wait_read, wait_write  # type: ignore[import-untyped]
        from psycopg2 import OperationalError, extensions  # type: ignore[import-untyped]

        def wait(connection: Any) -> None:
            while True:
                state = connection.poll()
                if state == extensions.POLL_OK:
                    return
                if state == extensions.POLL_READ:
                    wait_read(connection.fileno())
                elif state == extensions.POLL_WRITE:
                    wait_write(connection.fileno())
                else:
                    raise OperationalError(f"bad state from poll: {state}")

        extensions.set_wait_callback(wait)

    return Peer(_to_its_end, gather, drivers={"psycopg2": psycopg2})


def _greenletio() -> Peer:
    import asyncio

    # redis-py imports it too, and in the patched block that fails.
    import concurrent.futures.thread  # noqa: F401

    from greenletio import async_, patcher  # type: ignore[import-untyped]
    from greenletio.green import select  # type: ignore[import-untyped]

    # greenletio's poll only raises. Without it urllib3 takes select, which works.
    del select.poll

    async def gather(jobs: list[Job]) -> list[Any]:
        return await asyncio.gather(*(async_(job)() for job in jobs))

    return Peer(_on(ASYNCIO), gather, patcher.patch_blocking, {"psycopg2": patcher.patch_psycopg2})


def _verdigris(loop: str) -> Peer:
    import verdigris

    @contextlib.contextmanager
    def patched() -> Iterator[None]:
        verdigris.patch_all()
        yield

    async def gather_on_asyncio(jobs: list[Job]) -> list[Any]:
        import asyncio

        return await asyncio.gather(*(verdigris.async_def(job) for job in jobs))

    async def gather_on_trio(jobs: list[Job]) -> list[Any]:
        import trio

        results: list[Any] = [None] * len(jobs)
        errors: list[Exception] = []

        async def work(place: int, job: Job) -> None:
            try:
                results[place] = await verdigris.async_def(job)
            except Exception as error:
                errors.append(error)  # a nursery would wrap it in a group

        async with trio.open_nursery() as nursery:
            for place in enumerate(jobs):
                nursery.start_soon(work, *place)
        if errors:
            raise errors[0]
        return results

    return Peer(
        _on(loop),
        gather_on_trio if loop == TRIO else gather_on_asyncio,
        patched,
        {
            "psycopg2": lambda: verdigris.patch_psycopg2(),
            "psycopg": lambda: verdigris.patch_psycopg(),
        },
    )


def _native() -> Peer:
    import asyncio

    async def gather(jobs: list[Job]) -> list[Any]:
        return await asyncio.gather(*(job() for job in jobs))

    return Peer(_on(ASYNCIO), gather)


def _on(loop: str) -> Callable[[Coroutine[Any, Any, Any]], Any]:
    import event_loop

    return lambda main: event_loop.run(main, loop)


_LOADERS: dict[str, Callable[[], Peer]] = {
    THREADS: _threads,
    GEVENT: _gevent,
    GREENLETIO: _greenletio,
    **{name: partial(_verdigris, name.partition("-")[2]) for name in OURS},
    NATIVE: _native,
}
NAMES = tuple(_LOADERS)
# What a peer can't do a row without.
WORKAROUNDS = {
    GREENLETIO: "concurrent.futures imported before the patch, and its select.poll removed",
}
# What each stands on, to be installed.
MODULES = {
    GEVENT: "gevent",
    GREENLETIO: "greenletio",
    f"verdigris-{UVLOOP}": "uvloop",
    f"verdigris-{TRIO}": "trio",
}


def load(name: str) -> Peer:
    """Import one peer, and patch what has to be patched first of all.

    Raises:
        ImportError: It is not installed.
    """
    return _LOADERS[name]()
