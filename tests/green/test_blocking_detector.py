"""`detect_blocking`: it names the line that blocked the loop, and leaves nothing behind."""

from __future__ import annotations

import _thread
import asyncio
import contextlib
import ctypes
import gc
import logging
import os
import re
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from conftest import AsyncioLoop, Loop, TrioLoop, needs_callers, python_alone

import verdigris
from verdigris import Blockage, async_def, await_, detect_blocking
from verdigris._blocking_detector import detect_blocking_from_environment
from verdigris.green import _wait

pytestmark = [pytest.mark.one_loop_in_a_cell, python_alone]

THRESHOLD = 0.1
LONG = 0.3

Reports = list[Blockage]


@pytest.fixture
def reports() -> Reports:
    return []


@pytest.fixture(autouse=True)
def no_thread_stays() -> Iterator[None]:
    before = _thread._count()
    yield
    give_up = time.monotonic() + 10
    # The last thing that the guard does is to say that it has ended.
    while _thread._count() > before and time.monotonic() < give_up:
        time.sleep(0.001)
    assert _thread._count() <= before


def watched(loop: Loop, reports: Reports, body: Callable[[], Any]) -> None:
    """Calls `body` and awaits what it returns, in a block that is watched."""

    async def main() -> None:
        with detect_blocking(THRESHOLD, reports.append):
            awaitable = body()
            if awaitable is not None:
                await awaitable
            # The block goes on: the report must not need its end.
            for _ in range(100):
                if reports:
                    break
                await loop.sleep(0.01)

    loop.run(main)


def sleeps() -> None:
    time.sleep(LONG)  # the original


def busy() -> None:
    end = time.monotonic() + LONG
    while time.monotonic() < end:
        sum(range(100))


def holds_the_gil() -> None:
    USLEEP(int(LONG * 1_000_000))


# Called with the GIL held, as C extensions are.
USLEEP = ctypes.PyDLL(None).usleep


# --- what is named -----------------------------------------------------------


def test_a_blocking_call_in_a_coroutine_is_named(loop: Loop, reports: Reports) -> None:
    async def body() -> None:
        await loop.checkpoint()
        time.sleep(LONG)

    watched(loop, reports, body)
    (blockage,) = reports
    assert blockage.filename == __file__
    assert (blockage.line, blockage.function) == ("time.sleep(LONG)", "body")
    assert blockage.lineno == body.__code__.co_firstlineno + 2
    assert LONG - THRESHOLD / 4 <= blockage.seconds < LONG + 10
    assert blockage.stack[-1].lineno == blockage.lineno
    assert [frame for frame in blockage.stack if frame.line == "await awaitable"]


@needs_callers
@pytest.mark.parametrize(
    ("function", "line"),
    [
        (sleeps, "time.sleep"),
        (busy, "while time|sum"),
        (holds_the_gil, "USLEEP"),
    ],
)
def test_what_blocks_in_a_green_function_is_named(
    loop: Loop, reports: Reports, function: Callable[[], None], line: str
) -> None:
    def green() -> None:
        # Long enough for the loop to be idle in between.
        await_(loop.sleep(THRESHOLD / 4))
        function()

    watched(loop, reports, lambda: async_def(green))
    named = reports[0]
    assert named.function == function.__name__ and re.match(line, named.line), named
    names = [frame.name for frame in named.stack]
    # The frames go on into the loop that drives the function.
    assert names.index("main") < names.index("green") < names.index(function.__name__)


def test_a_busy_coroutine_is_named(loop: Loop, reports: Reports) -> None:
    watched(loop, reports, busy)
    assert reports[0].function == "busy"


def test_the_one_of_several_lines_that_took_longest(loop: Loop, reports: Reports) -> None:
    def body() -> None:
        time.sleep(0.1)
        time.sleep(0.6)  # this
        time.sleep(0.1)

    watched(loop, reports, body)
    assert [blockage.line for blockage in reports] == ["time.sleep(0.6)  # this"]


def test_the_stdlib_is_passed_over(loop: Loop, reports: Reports) -> None:
    def body() -> None:
        threading.Event().wait(LONG)

    watched(loop, reports, body)
    assert [blockage.line for blockage in reports] == ["threading.Event().wait(LONG)"]
    assert reports[0].stack[-1].filename == threading.__file__


@pytest.mark.parametrize(
    ("filename", "is_passed_over"),
    [
        ("{stdlib}/made_up.py", True),
        ("<frozen made_up>", True),
        ("{verdigris}/green/made_up.py", True),
        ("{trio}/made_up.py", True),
        ("{stdlib}/site-packages/made_up.py", False),
        ("/elsewhere/made_up.py", False),
    ],
)
def test_whose_lines_are_passed_over(
    trio_loop: TrioLoop, reports: Reports, filename: str, is_passed_over: bool
) -> None:
    filename = filename.format(
        stdlib=os.path.dirname(os.__file__),
        verdigris=os.path.dirname(verdigris.__file__),
        trio=os.path.dirname(trio_loop.trio.__file__),
    )
    namespace: dict[str, Any] = {"sleeps": time.sleep}
    exec(compile("def made_up(length): sleeps(length)", filename, "exec"), namespace)

    def body() -> None:
        namespace["made_up"](LONG)

    watched(trio_loop, reports, body)
    named = "body" if is_passed_over else "made_up"
    assert [blockage.function for blockage in reports] == [named]


def test_another_task_than_the_one_that_watches(loop: Loop, reports: Reports) -> None:
    async def other() -> str:
        sleeps()
        task: Any = loop.current_task()
        return str(task.name if loop.name == "trio" else task.get_name())

    async def main() -> str:
        with detect_blocking(THRESHOLD, reports.append):
            async with loop.tasks() as start:
                background = start(other)
        return str(background.outcome.value)

    name = loop.run(main)
    assert [(blockage.function, blockage.task) for blockage in reports] == [("sleeps", name)]


def test_a_callback_is_named_and_has_no_task(aio: AsyncioLoop, reports: Reports) -> None:
    def body() -> None:
        asyncio.get_running_loop().call_soon(sleeps)

    watched(aio, reports, body)
    assert [(blockage.function, blockage.task) for blockage in reports] == [("sleeps", None)]


def test_a_line_outside_of_the_loop_is_the_last_resort(aio: AsyncioLoop, reports: Reports) -> None:
    """A callback in C has no frame; what is seen then is the program that runs the loop."""

    async def body() -> None:
        await asyncio.sleep(THRESHOLD / 2)
        asyncio.get_running_loop().call_soon(time.sleep, 2 * LONG)
        asyncio.get_running_loop().call_soon(sleeps)

    watched(aio, reports, body)
    assert [blockage.function for blockage in reports] == ["sleeps"]


# --- what is not reported ----------------------------------------------------


def test_another_thread_that_holds_the_gil(loop: Loop, reports: Reports) -> None:
    async def main() -> None:
        with detect_blocking(THRESHOLD, reports.append):
            await loop.sleep(THRESHOLD / 2)
            timer.start()
            await loop.sleep(3 * LONG)  # idle well before and after

    timer = threading.Timer(LONG, holds_the_gil)
    loop.run(main)
    timer.join()
    assert reports == []


def test_waits_are_not_reported(loop: Loop, reports: Reports) -> None:
    """Green ones and the loop's own: an idle loop is not blocked."""

    async def main() -> None:
        with detect_blocking(2 * THRESHOLD, reports.append):
            await async_def(_wait.sleep, 5 * THRESHOLD)
            await loop.sleep(5 * THRESHOLD)

    loop.run(main)
    assert reports == []


def test_short_calls_are_not_reported(loop: Loop, reports: Reports) -> None:
    async def main() -> None:
        with detect_blocking(5, reports.append):
            for _ in range(5):
                time.sleep(0.02)
                await loop.checkpoint()

    loop.run(main)
    assert reports == []


def test_what_blocks_before_and_after_the_block(loop: Loop, reports: Reports) -> None:
    async def main() -> None:
        sleeps()
        with detect_blocking(THRESHOLD, reports.append):
            await loop.sleep(0)
        sleeps()
        await loop.sleep(0.01)

    loop.run(main)
    assert reports == []


def test_the_time_between_two_runs_of_a_loop(aio: AsyncioLoop, reports: Reports) -> None:
    detector = detect_blocking(THRESHOLD, reports.append)

    def begins() -> None:
        detector.__enter__()
        loop.stop()
        time.sleep(THRESHOLD / 2)  # the question comes, and has to wait for the second run

    def ends() -> None:
        detector.__exit__(None, None, None)
        loop.stop()

    with contextlib.closing((aio.loop_factory or asyncio.new_event_loop)()) as loop:
        loop.call_soon(begins)
        loop.run_forever()
        sleeps()
        loop.call_later(0.01, ends)
        loop.run_forever()
    assert reports == []


# --- reports -----------------------------------------------------------------


def test_two_blockages_are_two_reports(loop: Loop, reports: Reports) -> None:
    async def main() -> None:
        with detect_blocking(THRESHOLD, reports.append):
            sleeps()
            await loop.sleep(THRESHOLD)
            busy()
            await loop.sleep(THRESHOLD)

    loop.run(main)
    assert [blockage.function for blockage in reports] == ["sleeps", "busy"]


def test_by_default_it_is_logged(loop: Loop, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        with detect_blocking(THRESHOLD):
            sleeps()
            await loop.sleep(THRESHOLD)

    loop.run(main)
    (record,) = caplog.records
    assert (record.name, record.levelno) == ("verdigris", logging.WARNING)
    assert f"{__file__}:{sleeps.__code__.co_firstlineno + 1}, in sleeps" in record.message
    assert record.thread == threading.get_ident()


def test_a_report_that_fails_is_logged_and_the_next_one_comes(
    loop: Loop, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(blockage: Blockage) -> None:
        raise LookupError(blockage.function)

    async def main() -> None:
        with detect_blocking(THRESHOLD, fails):
            for _ in range(2):
                sleeps()
                await loop.sleep(THRESHOLD)

    loop.run(main)
    errors = [record.exc_info and record.exc_info[1] for record in caplog.records]
    assert [repr(error) for error in errors] == ["LookupError('sleeps')"] * 2


# --- a blockage that lasts ------------------------------------------------------


class Live:
    """Reports, and a call that blocks until so many of them have come."""

    def __init__(self, count: int = 1) -> None:
        self.reports: Reports = []
        self.threads: list[int] = []
        self._count = count
        self._enough = threading.Event()

    def __call__(self, blockage: Blockage) -> None:
        self.reports.append(blockage)
        self.threads.append(threading.get_ident())
        if len(self.reports) == self._count:
            self._enough.set()

    def blocks(self) -> None:
        assert self._enough.wait(30), "no report came while the loop was blocked"


def test_a_blockage_is_reported_while_it_lasts(loop: Loop) -> None:
    live = Live()

    def in_green_code() -> None:
        live.blocks()

    async def main() -> None:
        with detect_blocking(0.05, live, live=0.1):
            await async_def(in_green_code)
            await loop.sleep(0.01)

    loop.run(main)
    first, last = live.reports
    assert (first.lasts, last.lasts) == (True, False)
    assert live.threads[0] != threading.get_ident() == live.threads[1]
    assert first.function == "blocks" and first.line.startswith("assert self._enough.wait")
    functions = [frame.name for frame in first.stack]
    # Down to where it is now, which is in the stdlib.
    assert functions.index("in_green_code") < functions.index("blocks") < functions.index("wait")
    assert first.seconds >= 0.1
    assert "seconds, and still is, by " in str(first)
    assert "still is" not in str(last)


def test_the_line_that_blocks_now(loop: Loop) -> None:
    live = Live()

    async def main() -> None:
        with detect_blocking(0.05, live, live=0.5):
            time.sleep(0.3)
            live.blocks()
            await loop.sleep(0.01)

    loop.run(main)
    assert live.reports[0].function == "blocks"


def test_it_is_reported_again_when_it_has_doubled(loop: Loop) -> None:
    live = Live(3)

    async def main() -> None:
        with detect_blocking(0.05, live, live=0.05):
            live.blocks()
            await loop.sleep(0.01)

    loop.run(main)
    assert [blockage.lasts for blockage in live.reports] == [True, True, True, False]
    times = [blockage.seconds for blockage in live.reports]
    assert times[1] >= 2 * times[0] and times[2] >= 2 * times[1]


def test_a_report_may_wait_for_the_one_who_leaves_the_block(loop: Loop) -> None:
    begun, left, over = threading.Event(), threading.Event(), threading.Event()

    def report(blockage: Blockage) -> None:
        if blockage.lasts:
            begun.set()
            assert left.wait(30)
            over.set()

    async def main() -> None:
        with detect_blocking(0.05, report, live=0.05):
            assert begun.wait(30)
        left.set()

    loop.run(main)
    assert over.wait(30)


def test_a_live_report_that_fails_is_logged(loop: Loop, caplog: pytest.LogCaptureFixture) -> None:
    live = Live()

    def fails(blockage: Blockage) -> None:
        live(blockage)
        raise LookupError(blockage.lasts)

    async def main() -> None:
        with detect_blocking(0.05, fails, live=0.05):
            live.blocks()
            await loop.sleep(0.01)

    loop.run(main)
    errors = [record.exc_info and record.exc_info[1] for record in caplog.records]
    assert repr(errors[0]) == "LookupError(True)" and repr(errors[-1]) == "LookupError(False)"


def test_it_is_logged_by_default_but_not_reported(
    loop: Loop, reports: Reports, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, logger="verdigris")
    seen = threading.Event()

    class Seen(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if "still is" in record.getMessage():
                seen.set()

    handler = Seen()
    logging.getLogger("verdigris").addHandler(handler)

    async def main() -> None:
        with detect_blocking(0.02), detect_blocking(0.02, reports.append):
            assert seen.wait(30)
            await loop.sleep(0.01)

    try:
        loop.run(main)
    finally:
        logging.getLogger("verdigris").removeHandler(handler)
    assert [blockage.lasts for blockage in reports] == [False]


@pytest.mark.parametrize(
    ("live", "error"), [("1", TypeError), (True, TypeError), (0.05, ValueError), (-1, ValueError)]
)
def test_live_must_be_a_time_from_the_threshold_on(live: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match=r"detect_blocking\(\) needs `live`"):
        detect_blocking(0.1, live=live)


# --- how a block is entered and left -----------------------------------------


def test_a_block_that_is_left_while_blocked(loop: Loop, reports: Reports) -> None:
    async def main() -> None:
        with detect_blocking(THRESHOLD, reports.append):
            sleeps()
            raise KeyError("left")

    with pytest.raises(KeyError, match="left"):
        loop.run(main)
    assert [blockage.function for blockage in reports] == ["sleeps"]


def test_a_block_that_is_cancelled(loop: Loop, reports: Reports) -> None:
    async def child() -> None:
        with detect_blocking(THRESHOLD, reports.append):
            await loop.sleep(1000)

    async def main() -> bool:
        async with loop.tasks() as start:
            background = start(child)
            await loop.sleep(0.01)
            background.cancel()
        sleeps()
        return background.outcome.cancelled

    assert loop.run(main) is True
    assert reports == []


def test_in_a_green_function(loop: Loop, reports: Reports) -> None:
    def green() -> None:
        with detect_blocking(THRESHOLD, reports.append):
            _wait.sleep(0.01)
            sleeps()
            _wait.sleep(0.01)

    loop.run(lambda: async_def(green))
    assert [blockage.function for blockage in reports] == ["sleeps"]


@pytest.mark.parametrize("is_one_object", [True, False])
def test_entered_twice(loop: Loop, reports: Reports, is_one_object: bool) -> None:
    async def main() -> None:
        outer = detect_blocking(THRESHOLD, reports.append)
        inner = outer if is_one_object else detect_blocking(THRESHOLD, reports.append)
        with outer:
            with inner:
                sleeps()
                await loop.sleep(THRESHOLD)
            busy()
            await loop.sleep(THRESHOLD)

    loop.run(main)
    assert [blockage.function for blockage in reports] == ["sleeps", "sleeps", "busy"]


@pytest.mark.parametrize("outside", ["asyncio", "trio"])
def test_a_loop_inside_a_task_of_another(reports: Reports, outside: str) -> None:
    """Each block watches the loop nearest to it; the outer one stands still meanwhile."""
    loops: dict[str, Loop] = {"asyncio": AsyncioLoop(), "trio": TrioLoop()}
    outer_loop = loops.pop(outside)
    (inner_loop,) = loops.values()
    of_inner: Reports = []

    async def inner() -> None:
        with detect_blocking(THRESHOLD, of_inner.append):
            await inner_loop.sleep(LONG)
            sleeps()
            await inner_loop.sleep(0.05)

    async def outer() -> None:
        with detect_blocking(THRESHOLD, reports.append):
            inner_loop.run(inner)  # the outer loop waits here
            await outer_loop.sleep(0.05)

    outer_loop.run(outer)
    assert [blockage.function for blockage in of_inner] == ["sleeps"]
    assert len(reports) == 1 and reports[0].seconds > 2 * LONG - THRESHOLD


def test_loops_in_two_threads(loop: Loop) -> None:
    blocked: Reports = []
    idle: Reports = []
    # One object, entered on both.
    detector = detect_blocking(THRESHOLD, lambda b: found[threading.get_ident()].append(b))
    found = {}

    async def main(works: Callable[[], None]) -> None:
        with detector:
            works()
            await loop.sleep(LONG)

    def other() -> None:
        found[threading.get_ident()] = idle
        loop.run(main, int)

    found[threading.get_ident()] = blocked
    thread = threading.Thread(target=other)
    thread.start()
    loop.run(main, sleeps)
    thread.join()
    assert [blockage.function for blockage in blocked] == ["sleeps"]
    assert idle == []


def test_an_idle_loop_is_not_woken(aio: AsyncioLoop) -> None:
    async def main() -> int:
        detector: Any = detect_blocking(THRESHOLD / 4)
        answers: list[Any] = []
        with detector:
            await asyncio.sleep(THRESHOLD)
            (watch,) = detector._watches
            answer = watch._answer

            def counted(turn: Any) -> None:
                answers.append(turn)
                answer(turn)

            watch._answer = counted
            await asyncio.sleep(4 * THRESHOLD)
            del watch._answer
        return len(answers)

    # One may come at either end of the wait. If each look woke it, these would be 128.
    assert aio.run(main) < 10


def test_a_clock_by_hand_jumps_as_without(trio_loop: TrioLoop, reports: Reports) -> None:
    trio = trio_loop.trio
    testing = pytest.importorskip("trio.testing")

    async def main() -> float:
        before: float = trio.current_time()
        with detect_blocking(THRESHOLD, reports.append):
            await trio.sleep(1000)
            sleeps()
            await trio.sleep(1000)
        return float(trio.current_time() - before)

    # A jump needs a quiet time that is longer than the threshold.
    clock = testing.MockClock(autojump_threshold=2 * THRESHOLD)
    assert trio.run(main, clock=clock) == pytest.approx(2000, abs=1)
    assert [blockage.function for blockage in reports] == ["sleeps"]


# --- what is left behind -----------------------------------------------------


def test_nothing_is_left_in_the_loop(aio: AsyncioLoop) -> None:
    async def main() -> list[Any]:
        loop = asyncio.get_running_loop()
        detector = detect_blocking(THRESHOLD, print)
        with detector:
            await asyncio.sleep(THRESHOLD)
            time.sleep(THRESHOLD / 2)  # a question is on its way
            watch = weakref.ref(detector._watches[0])  # type: ignore[attr-defined]
        gc.collect()
        return [watch(), len(asyncio.all_tasks(loop)), *getattr(loop, "_scheduled", [])]

    assert aio.run(main) == [None, 1]


def test_nothing_is_left_in_trio(trio_loop: TrioLoop) -> None:
    trio = trio_loop.trio

    async def main() -> tuple[int, int]:
        tasks = trio.lowlevel.current_statistics().tasks_living
        with detect_blocking(THRESHOLD):
            await trio.sleep(THRESHOLD)
            within = trio.lowlevel.current_statistics().tasks_living
        instruments = trio._core._run.GLOBAL_RUN_CONTEXT.runner.instruments
        return within - tasks, sum(map(len, instruments.values()))

    assert trio.run(main) == (0, 0)


def test_a_block_that_outlives_its_loop(loop: Loop, reports: Reports) -> None:
    # What the run itself takes must be less, on a machine with much to do.
    threshold = 0.2
    detector = detect_blocking(threshold, reports.append)

    async def main() -> None:
        detector.__enter__()

    before = _thread._count()
    loop.run(main)
    gc.collect()
    give_up = time.monotonic() + 10
    while _thread._count() > before and time.monotonic() < give_up:
        time.sleep(0.005)
    assert _thread._count() == before, "the guard must end with the loop"
    time.sleep(threshold)
    detector.__exit__(None, None, None)
    assert reports == []


def test_frames_of_a_blockage_are_let_go(loop: Loop, reports: Reports) -> None:
    class Held:
        pass

    held: list[weakref.ref[Held]] = []

    def body() -> None:
        thing = Held()
        held.append(weakref.ref(thing))
        sleeps()

    watched(loop, reports, body)
    assert len(reports) == 1 and held[0]() is None


# --- patched modules, forks, the command -------------------------------------

PATCHED = """
    import _thread, asyncio, sys, threading, time
    from verdigris import detect_blocking

    sleep = time.sleep
    # From 3.14 on, asyncio makes an RLock for each call from another thread.
    rlock = ["RLock"] if sys.version_info < (3, 14) else []

    def refuses(*args, **kwargs):
        raise AssertionError("a patched function was used")

    def patch():
        for module, names in [
            (_thread, ["start_new_thread", "allocate_lock", "get_ident"]),
            (threading, ["Thread", "Lock", *rlock, "Event", "Condition"]),
            (time, ["sleep"]),
        ]:
            for name in names:
                setattr(module, name, refuses)

    async def main():
        with detect_blocking():
            pass  # it imports what it needs
        if {before}:
            patch()
        with detect_blocking(0.1, report=lambda blockage: print(blockage.function)):
            if not {before}:
                patch()
            sleep(0.3)
            await asyncio.sleep(0.05)
            print("end")

    asyncio.run(main())
"""


@pytest.mark.parametrize("before", [True, False])
def test_modules_that_are_patched(python: Callable[..., Any], before: bool) -> None:
    assert python(PATCHED.format(before=before)).stdout == "main\nend\n"


def test_a_fork_within_the_block(python: Callable[..., Any]) -> None:
    done = python(
        """
        import asyncio, os, sys, time
        from verdigris import detect_blocking

        async def main():
            with detect_blocking(0.1, report=lambda blockage: print("reported", flush=True)):
                child = os.fork()
                time.sleep(0.3)
            return child

        child = asyncio.run(main())
        if child:
            sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        """,
        options=("-W", "ignore::DeprecationWarning"),  # there is a second thread
    )
    assert done.stdout == "reported\n"


@pytest.mark.parametrize("value", [None, "", " "])
def test_the_environment_asks_for_nothing(value: str | None) -> None:
    environment = {} if value is None else {"VERDIGRIS_DETECT_BLOCKING": value}
    found = detect_blocking_from_environment(environment)
    assert isinstance(found, contextlib.nullcontext)


def test_the_environment_asks_for_a_threshold(loop: Loop, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        with detect_blocking_from_environment({"VERDIGRIS_DETECT_BLOCKING": "0.1"}):
            sleeps()

    loop.run(main)
    assert "in sleeps" in caplog.text


@pytest.mark.parametrize("value", ["yes", "0", "-1", "nan", "inf"])
def test_the_environment_is_wrong(value: str) -> None:
    with pytest.raises(ValueError, match=r"VERDIGRIS_DETECT_BLOCKING='.*such as 0\.1"):
        detect_blocking_from_environment({"VERDIGRIS_DETECT_BLOCKING": value})


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (("1",), TypeError),
        ((None,), TypeError),
        ((True,), TypeError),
        ((0,), ValueError),
        ((-1,), ValueError),
        ((float("nan"),), ValueError),
        ((float("inf"),), ValueError),
        ((1, "print"), TypeError),
    ],
)
def test_wrong_arguments(arguments: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match=r"detect_blocking\(\) needs"):
        detect_blocking(*arguments)


def test_without_a_loop() -> None:
    with pytest.raises(RuntimeError, match=r"asyncio\.run"), detect_blocking():
        pass


def test_a_source_that_is_in_no_file(loop: Loop, reports: Reports) -> None:
    namespace: dict[str, Any] = {"time": time}
    exec(compile("def body():\n    time.sleep(0.3)", "<made up>", "exec"), namespace)
    watched(loop, reports, namespace["body"])
    (blockage,) = reports
    assert (blockage.filename, blockage.lineno, blockage.line) == ("<made up>", 2, "")
    assert "(no source)" in str(blockage)
