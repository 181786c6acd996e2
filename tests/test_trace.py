"""`verdigris.inspect.trace`: the file is what viewers of trace events read, and tells the truth."""

from __future__ import annotations

import asyncio
import errno
import itertools
import json
import subprocess
import sys
import threading
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import AsyncioLoop, Loop

from verdigris import async_def, await_, inspect, with_portal_run
from verdigris.green import time as green_time

Event = dict[str, Any]


def checked(path: Path) -> list[Event]:
    """Reads a trace, and checks it against the format."""
    events: list[Event] = json.loads(path.read_text(encoding="utf-8"))
    rows: dict[tuple[int, int], list[Event]] = defaultdict(list)
    named = set()
    for event in events:
        assert event["ph"] in ("M", "X", "i")
        row = event["pid"], event["tid"]
        assert all(isinstance(number, int) and 0 <= number < 1 << 32 for number in row)
        if event["ph"] == "M":
            assert event["name"] in ("thread_name", "process_name")
            assert isinstance(event["args"]["name"], str)
            named.add(row)
        elif event["ph"] == "X":
            assert isinstance(event["name"], str) and event["cat"] in ("runs", "waits")
            assert event["ts"] >= 0 and event["dur"] >= 0
            rows[row].append(event)
    assert set(rows) <= named, "a row has no name"
    for slices in rows.values():
        # What runs inside of another begins not before it and ends not after it.
        open_until: list[float] = []
        for event in sorted(slices, key=lambda event: (event["ts"], -event["dur"])):
            begin, end = event["ts"], round(event["ts"] + event["dur"], 3)
            # Both ends of a slice are rounded to nanoseconds by themselves.
            while open_until and open_until[-1] <= begin + 0.002:
                open_until.pop()
            assert not open_until or end <= open_until[-1] + 0.002, "slices overlap"
            open_until.append(end)
    return events


def row_named(events: list[Event], name: str) -> list[Event]:
    """The slices of one row, in the order they were written."""
    (number,) = {
        event["tid"]
        for event in events
        if event["name"] == "thread_name" and event["args"]["name"].startswith(name)
    }
    slices = [event for event in events if event["ph"] == "X" and event["tid"] == number]
    assert [event["ts"] for event in slices] == sorted(event["ts"] for event in slices)
    return slices


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "trace.json"


def waits_twice() -> None:
    green_time.sleep(0.001)
    green_time.sleep(0.001)


def test_a_function_runs_and_waits_in_turn(loop: Loop, path: Path) -> None:
    with inspect.trace(path):
        loop.run(async_def, waits_twice)
    slices = row_named(checked(path), "waits_twice (")
    assert [event["cat"] for event in slices] == ["runs", "waits", "runs", "waits", "runs"]
    assert {event["name"] for event in slices if event["cat"] == "runs"} == {"waits_twice"}
    assert all(event["name"].startswith("a timer") for event in slices if event["cat"] == "waits")
    # Nothing between two slices.
    for before, after in itertools.pairwise(slices):
        assert after["ts"] == pytest.approx(before["ts"] + before["dur"], abs=0.002)


def test_many_functions_each_have_a_row(loop: Loop, path: Path) -> None:
    async def main() -> None:
        async with loop.tasks() as start:
            for _ in range(20):
                start(lambda: async_def(waits_twice))

    with inspect.trace(path):
        loop.run(main)
    events = checked(path)
    rows = {event["tid"] for event in events if event.get("cat") == "waits"}
    assert len(rows) == 20


def test_a_thread_shows_what_runs_in_it(path: Path) -> None:
    with inspect.trace(path):
        thread = threading.Thread(
            target=asyncio.run, args=(async_def(waits_twice),), name="its own"
        )
        thread.start()
        thread.join()
    slices = row_named(checked(path), "its own")
    assert [event["name"] for event in slices] == ["waits_twice"] * 3


def test_a_function_inside_another_is_nested_in_the_threads_row(
    aio: AsyncioLoop, path: Path
) -> None:
    def inner() -> None: ...

    def outer() -> None:
        # Stepped by hand it has a stack of its own.
        with pytest.raises(StopIteration):
            async_def(inner).send(None)

    with inspect.trace(path):
        aio.run(async_def, outer)
    events = checked(path)
    name = threading.current_thread().name
    (row,) = {
        event["tid"]
        for event in events
        if event["name"] == "thread_name" and event["args"]["name"] == name
    }
    ran = [event for event in events if event["tid"] == row and event["ph"] == "X"]
    assert [event["name"].rpartition(".")[2] for event in ran] == ["inner", "outer"]


def test_a_task_that_has_a_portal_has_one_row(loop: Loop, path: Path) -> None:
    def in_sync_code() -> None:
        await_(loop.sleep(0.001))

    async def with_a_portal() -> None:
        await loop.sleep(0.001)
        in_sync_code()
        await loop.sleep(0.001)

    async def main() -> None:
        async with loop.tasks() as start:
            start(with_portal_run, with_a_portal)

    with inspect.trace(path):
        loop.run(main)
    events = checked(path)
    name = with_a_portal.__qualname__
    slices = row_named(events, name)
    kinds = [event["cat"] for event in slices]
    assert kinds[0] == kinds[-1] == "runs" and kinds.count("waits") >= 3
    waits = {event["name"] for event in slices if event["cat"] == "waits"}
    assert any("sleep" in words for words in waits), waits


def test_what_still_waits_is_drawn_up_to_the_end(aio: AsyncioLoop, path: Path) -> None:
    def fn() -> None:
        await_(asyncio.Event().wait())

    async def main() -> None:
        task = asyncio.create_task(async_def(fn))
        with inspect.trace(path):
            await asyncio.sleep(0.01)
        task.cancel()

    aio.run(main)
    assert [event["cat"] for event in row_named(checked(path), fn.__qualname__)] == [
        "runs",
        "waits",
    ]


def test_what_waited_before_is_seen_from_its_next_step(aio: AsyncioLoop, path: Path) -> None:
    go = asyncio.Event()

    def fn() -> None:
        await_(go.wait())
        green_time.sleep(0)

    async def main() -> None:
        task = asyncio.create_task(async_def(fn))
        await asyncio.sleep(0)
        with inspect.trace(path):
            go.set()
            await task

    aio.run(main)
    assert row_named(checked(path), fn.__qualname__)[0]["cat"] == "runs"


def test_more_than_is_written_at_once(aio: AsyncioLoop, path: Path) -> None:
    def fn() -> None:
        for _ in range(2000):
            await_(asyncio.sleep(0))

    with inspect.trace(path) as tracing:
        aio.run(async_def, fn)
        assert len(tracing._events) < 1000, "the events are kept"
        # Valid while it is being written, too.
        assert len(checked(path)) > 5000
    assert len(row_named(checked(path), fn.__qualname__)) == 4001


def test_names_with_odd_characters(aio: AsyncioLoop, path: Path) -> None:
    def fn() -> None:
        await_(asyncio.sleep(0))

    fn.__qualname__ = 'a "quoted"\n\\ name, \N{SNOWMAN}, \udc80'
    with inspect.trace(path):
        aio.run(async_def, fn)
    assert row_named(checked(path), fn.__qualname__)


def test_after_an_exception(loop: Loop, path: Path) -> None:
    def fails() -> None:
        await_(loop.checkpoint())
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), inspect.trace(path):
        loop.run(async_def, fails)
    assert row_named(checked(path), "test_after_an_exception.<locals>.fails")


def test_once_at_a_time(path: Path, tmp_path: Path) -> None:
    tracing = inspect.trace(path)
    with tracing:
        with pytest.raises(RuntimeError, match="already"):
            inspect.trace(tmp_path / "another.json").start()
        tracing.stop()
    tracing.stop()
    with tracing:  # anew
        pass
    checked(path)


def test_a_file_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        inspect.trace(tmp_path / "none" / "trace.json").start()
    with inspect.trace(tmp_path / "trace.json"):
        pass


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a full disk")
def test_a_full_disk() -> None:
    with pytest.raises(OSError, match="No space"):
        inspect.trace("/dev/full").start()


def test_a_disk_that_gets_full(
    aio: AsyncioLoop, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fn() -> int:
        for _ in range(2000):
            await_(asyncio.sleep(0))
        return 1

    def is_full(file: object, data: bytes) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    returned = []
    monkeypatch.setattr("verdigris.inspect._trace._write_all", is_full)
    with pytest.raises(OSError, match="No space"), inspect.trace(path):
        returned.append(aio.run(async_def, fn))
    assert returned == [1], "the program is not disturbed"
    monkeypatch.undo()
    with inspect.trace(path):
        pass  # the next one begins


PROGRAM = """
import asyncio, os, signal, sys
from verdigris import async_def, await_, inspect

def fn():
    for _ in range(1000):
        await_(asyncio.sleep(0))
    {end}

inspect.trace(sys.argv[1]).start()
asyncio.run(async_def(fn))
"""


@pytest.mark.parametrize(
    "end",
    [
        "pass",
        "sys.exit(0)",
        "raise ValueError",
        "os._exit(0)",
        "os.kill(os.getpid(), signal.SIGKILL)",
        "os.kill(os.getpid(), signal.SIGINT)",
    ],
)
def test_however_the_process_ends(end: str, path: Path) -> None:
    command = [sys.executable, "-c", PROGRAM.format(end=end), str(path)]
    subprocess.run(command, capture_output=True, timeout=60)
    assert len(row_named(checked(path), "fn ")) >= 512


def test_a_forked_child_writes_nothing(python: Callable[..., Any], path: Path) -> None:
    done = python(
        f"""
        import asyncio, os, warnings
        from verdigris import async_def, await_, inspect

        def fn():
            await_(asyncio.sleep(0))

        warnings.simplefilter("ignore")
        with inspect.trace({str(path)!r}):
            asyncio.run(async_def(fn))
            child = os.fork()
            if child == 0:
                asyncio.run(async_def(fn))
                os._exit(0)
            os.waitpid(child, 0)
        print("done")
        """
    )
    assert done.stdout == "done\n"
    assert len(row_named(checked(path), "fn (")) == 3


@pytest.mark.parametrize("loop_name", ["asyncio", "trio"])
def test_the_command(loop_name: str, path: Path, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "import threading, time\n"
        "thread = threading.Thread(target=time.sleep, args=(0.001,), name='a thread')\n"
        "thread.start(); thread.join()\n"
        "raise SystemExit(3)\n"
    )
    options = ["--trace", str(path), f"--loop={loop_name}"]
    done = subprocess.run(
        [sys.executable, "-m", "verdigris", *options, str(script)], capture_output=True, timeout=60
    )
    assert (done.returncode, done.stdout, done.stderr) == (3, b"", b"")
    waits = [event["name"] for event in checked(path) if event.get("cat") == "waits"]
    assert any(words.startswith("a timer") for words in waits)
    assert any(words.startswith("a lock") for words in waits)


def test_the_command_without_a_file(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "verdigris", "--trace"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2 and "usage" in done.stderr
    missing = str(tmp_path / "none" / "trace.json")
    done = subprocess.run(
        [*command, missing, "-c", "1"], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 2 and "the trace can't be written" in done.stderr
