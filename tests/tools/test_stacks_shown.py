"""What the standard library tells about the stack of a green function, running or waiting.

tests/test_frames.py has the frames themselves.
"""

from __future__ import annotations

import asyncio
import io
import logging
import sys
import tracemalloc
import warnings
from collections.abc import Callable
from subprocess import CompletedProcess
from typing import Any

import pytest
from conftest import needs_callers

from verdigris import async_def, await_, ensure_portal

Python = Callable[..., CompletedProcess[str]]


def names_in(text: str, *names: str) -> bool:
    """Whether the names come in this order."""
    at = 0
    for name in names:
        at = text.find(name, at)
        if at < 0:
            return False
        at += len(name)
    return True


# --- faulthandler ------------------------------------------------------------

SPINS = """
import asyncio, faulthandler, sys, time
from verdigris import async_def, await_

def spins():
    await_(asyncio.sleep(0))
    faulthandler.dump_traceback_later(0.05, file=sys.stdout, exit=True)
    while True:
        pass

def called_it():
    spins()

async def drives():
    await async_def(called_it)

asyncio.run(drives())
"""


@needs_callers
def test_faulthandler_tells_later_where_a_function_hangs(python: Python) -> None:
    done = python(SPINS, check=False)
    assert done.returncode == 1
    assert names_in(done.stdout, "in spins", "in called_it", "in drives", "_run_once")


@pytest.mark.skipif(sys.version_info < (3, 14), reason="faulthandler tells C stacks from 3.14 on")
def test_faulthandler_prints_the_c_stack_of_a_function(python: Python) -> None:
    done = python("""
        import asyncio, faulthandler, sys
        from verdigris import async_def, await_

        def green():
            await_(asyncio.sleep(0))
            faulthandler.dump_c_stack(sys.stdout)

        asyncio.run(async_def(green))
    """)
    assert "C stack trace" in done.stdout


# --- who called --------------------------------------------------------------


def warns() -> None:
    warnings.warn("of the caller", UserWarning, stacklevel=2)


def logs(logger: logging.Logger) -> None:
    logger.warning("here")
    logger.warning("of the caller", stacklevel=2)


@needs_callers
def test_warnings_and_log_records_name_their_caller(loop: Any) -> None:
    logger = logging.getLogger(f"{__name__}.{loop.name}")
    logger.propagate = False
    records: list[logging.LogRecord] = []
    handler = logging.Handler()
    handler.emit = records.append  # type: ignore[method-assign]
    logger.addHandler(handler)

    def green() -> None:
        await_(loop.checkpoint())
        warns()
        logs(logger)
        warnings.warn("of the driver", UserWarning, stacklevel=2)

    async def coroutine() -> None:
        await async_def(green)

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        loop.run(coroutine)
    lines = green.__code__.co_firstlineno, coroutine.__code__.co_firstlineno
    assert [warning.lineno for warning in caught] == [lines[0] + 2, lines[1] + 1]
    assert [record.funcName for record in records] == ["logs", "green"]


@needs_callers
def test_tracemalloc_knows_the_whole_chain(loop: Any) -> None:
    def allocates() -> bytearray:
        await_(loop.checkpoint())
        return bytearray(1_000_000)

    async def coroutine() -> bytearray:
        return await async_def(allocates)

    tracemalloc.start(10)
    try:
        held = loop.run(coroutine)
        trace = tracemalloc.get_object_traceback(held)
    finally:
        tracemalloc.stop()
    assert trace is not None
    lines = [frame.lineno for frame in trace if frame.filename == __file__]
    first = allocates.__code__.co_firstlineno, coroutine.__code__.co_firstlineno
    assert [*lines[-2:]] == [first[1] + 1, first[0] + 2]


# --- asyncio -----------------------------------------------------------------


def waits() -> None:
    await_(asyncio.sleep(10))


def called_it() -> None:
    waits()


async def in_portal() -> None:
    await ensure_portal()
    called_it()


def test_print_stack_shows_a_portal_from_its_coroutine_on(aio: Any) -> None:
    async def main() -> str:
        task = asyncio.create_task(in_portal())
        await asyncio.sleep(0.01)
        text = io.StringIO()
        task.print_stack(file=text)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return text.getvalue()

    assert names_in(aio.run(main), "in in_portal", "in called_it", "in waits")


def test_debug_mode_tells_what_took_long_and_where_it_was_made(
    aio: Any, caplog: pytest.LogCaptureFixture
) -> None:
    def never_awaited() -> None:
        pass

    def slow() -> None:
        await_(asyncio.sleep(0))
        while not caplog.records and spent():
            pass

    def spent() -> bool:
        nonlocal left
        left -= 1
        return left > 0

    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.set_debug(True)
        loop.slow_callback_duration = 0
        await asyncio.create_task(async_def(slow), name="the slow one")
        loop.set_debug(False)

    left = 1_000
    with caplog.at_level(logging.WARNING, logger="asyncio"):
        aio.run(main)
    if aio.name == "asyncio":  # uvloop measures nothing
        assert any("the slow one" in record.getMessage() for record in caplog.records)

    async def makes() -> None:
        sys.set_coroutine_origin_tracking_depth(2)
        try:
            async_def(never_awaited)
        finally:
            sys.set_coroutine_origin_tracking_depth(0)

    with pytest.warns(RuntimeWarning, match="never_awaited' was never awaited") as caught:
        aio.run(makes)
    assert "in makes" in str(caught[0].message)


@pytest.mark.skipif(sys.version_info < (3, 14), reason="call graphs came with Python 3.14")
def test_call_graphs_go_through_functions_that_wait(aio: Any) -> None:
    async def awaits_task(task: asyncio.Task[None]) -> None:
        await async_def(lambda: await_(task))

    async def main() -> tuple[str, Any]:
        task = asyncio.create_task(async_def(called_it), name="waits")
        awaiting = asyncio.create_task(awaits_task(task), name="awaits it")
        await asyncio.sleep(0.01)
        text = asyncio.format_call_graph(task)  # type: ignore[attr-defined,unused-ignore]
        graph = asyncio.capture_call_graph(awaiting)  # type: ignore[attr-defined,unused-ignore]
        task.cancel()
        await asyncio.gather(task, awaiting, return_exceptions=True)
        return text, graph

    text, graph = aio.run(main)
    # The innermost function; those that called it are in task.print_stack().
    assert names_in(text, "name='waits'", "sleep", "in waits()", "Awaited by", "'awaits it'")
    assert [entry.frame.f_code.co_name for entry in graph.call_stack] == [
        "<lambda>",
        "awaits_task",
    ]


@needs_callers
@pytest.mark.skipif(sys.version_info < (3, 14), reason="call graphs came with Python 3.14")
def test_a_call_graph_of_the_running_task_begins_where_it_is_asked_for(aio: Any) -> None:
    def asks() -> Any:
        await_(asyncio.sleep(0))
        return asyncio.capture_call_graph()  # type: ignore[attr-defined,unused-ignore]

    async def coroutine() -> Any:
        return await async_def(asks)

    graph = aio.run(coroutine)
    names = [entry.frame.f_code.co_name for entry in graph.call_stack]
    assert names_in(" ".join(names), "asks", "coroutine")


# --- the perf trampoline -----------------------------------------------------


@pytest.mark.skipif(sys.version_info < (3, 12), reason="-X perf came with Python 3.12")
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="perf is Linux's")
@pytest.mark.parametrize("option", ["perf", "perf_jit"])
def test_functions_wait_under_the_perf_trampoline(python: Python, option: str) -> None:
    if option == "perf_jit" and sys.version_info < (3, 13):
        pytest.skip("-X perf_jit came with Python 3.13")
    done = python(
        """
        import asyncio
        from verdigris import async_def, await_

        def leaf(n):
            await_(asyncio.sleep(0))
            return n

        def top(n):
            return sum(leaf(i) for i in range(n))

        async def main():
            print(sum(await asyncio.gather(*[async_def(top, n) for n in range(20)])))

        asyncio.run(main())
        """,
        options=("-X", option),
    )
    assert done.stdout == "1140\n"
