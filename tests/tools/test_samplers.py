"""Tools that look into a process from outside, or that run a program under themselves."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import needs_callers, needs_native_stacks, python_path

PROGRAM = """
import asyncio, sys
from verdigris import async_def, await_, ensure_portal

def spins():
    print("ready", flush=True)
    while True:
        sum(range(100))

def runs_here():
    await_(asyncio.sleep(0.01))
    spins()

def waits_here():
    await_(asyncio.sleep(1000))

def waits_above():
    waits_here()

async def in_portal():
    await ensure_portal()
    waits_above()

async def drives():
    await async_def(runs_here)

async def main():
    tasks = [
        asyncio.create_task(async_def(waits_above), name="waits"),
        asyncio.create_task(in_portal(), name="waits in a portal"),
    ]
    if "wait" in sys.argv:
        async def says():
            print("ready", flush=True)
            await asyncio.sleep(1000)
        await says()
    await drives()

asyncio.run(main())
"""


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": python_path(), "PYTHON_COLORS": "0"}


def start(program: Path, *args: str) -> Iterator[int]:
    program.write_text(PROGRAM)
    process = subprocess.Popen(
        [sys.executable, str(program), *args], stdout=subprocess.PIPE, env=environment()
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        yield process.pid
    finally:
        process.kill()
        process.communicate()


@pytest.fixture
def spinning(tmp_path: Path) -> Iterator[int]:
    yield from start(tmp_path / "program.py")


@pytest.fixture
def waiting(tmp_path: Path) -> Iterator[int]:
    yield from start(tmp_path / "program.py", "wait")


def look(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment())
    if done.returncode != 0 and "ermission" in done.stdout + done.stderr:
        pytest.skip("this system does not let one process look into another")
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def in_order(text: str, *names: str) -> bool:
    at = 0
    for name in names:
        at = text.find(name, at)
        if at < 0:
            return False
        at += len(name)
    return True


def program_of(package: str) -> str:
    found = shutil.which(package, path=sysconfig.get_path("scripts")) or shutil.which(package)
    if found is None:
        pytest.skip(f"{package} is not installed")
    return found


@needs_callers
def test_py_spy_sees_a_running_function_down_to_the_loop(spinning: int) -> None:
    py_spy = program_of("py-spy")
    text = look(py_spy, "dump", "--pid", str(spinning))
    assert in_order(text, "spins", "runs_here", "drives", "main", "_run_once"), text


@pytest.mark.skipif(sys.version_info < (3, 14), reason="asyncio's ps came with Python 3.14")
def test_asyncio_lists_the_tasks_of_another_process(waiting: int) -> None:
    text = look(sys.executable, "-m", "asyncio", "pstree", str(waiting))
    assert "waits" in text and "waits in a portal" in text, text
    text = look(sys.executable, "-m", "asyncio", "ps", str(waiting))
    assert "waits" in text and "waits in a portal" in text, text


@pytest.mark.skipif(sys.version_info < (3, 15), reason="the sampler came with Python 3.15")
def test_the_sampling_profiler_sees_a_running_function_down_to_the_loop(spinning: int) -> None:
    sampling = (sys.executable, "-m", "profiling.sampling")
    text = look(*sampling, "dump", str(spinning))
    names = ["spins", "runs_here", "drives", "main", "_run_once"]
    assert in_order(text, *names) or in_order(text, *reversed(names)), text


# Its wheels are made for release builds of CPython.
needs_memray = pytest.mark.skipif(
    hasattr(sys, "gettotalrefcount"), reason="memray has no build for debug builds of CPython"
)

# Functions that wait in turns, each at another depth.
ALLOCATES = """
import asyncio
from verdigris import async_def, await_

def wait():
    await_(asyncio.sleep(0))

def allocates(size):
    held = []
    for _ in range(2):
        wait()
        held.append(bytearray(size))
    return held

def deeper(size):
    wait()
    return allocates(size)

def deepest(size):
    return deeper(size)

def others():
    for _ in range(5):
        wait()

async def main():
    return await asyncio.gather(
        async_def(deepest, 3_000_000), async_def(others),
        async_def(allocates, 4_000_000), async_def(others),
        async_def(deeper, 5_000_000),
    )

asyncio.run(main())
"""


@needs_memray
@needs_native_stacks
@pytest.mark.parametrize("options", [[], ["--native"], ["--trace-python-allocators"]])
def test_memray_knows_who_allocated(tmp_path: Path, options: list[str]) -> None:
    memray = pytest.importorskip("memray", reason="memray is not installed")
    program, results = tmp_path / "program.py", tmp_path / "results.bin"
    program.write_text(ALLOCATES)
    look(*(sys.executable, "-m", "memray", "run", "-q", *options, "-o", str(results), str(program)))
    seen = []
    for record in memray.FileReader(results).get_allocation_records():
        size = record.size // 1_000_000 * 1_000_000
        if record.size in range(size, size + 1_000) and 3_000_000 <= size <= 5_000_000:
            names = [name for name, file, _ in record.stack_trace() if file == str(program)]
            seen.append((size, *names))
    assert sorted(seen) == sorted(
        2
        * [
            (3_000_000, "allocates", "deeper", "deepest", "<module>"),
            (4_000_000, "allocates", "<module>"),
            (5_000_000, "allocates", "deeper", "<module>"),
        ]
    )
