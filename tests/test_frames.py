"""Frames: a running function's chain goes on into the loop, a suspended one's is whole."""

from __future__ import annotations

import asyncio
import faulthandler
import inspect
import io
import sys
import tempfile
import threading
import time
import traceback
from types import FrameType
from typing import Any

import pytest
from conftest import needs_callers
from hand_driver import finish, suspend

from verdigris import async_def, await_


def chain(frame: FrameType | None) -> list[str]:
    names = []
    while frame is not None:
        names.append(frame.f_code.co_name)
        frame = frame.f_back
    return names


def innermost() -> object:
    return await_(suspend(sys._getframe()))


def middle() -> object:
    local = "of middle"
    result = innermost()
    assert local
    return result


def outermost() -> object:
    return middle()


def contains_in_order(names: list[str], wanted: list[str]) -> bool:
    rest = iter(names)
    return all(name in rest for name in wanted)


# --- running -----------------------------------------------------------------


@needs_callers
def test_a_running_functions_chain_goes_on_into_its_driver(loop: Any) -> None:
    def green() -> list[list[str]]:
        before = chain(sys._getframe())
        await_(loop.checkpoint())
        return [before, chain(sys._getframe())]

    async def coroutine() -> list[list[str]]:
        return await async_def(green)

    for names in loop.run(coroutine):
        wanted = ["green", "coroutine", "test_a_running_functions_chain_goes_on_into_its_driver"]
        if loop.name == "uvloop":
            # Its tasks are stepped from C, but run() is Python.
            wanted = ["green", "coroutine"]
        assert contains_in_order(names, wanted), names


@needs_callers
def test_every_way_to_look_at_the_running_stack() -> None:
    def green() -> None:
        await_(suspend())
        here = sys._getframe()
        for names in (
            [frame.f_code.co_name for frame, _ in traceback.walk_stack(here)],
            [entry.name for entry in reversed(traceback.extract_stack())],
            [entry.function for entry in inspect.stack()],
            chain(inspect.currentframe()),
            chain(sys._current_frames()[threading.get_ident()]),
        ):
            assert contains_in_order(names, ["green", "finish", "driver"]), names
        assert sys._getframe(1).f_code.co_name == "finish"

    def driver() -> None:
        finish(async_def(green))

    driver()


@needs_callers
def test_after_a_resume_from_elsewhere_the_chain_is_the_new_drivers() -> None:
    def green() -> list[list[str]]:
        seen = [chain(sys._getframe())]
        await_(suspend())
        seen.append(chain(sys._getframe()))
        return seen

    def first_driver(coro: Any) -> None:
        coro.send(None)

    def second_driver(coro: Any) -> Any:
        return finish(coro)

    coro = async_def(green)
    first_driver(coro)
    first, second = second_driver(coro)
    assert "first_driver" in first and "second_driver" not in first
    assert "second_driver" in second and "first_driver" not in second


@needs_callers
def test_nested_functions_show_one_chain() -> None:
    def inner() -> list[str]:
        await_(suspend())
        return chain(sys._getframe())

    def outer() -> list[str]:
        return await_(async_def(inner))

    assert contains_in_order(finish(async_def(outer)), ["inner", "outer", "finish"])


@needs_callers
def test_from_what_it_awaits_the_chain_is_whole_too() -> None:
    async def awaited() -> list[str]:
        await suspend()
        return chain(sys._getframe())

    def green() -> list[str]:
        return await_(awaited())

    assert contains_in_order(finish(async_def(green)), ["awaited", "green", "finish"])


# --- suspended ---------------------------------------------------------------


def test_a_suspended_functions_whole_stack_is_visible() -> None:
    coro = async_def(outermost)
    coro.send(None)
    names = chain(coro.cr_frame)
    assert names[:3] == ["innermost", "middle", "outermost"]
    # It belongs to nobody's chain while it is suspended.
    assert len(names) == 3, names
    frame = coro.cr_frame.f_back
    assert frame is not None and frame.f_locals["local"] == "of middle"
    assert frame.f_lineno == middle.__code__.co_firstlineno + 2
    coro.close()
    assert coro.cr_frame is None


def test_a_frame_taken_while_running_ends_with_its_stack_once_suspended() -> None:
    """It must not reach into the driver, which goes on and dies meanwhile."""
    coro = async_def(outermost)
    frame = coro.send(None)
    assert chain(frame) == ["innermost", "middle", "outermost"]
    base = coro.cr_frame
    while base.f_back is not None:
        base = base.f_back
    assert base.f_code is outermost.__code__
    coro.close()
    assert chain(frame)[0] == "innermost"


def test_before_the_start_there_is_a_frame_and_afterwards_none() -> None:
    coro = async_def(outermost)
    assert coro.cr_frame is not None
    coro.close()
    assert coro.cr_frame is None


def test_frames_outlive_their_stack() -> None:
    """The data stack they lived on is reused at once: they must have moved."""
    coro = async_def(outermost)
    coro.send(None)
    frames = [coro.cr_frame]
    while frames[-1].f_back is not None:
        frames.append(frames[-1].f_back)
    with pytest.raises(StopIteration):
        coro.send("answer")
    for _ in range(50):
        finish(async_def(outermost))
    assert [frame.f_code.co_name for frame in frames] == ["innermost", "middle", "outermost"]
    assert frames[1].f_locals["result"] == "answer"
    for frame in frames:
        assert frame.f_lineno is None or frame.f_lineno > 0
        frame.clear()


def test_a_suspended_functions_frame_cannot_be_cleared() -> None:
    coro = async_def(outermost)
    coro.send(None)
    frame = coro.cr_frame
    for _ in range(3):
        with pytest.raises(RuntimeError, match="cannot clear"):
            frame.clear()
        frame = frame.f_back
    with pytest.raises(StopIteration) as end:
        coro.send("answer")
    assert end.value.value == "answer"


def test_a_traceback_keeps_frames_of_a_finished_stack() -> None:
    def fails() -> None:
        held = ["local"]
        await_(suspend())
        raise KeyError(held)

    coro = async_def(fails)
    coro.send(None)
    with pytest.raises(KeyError) as caught:
        coro.send(None)
    del coro
    for _ in range(50):
        finish(async_def(outermost))
    frames = {f.f_code.co_name: f for f, _ in traceback.walk_tb(caught.value.__traceback__)}
    assert frames["fails"].f_locals["held"] == ["local"]


def test_a_task_prints_its_whole_stack(aio: Any) -> None:
    def waits_here() -> None:
        await_(asyncio.sleep(10))

    def called_it() -> None:
        waits_here()

    async def main() -> tuple[list[str], str]:
        task = asyncio.create_task(async_def(called_it))
        await asyncio.sleep(0)
        names = [frame.f_code.co_name for frame in task.get_stack()]
        text = io.StringIO()
        task.print_stack(file=text)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return names, text.getvalue()

    names, text = aio.run(main)
    assert contains_in_order(names, ["called_it", "waits_here"]), names
    assert "await_(asyncio.sleep(10))" in text
    assert "in called_it" in text and "in waits_here" in text


def test_the_driver_does_not_see_suspended_frames() -> None:
    coros = [async_def(outermost) for _ in range(3)]
    for coro in coros:
        coro.send(None)
    assert "innermost" not in chain(sys._getframe())
    assert "innermost" not in chain(sys._current_frames()[threading.get_ident()])
    for coro in coros:
        coro.close()


def test_other_threads_may_look_at_any_moment() -> None:
    def look() -> None:
        while not stop.is_set():
            frame = sys._current_frames().get(main_thread)
            seen.update(chain(frame))

    stop, seen, main_thread = threading.Event(), set(), threading.get_ident()
    looker = threading.Thread(target=look)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    looker.start()
    try:
        give_up = time.monotonic() + 20
        while not seen & {"outermost", "middle"} and time.monotonic() < give_up:
            for _ in range(1_000):
                finish(async_def(outermost))
    finally:
        stop.set()
        looker.join()
        sys.setswitchinterval(interval)
    assert seen & {"outermost", "middle"}


def test_faulthandler_prints_a_running_functions_stack() -> None:
    def green() -> str:
        await_(suspend())
        with tempfile.TemporaryFile("w+") as file:
            faulthandler.dump_traceback(file, all_threads=True)
            file.seek(0)
            return file.read()

    assert "in green" in finish(async_def(green))


def test_locals_are_read_with_the_collector_running() -> None:
    import gc

    coros = [async_def(outermost) for _ in range(100)]
    frames = []
    for coro in coros:
        coro.send(None)
        frames.append(coro.cr_frame)
    gc.collect()
    for coro in coros[::2]:
        coro.close()
    gc.collect()
    for frame in frames:
        assert chain(frame)[0] == "innermost"
    for coro in coros[1::2]:
        coro.close()
